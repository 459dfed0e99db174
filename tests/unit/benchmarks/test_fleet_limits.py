"""The model of benchmarks/fleet_limits.py stands on the code's own constants."""

import json

import yaml

from benchmarks import fleet_limits as model
from chalicelib.aws import cloudwatch_fleet as fleet
from chalicelib.collect.fan_out import INLINE_CHUNKS
from tests.conftest import ROOT, load_template

CPU = model.Cpu(instance=0.0004, listed=0.000005, query=0.0006)


def test_the_models_limits_are_the_codes() -> None:
    assert model.METRIC_DATA_QUERIES == fleet._QUERIES
    assert fleet._INSTANCES <= model.DESCRIBE_PAGE_MOST
    stage = json.loads((ROOT / ".chalice" / "config.json").read_text())
    assert stage["environment_variables"]["CHUNK_TARGETS"] == str(model.CHUNK)
    assert stage["lambda_timeout"] == model.LAMBDA_SECONDS


def test_the_models_concurrency_is_the_state_machines() -> None:
    overlay = load_template(ROOT / "infra" / "overlay.yaml")
    text = yaml.dump(overlay["Resources"]["Orchestrator"])
    assert text.count(f"MaxConcurrency: {model.MAP_CONCURRENCY}\n") == 2


def test_the_dearest_host_is_asked_for_all_its_series() -> None:
    assert model.series(1) == 15
    assert model.chunks_of(2_000) == 10


def test_the_state_stops_growing_where_chunks_leave_it() -> None:
    most = model.CHUNK * INLINE_CHUNKS
    assert model.payload_bytes(100_000) < model.payload_bytes(most) < model.PAYLOAD_BYTES
    assert model.history_events(100_000) < model.HISTORY_EVENTS


def test_ten_thousand_hosts_break_nothing_but_the_budget() -> None:
    broken = {each.name for each in model.standings(10_000, CPU) if each.share > 1}
    assert broken == {"MAX_SERIES_PER_RUN, biggest type"}


def test_the_first_limit_to_break_is_named() -> None:
    hosts, name = model.first_break(CPU)
    assert 10_000 < hosts < 100_000
    assert name in {each.name for each in model.standings(hosts, CPU)}


def test_one_host_breaks_no_limit_and_the_nearest_comes_first() -> None:
    shares = [each.share for each in model.standings(1, CPU)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] < 1
