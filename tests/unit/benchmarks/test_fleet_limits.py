"""Constants of benchmarks/fleet_limits.py match the product's, and its results are plausible."""

import json

import yaml

from benchmarks import fleet_limits as model
from chalicelib.aws import cloudwatch_fleet as fleet
from chalicelib.collect.fan_out import INLINE_CHUNKS
from tests.conftest import ROOT, load_template

CPU = model.ParsingCpu(instance=0.0004, listed=0.000005, query=0.0006)


def test_limits_match_the_code() -> None:
    assert model.METRIC_DATA_QUERIES == fleet._QUERIES
    assert fleet._INSTANCES <= model.MAX_DESCRIBE_PAGE
    stage = json.loads((ROOT / ".chalice" / "config.json").read_text())
    assert stage["environment_variables"]["CHUNK_TARGETS"] == str(model.CHUNK)
    assert stage["lambda_timeout"] == model.LAMBDA_SECONDS


def test_concurrency_matches_the_state_machine() -> None:
    overlay = load_template(ROOT / "infra" / "overlay.yaml")
    text = yaml.dump(overlay["Resources"]["Orchestrator"])
    assert text.count(f"MaxConcurrency: {model.MAP_CONCURRENCY}\n") == 2


def test_number_of_requested_metrics() -> None:
    assert model.requested_metrics(1) == 15
    assert model.chunks_of(2_000) == 10


def test_state_is_smaller_when_chunks_are_in_a_manifest() -> None:
    max_inline = model.CHUNK * INLINE_CHUNKS
    assert model.payload_bytes(100_000) < model.payload_bytes(max_inline) < model.PAYLOAD_BYTES
    assert model.history_events(100_000) < model.HISTORY_EVENTS


def test_ten_thousand_hosts_exceed_only_the_budget() -> None:
    exceeded = {each.name for each in model.limit_usages(10_000, CPU) if each.share > 1}
    assert exceeded == {"MAX_SERIES_PER_RUN, largest type"}


def test_first_exceeded_limit() -> None:
    hosts, name = model.first_exceeded(CPU)
    assert 10_000 < hosts < 100_000
    assert name in {each.name for each in model.limit_usages(hosts, CPU)}


def test_one_host_exceeds_no_limit_and_usages_are_sorted() -> None:
    shares = [each.share for each in model.limit_usages(1, CPU)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] < 1
