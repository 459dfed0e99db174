"""Helpers for API tests: a moto table with its index, filled with enriched items."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import boto3
import yaml
from chalice.test import Client
from jsonschema import Draft202012Validator, FormatChecker
from moto import mock_aws

from chalicelib.model.dynamodb import Item
from chalicelib.model.enrichment import enrich
from chalicelib.model.items import enriched_item
from chalicelib.model.metric_types import MetricType
from chalicelib.model.records import Measurement, Record
from tests.conftest import ROOT, SETTINGS, make_record, point

TABLE = "InfraMetrics"
WINDOW = timedelta(hours=3)


def last_scheduled_time() -> datetime:
    """The schedule's most recent time. Items stored relative to it have not expired."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return hour - timedelta(hours=hour.hour % 3)


@cache
def openapi() -> dict[str, Any]:
    """The document docs/openapi.yaml."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
    return document


def item_of(record: Record, *, retention_days: int = 90) -> Item:
    """The DynamoDB item that the processor stores for a record."""
    enriched = enrich(
        record,
        None,
        settings=SETTINGS,
        source_object="raw-metrics/2026/11/22/a.json",
        stored_at=record.timestamp,
        now=record.timestamp,
    )
    return enriched_item(enriched, retention_days=retention_days)


_MEASUREMENTS: dict[MetricType, str] = {
    "cpu": "utilization",
    "memory": "percent",
    "disk": "percent",
}


def window_measurement(value: float, unit: str = "percent") -> Measurement:
    """Statistics of a complete window around a value."""
    return Measurement(
        unit=unit,  # type: ignore[arg-type]  # a Unit
        last=value,
        avg=value,
        min=value / 2,
        max=value * 1.1,
        p95=value,
        samples=36,
        breach_seconds=0.0 if value < 80 else 600.0,
    )


def records_of(
    host: str, end: datetime, value: float = 42.0, types: Iterable[str] = ()
) -> list[Record]:
    """One record of each metric type for a host and a window; `types` restricts them."""
    percentages = {
        name: make_record(
            metric_type=name,
            resource_id=host,
            timestamp=end,
            labels={"name": f"name of {host}"},
            measurements={measurement: window_measurement(value)},
        )
        for name, measurement in _MEASUREMENTS.items()
    }
    rates = {
        "bytes_sent": point("bytes", 10_000.0),
        "bytes_sent_rate": point("bytes_per_second", 100.0),
        "bytes_received_rate": point("bytes_per_second", 50.0),
    }
    network = make_record(
        metric_type="network", resource_id=host, timestamp=end, measurements=rates
    )
    return [
        record
        for name, record in [*percentages.items(), ("network", network)]
        if name in types or not types
    ]


class Table:
    """The table of infra/storage.yaml, with its index."""

    def __init__(self, dynamodb: Any = None) -> None:
        self.dynamodb = dynamodb or boto3.client("dynamodb")
        self.dynamodb.create_table(
            TableName=TABLE,
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"}
                for name in ("metric_id", "metric_type", "timestamp")
            ],
            KeySchema=_keys("metric_id"),
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "metric_type-timestamp-index",
                    "KeySchema": _keys("metric_type"),
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )

    def put(self, records: Iterable[Record], **changes: Any) -> None:
        """Store enriched items; of two with the same key, the last one."""
        items = [item_of(record, **changes) for record in records]
        latest = {(item["metric_id"]["S"], item["timestamp"]["S"]): item for item in items}
        requests: list[Any] = [{"PutRequest": {"Item": item}} for item in latest.values()]
        for start in range(0, len(requests), 25):
            self.dynamodb.batch_write_item(RequestItems={TABLE: requests[start : start + 25]})


def _keys(name: str) -> Any:
    return [
        {"AttributeName": name, "KeyType": "HASH"},
        {"AttributeName": "timestamp", "KeyType": "RANGE"},
    ]


@contextmanager
def moto_table() -> Iterator[Table]:
    with mock_aws():
        yield Table()


def get(client: Client, path: str) -> tuple[int, Any]:
    """Status code and decoded body."""
    response = client.http.get(path)
    return response.status_code, json.loads(response.body)


def assert_conforms(document: Any, schema: str) -> None:
    """Fail unless the document matches a schema of docs/openapi.yaml."""
    resolver = {"$ref": f"#/components/schemas/{schema}", "components": openapi()["components"]}
    Draft202012Validator(resolver, format_checker=FormatChecker()).validate(document)
