"""The two stored formats: DynamoDB items, and lines for Athena."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer
from msgspec.structs import replace

from chalicelib.model.enrichment import Enriched, enrich
from chalicelib.model.items import (
    enriched_item,
    precedence,
    previous_from_item,
    previous_key,
    raw_item,
)
from chalicelib.process.processed_lines import lines, partition
from tests.conftest import ROOT, SETTINGS, WINDOW_END, load_template, make_record, point

# Words that Athena reserves in DDL or SELECT statements and that could be column names.
RESERVED = set(
    """
    all alter and array as between bigint boolean by case cast char column create cross cube current
    current_date current_time current_timestamp database date deallocate decimal delete describe
    distinct double drop else end escape except execute exists external extract false float for
    from full function grant group grouping having if in inner insert int interval intersect into
    is join last left like local localtime localtimestamp map max min more natural normalize not
    null of on or order outer partition prepare range right rollup row rows select set skip smallint
    start table then timestamp to true uescape union unnest update user using values varchar when
    where with
    """.split()
)


def enriched(**changes: Any) -> Enriched:
    return enrich(
        make_record(**changes),
        None,
        settings=SETTINGS,
        source_object="s3://data/raw-metrics/x.json",
        stored_at=WINDOW_END,
        now=WINDOW_END + timedelta(seconds=5),
    )


def plain(item: dict[str, Any]) -> dict[str, Any]:
    """The values of an item, read with boto3's deserializer."""
    deserialize = TypeDeserializer().deserialize
    return {name: deserialize(value) for name, value in item.items()}


def test_a_raw_item_has_the_required_attributes_and_expires() -> None:
    item = plain(raw_item(make_record(), retention_days=90))
    assert item["timestamp"] == "2026-11-22T18:00:00Z"
    assert item["metric_type"] == "cpu"
    assert item["region"] == "eu-west-1"
    assert item["measurements"]["utilization"]["last"] == 42
    assert item["expires_at"] == int((WINDOW_END + timedelta(days=90)).timestamp())
    assert "processed_at" not in item


def test_an_enriched_item_includes_the_raw_item() -> None:
    record = make_record()
    raw = plain(raw_item(record, retention_days=90))
    item = plain(enriched_item(enriched(), retention_days=90))
    assert raw.items() <= item.items()
    assert item["status"] == "ok"
    assert item["processed_at"] == "2026-11-22T18:00:05.000Z"


def test_precedence_with_equal_reading_times_is_by_storage_time_then_by_name() -> None:
    def of(name: str, seconds: int) -> tuple[str, str]:
        stored_at = WINDOW_END + timedelta(seconds=seconds)
        stored = replace(enriched(collected_at=WINDOW_END), source_object=name, stored_at=stored_at)
        return precedence(enriched_item(stored, retention_days=90))

    assert of("s3://a", 0) < of("s3://z", 0) < of("s3://a", 1)


@pytest.mark.parametrize("value", [0.0, 1e-300, 0.1, 1e30, 123456789.123, None])
def test_every_value_of_a_record_fits_into_an_item(value: float | None) -> None:
    record = make_record(measurements={"load_average": point("count", value)})
    stored = plain(raw_item(record, retention_days=1))["measurements"]["load_average"]["last"]
    assert (stored is None) if value is None else float(stored) == pytest.approx(value, abs=1e-99)


def test_previous_values_are_read_from_an_item() -> None:
    record = make_record(collected_at=WINDOW_END)
    previous = previous_from_item(raw_item(record, retention_days=90))
    assert previous.timestamp == record.timestamp
    assert previous.collected_at == record.collected_at
    assert previous.measurements == record.measurements


def test_the_key_of_the_previous_window_is_computed() -> None:
    earlier = make_record(timestamp=WINDOW_END - timedelta(hours=3))
    key = previous_key(make_record())
    assert key is not None
    assert plain(key) == {
        "metric_id": str(earlier.metric_id),
        "timestamp": "2026-11-22T15:00:00Z",
    }


def test_each_measurement_has_a_line() -> None:
    measurements = {"utilization": point("percent", 95), "load_average": point("count", 1)}
    found = [json.loads(line) for line in lines(enriched(measurements=measurements))]
    assert [(line["measurement"], line["value_last"], line["status"]) for line in found] == [
        ("utilization", 95.0, "critical"),
        ("load_average", 1.0, "ok"),
    ]


def test_the_partition_is_the_day_of_the_window_end() -> None:
    assert partition(enriched()) == "2026-11-22"


def catalog_columns() -> dict[str, str]:
    """Name and type of each column in infra/storage.yaml, including the partition key."""
    template = load_template(ROOT / "infra" / "storage.yaml")
    table = template["Resources"]["MetricsHistory"]["Properties"]["TableInput"]
    columns = [*table["StorageDescriptor"]["Columns"], *table["PartitionKeys"]]
    return {each["Name"]: each["Type"] for each in columns}


def test_lines_have_exactly_the_columns_of_the_athena_table() -> None:
    (line,) = lines(enriched())
    assert set(json.loads(line)) | {"dt"} == set(catalog_columns())


def test_no_column_is_a_reserved_word() -> None:
    assert not RESERVED & set(catalog_columns())


def test_timestamps_have_the_format_of_athenas_serde() -> None:
    (line,) = lines(enriched())
    timestamps = [name for name, kind in catalog_columns().items() if kind == "timestamp"]
    for name in timestamps:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", json.loads(line)[name])
