"""Metrics from log lines in EMF and from DynamoDB responses with throttles."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.cloudwatch.models import CloudWatchBackend

from infra.local.cloudwatch import metric_index
from infra.local.cloudwatch.clock import Clock
from infra.local.cloudwatch.embedded_metrics import EmbeddedMetricError, parse_line
from infra.local.cloudwatch.metrics import Metrics
from infra.local.cloudwatch.service_metrics import ServiceMetrics, throttles
from tests.conftest import ACCOUNT, REGION

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def line(values: Any = 1.0, *, at: datetime = NOW, **changes: Any) -> str:
    directive = {
        "Namespace": "Test",
        "Dimensions": [["service"]],
        "Metrics": [{"Name": "Errors", "Unit": "Count"}],
    }
    document = {
        "_aws": {
            "Timestamp": int(at.timestamp() * 1000),
            "CloudWatchMetrics": [directive | changes],
        },
        "service": "x",
        "Errors": values,
    }
    return json.dumps(document)


def test_a_line_in_emf_has_metrics() -> None:
    (found,) = parse_line(line([1, 2.5]), NOW)
    assert (found.namespace, found.name, found.unit) == ("Test", "Errors", "Count")
    assert (found.dimensions, found.values, found.at) == ({"service": "x"}, [1, 2.5], NOW)


def test_each_set_of_dimensions_is_a_separate_metric() -> None:
    found = parse_line(line(Dimensions=[[], ["service"]]), NOW)
    assert [each.dimensions for each in found] == [{}, {"service": "x"}]


@pytest.mark.parametrize("other", ["START RequestId: 1", "", '{"message": "collected"}', "[1]"])
def test_other_lines_have_no_metrics(other: str) -> None:
    assert parse_line(other, NOW) == []


@pytest.mark.parametrize(
    "bad",
    [
        line([float("nan")]),
        line([float("inf")]),
        line(list(range(101))),
        line([]),
        line("1"),
        line([True]),
        line(Metrics=[{"Name": f"m{number}"} for number in range(101)]),
        line(Dimensions=[["unknown"]]),
        line(Namespace=""),
        line(at=NOW - timedelta(days=15)),
        line(at=NOW + timedelta(hours=3)),
        '{"_aws": {}}',
        '{"_aws": ',
    ],
)
def test_an_invalid_line_is_rejected(bad: str) -> None:
    with pytest.raises(EmbeddedMetricError):
        parse_line(bad, NOW)


def test_an_invalid_line_counts_as_a_validation_error() -> None:
    metric_index.install()
    metrics = Metrics(CloudWatchBackend(REGION, ACCOUNT))
    started = datetime.now(UTC)
    ServiceMetrics(metrics, Clock()).record_log_lines(
        "/aws/lambda/x", ['{"_aws": {}}', line(at=started), "END"]
    )
    start = started - timedelta(seconds=1)
    period: dict[str, Any] = {"start": start, "period": 3600, "periods": 1}
    group = {"LogGroupName": "/aws/lambda/x"}
    bad = metrics.statistic("AWS/Logs", "EMFValidationErrors", group, "Sum", **period)
    good = metrics.statistic("Test", "Errors", {"service": "x"}, "Sum", **period)
    assert (bad, good) == ([1], [1])


# --- Throttles --------------------------------------------------------------------------------

TABLE = {"TableName": "InfraMetrics"}
INDEX = {**TABLE, "GlobalSecondaryIndexName": "by-type"}
ITEMS: dict[str, Any] = {"RequestItems": {"InfraMetrics": [{}, {}, {}]}}


def error_response(code: str, *resources: str) -> bytes:
    reasons = [{"reason": "any", "resource": resource} for resource in resources]
    kind = f"com.amazonaws.dynamodb.v20120810#{code}"
    return json.dumps({"__type": kind, "ThrottlingReasons": reasons}).encode()


def throttles_of(
    operation: str, request: dict[str, Any], status: int, response: bytes
) -> list[Any]:
    target = f"DynamoDB_20120810.{operation}"
    return list(throttles(target, json.dumps(request).encode(), status, response))


@pytest.mark.parametrize(
    "code",
    ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"],
)
def test_a_throttled_write_counts_as_a_request_and_as_an_event_of_its_table(code: str) -> None:
    assert throttles_of("PutItem", TABLE, 400, error_response(code)) == [
        ("ThrottledRequests", {**TABLE, "Operation": "PutItem"}, 1),
        ("WriteThrottleEvents", TABLE, 1),
    ]


def test_a_throttled_batch_counts_as_an_event_for_each_item() -> None:
    response = error_response("ThrottlingException")
    assert throttles_of("BatchWriteItem", ITEMS, 400, response)[1] == (
        "WriteThrottleEvents",
        TABLE,
        3,
    )


def test_a_throttled_read_counts_as_a_read_event() -> None:
    assert (
        throttles_of("Query", TABLE, 400, error_response("ThrottlingException"))[1][0]
        == "ReadThrottleEvents"
    )


def test_a_throttled_index_counts_as_an_event_of_the_index() -> None:
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/InfraMetrics/index/by-type"
    response = error_response("ProvisionedThroughputExceededException", arn)
    assert throttles_of("PutItem", TABLE, 400, response)[1:] == [("WriteThrottleEvents", INDEX, 1)]


def test_unprocessed_items_count_as_events_only() -> None:
    written = json.dumps({"UnprocessedItems": {"InfraMetrics": [{}, {}]}}).encode()
    assert throttles_of("BatchWriteItem", ITEMS, 200, written) == [
        ("WriteThrottleEvents", TABLE, 2)
    ]
    read = json.dumps({"UnprocessedKeys": {"InfraMetrics": {"Keys": [{}]}}}).encode()
    assert throttles_of("BatchGetItem", ITEMS, 200, read) == [("ReadThrottleEvents", TABLE, 1)]


@pytest.mark.parametrize(
    ("status", "response"),
    [
        (200, b"{}"),
        (400, error_response("ConditionalCheckFailedException")),
        (500, b"<html>"),
        (500, b""),
    ],
)
def test_any_other_response_is_not_a_throttle(status: int, response: bytes) -> None:
    assert throttles_of("PutItem", TABLE, status, response) == []


def test_system_time_is_shifted_after_the_clock_was_set() -> None:
    now, clock = datetime.now(UTC), Clock()
    clock.set(now + timedelta(hours=3))
    assert clock.from_system_time(datetime.now(UTC)) >= now + timedelta(hours=3)


def test_a_time_before_the_clock_was_created_is_not_shifted() -> None:
    window_end = datetime.now(UTC) - timedelta(hours=1)
    assert Clock(window_end - timedelta(days=9)).from_system_time(window_end) == window_end
