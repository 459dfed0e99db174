"""What the local cloud makes metrics of: log lines, and answers of DynamoDB that throttle."""

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


def test_a_line_holds_its_metrics() -> None:
    (found,) = parse_line(line([1, 2.5]), NOW)
    assert (found.namespace, found.name, found.unit) == ("Test", "Errors", "Count")
    assert (found.dimensions, found.values, found.at) == ({"service": "x"}, [1, 2.5], NOW)


def test_each_set_of_dimensions_is_a_metric_of_its_own() -> None:
    found = parse_line(line(Dimensions=[[], ["service"]]), NOW)
    assert [each.dimensions for each in found] == [{}, {"service": "x"}]


@pytest.mark.parametrize("other", ["START RequestId: 1", "", '{"message": "collected"}', "[1]"])
def test_other_lines_hold_none(other: str) -> None:
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
def test_cloudwatch_takes_no_such_line(bad: str) -> None:
    with pytest.raises(EmbeddedMetricError):
        parse_line(bad, NOW)


def test_a_line_that_is_not_taken_is_counted_as_cloudwatch_counts_it() -> None:
    metric_index.install()
    metrics = Metrics(CloudWatchBackend(REGION, ACCOUNT))
    began = datetime.now(UTC)
    ServiceMetrics(metrics, Clock()).record_log_lines(
        "/aws/lambda/x", ['{"_aws": {}}', line(at=began), "END"]
    )
    start = began - timedelta(seconds=1)
    asked: dict[str, Any] = {"start": start, "period": 60, "periods": 1}
    group = {"LogGroupName": "/aws/lambda/x"}
    bad = metrics.statistic("AWS/Logs", "EMFValidationErrors", group, "Sum", **asked)
    good = metrics.statistic("Test", "Errors", {"service": "x"}, "Sum", **asked)
    assert (bad, good) == ([1], [1])


# --- Throttles --------------------------------------------------------------------------------

TABLE = {"TableName": "InfraMetrics"}
INDEX = {**TABLE, "GlobalSecondaryIndexName": "by-type"}
ITEMS: dict[str, Any] = {"RequestItems": {"InfraMetrics": [{}, {}, {}]}}


def refusal(code: str, *resources: str) -> bytes:
    reasons = [{"reason": "any", "resource": resource} for resource in resources]
    kind = f"com.amazonaws.dynamodb.v20120810#{code}"
    return json.dumps({"__type": kind, "ThrottlingReasons": reasons}).encode()


def told(operation: str, request: dict[str, Any], status: int, answer: bytes) -> list[Any]:
    target = f"DynamoDB_20120810.{operation}"
    return list(throttles(target, json.dumps(request).encode(), status, answer))


@pytest.mark.parametrize(
    "code",
    ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"],
)
def test_a_refused_write_is_a_throttled_request_and_an_event_of_its_table(code: str) -> None:
    assert told("PutItem", TABLE, 400, refusal(code)) == [
        ("ThrottledRequests", {**TABLE, "Operation": "PutItem"}, 1),
        ("WriteThrottleEvents", TABLE, 1),
    ]


def test_a_refused_batch_has_an_event_for_each_item() -> None:
    answer = refusal("ThrottlingException")
    assert told("BatchWriteItem", ITEMS, 400, answer)[1] == ("WriteThrottleEvents", TABLE, 3)


def test_a_read_is_a_read() -> None:
    assert told("Query", TABLE, 400, refusal("ThrottlingException"))[1][0] == "ReadThrottleEvents"


def test_what_an_index_refused_is_an_event_of_the_index() -> None:
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/InfraMetrics/index/by-type"
    answer = refusal("ProvisionedThroughputExceededException", arn)
    assert told("PutItem", TABLE, 400, answer)[1:] == [("WriteThrottleEvents", INDEX, 1)]


def test_what_a_batch_gives_back_are_events_alone() -> None:
    written = json.dumps({"UnprocessedItems": {"InfraMetrics": [{}, {}]}}).encode()
    assert told("BatchWriteItem", ITEMS, 200, written) == [("WriteThrottleEvents", TABLE, 2)]
    read = json.dumps({"UnprocessedKeys": {"InfraMetrics": {"Keys": [{}]}}}).encode()
    assert told("BatchGetItem", ITEMS, 200, read) == [("ReadThrottleEvents", TABLE, 1)]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"{}"),
        (400, refusal("ConditionalCheckFailedException")),
        (500, b"<html>"),
        (500, b""),
    ],
)
def test_another_answer_is_no_throttle(status: int, answer: bytes) -> None:
    assert told("PutItem", TABLE, status, answer) == []


def test_what_happens_after_the_clock_was_moved_happens_later() -> None:
    machine, clock = datetime.now(UTC), Clock()
    clock.set(machine + timedelta(hours=3))
    assert clock.when(datetime.now(UTC)) >= machine + timedelta(hours=3)


def test_a_time_that_data_brings_stays_whatever_the_clock_says() -> None:
    window_end = datetime.now(UTC) - timedelta(hours=1)
    assert Clock(window_end - timedelta(days=9)).when(window_end) == window_end
