"""Records: identity, JSON and validation."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.model import records
from chalicelib.model.errors import InvalidRecordError
from chalicelib.model.windows import Window
from tests.conftest import make_record

DOCUMENT: dict[str, Any] = {
    "schema_version": 1,
    "timestamp": "2026-11-22T18:00:00Z",
    "metric_type": "cpu",
    "resource_id": "web-1",
    "window_seconds": 300,
    "measurements": {"utilization": {"unit": "percent", "last": 42}},
}


def decode(**changes: Any) -> records.Record:
    return records.decode(json.dumps(DOCUMENT | changes).encode())


def test_a_record_is_unchanged_by_encoding_and_decoding() -> None:
    record = make_record(labels={"team": "web"}, collected_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert records.decode(records.encode(record)) == record


def test_metric_id_is_a_uuid5_of_account_region_host_metric_type_and_window() -> None:
    record = make_record()
    assert record.metric_id is not None
    assert record.metric_id.version == 5
    assert record.metric_id == make_record(execution_id="another run").metric_id


@pytest.mark.parametrize(
    "change",
    [
        {"account_id": "210987654321"},
        {"region": "us-east-1"},
        {"resource_id": "web-2"},
        {"metric_type": "memory"},
        {"timestamp": datetime(2026, 11, 22, 18, 5, tzinfo=UTC)},
        {"window_seconds": 300},
    ],
)
def test_each_identifying_field_changes_the_metric_id(change: dict[str, Any]) -> None:
    assert make_record(**change).metric_id != make_record().metric_id


def test_the_metric_id_does_not_change_between_releases() -> None:
    """A changed namespace or name would give every stored record a second metric_id."""
    metric_id = records.metric_id(
        account_id="123456789012",
        region="eu-west-1",
        resource_id="web-1",
        metric_type="cpu",
        window=Window(datetime(2026, 11, 22, 18, tzinfo=UTC), 10_800),
    )
    assert metric_id == uuid.UUID("a2a111f5-af32-5a8f-8add-eac3ba4a9ad6")


def test_a_single_sample_is_every_statistic() -> None:
    measurement = decode().measurements["utilization"]
    assert {measurement.avg, measurement.min, measurement.max, measurement.p95} == {42.0}


def test_a_missing_statistic_of_several_samples_stays_unknown() -> None:
    record = decode(measurements={"utilization": {"unit": "percent", "last": 42, "samples": 36}})
    assert record.measurements["utilization"].avg is None


def test_timestamps_become_utc_in_whole_seconds() -> None:
    record = decode(timestamp="2026-11-22T20:00:00.750+02:00")
    assert record.timestamp == datetime(2026, 11, 22, 18, tzinfo=UTC)
    assert b'"timestamp":"2026-11-22T18:00:00Z"' in records.encode(record)


def test_an_external_record_gets_account_region_and_metric_id() -> None:
    record = decode().identified(account_id="123456789012", region="eu-west-1")
    assert (record.account_id, record.region, record.source) == (
        "123456789012",
        "eu-west-1",
        "external",
    )
    assert record.metric_id is not None


def test_the_metric_id_of_an_external_record_is_kept() -> None:
    sent = uuid.uuid4()
    assert decode(metric_id=str(sent)).identified(account_id="1", region="r").metric_id == sent


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": "2026-11-22T18:00:00"}, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "the year 1 "),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "the year 9999"),
        ({"collected_at": "0999-01-01T00:00:00Z"}, "the year 999"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {"x": "y" * 200_000}}, "longer than"),
        ({"measurements": {"a": {"unit": "count", "last": 1, "samples": 2**60}}}, "samples"),
        ({"metric_type": "gpu"}, "metric_type"),
        ({"metric_id": "no-uuid"}, "metric_id"),
        ({"resource_id": ""}, "resource_id"),
        ({"window_seconds": -1}, "window_seconds"),
        ({"measurements": {}}, "measurements"),
        ({"measurements": {"used": {"unit": "bytes", "last": -1}}}, "last"),
        ({"measurements": {"used": {"unit": "furlongs", "last": 1}}}, "unit"),
        ({"measurements": {"used": {"unit": "bytes", "last": 1e300}}}, "last"),
        ({"measurements": {"used": 1}}, "measurements"),
    ],
)
def test_an_invalid_record_is_rejected_with_the_field_or_reason(
    change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidRecordError, match=reason):
        decode(**change)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_other_content_than_a_json_object_is_rejected(content: bytes) -> None:
    with pytest.raises(InvalidRecordError):
        records.decode(content)
