"""GetMetricData: limits, pages, throttling and partial data."""

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from chalicelib.aws.cloudwatch_fleet import AwsFleet
from chalicelib.collect.sources.cloudwatch import Points, Query
from chalicelib.collect.sources.protocol import CloudWatchMetric
from chalicelib.model.errors import StorageError
from tests.conftest import ACCOUNT, REGION

START = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
END = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
OPERATION = "get_metric_data"


class StubbedCloudWatch:
    """A fleet with scripted CloudWatch responses, its requests, and its waits."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        client = boto3.client("cloudwatch")
        self.stubber = Stubber(client)
        self.stubber.activate()
        self.requests: list[list[str]] = []  # the query IDs of each
        client.meta.events.register_first("before-parameter-build.cloudwatch", self._add_request)
        self.fleet = AwsFleet(
            boto3.Session(),
            ACCOUNT,
            REGION,
            "web",
            tags={},
            clients={"cloudwatch": client}.__getitem__,
            sleep=self.waits.append,
        )

    def _add_request(self, params: dict[str, Any], **_: Any) -> None:
        self.requests.append([query["Id"] for query in params["MetricDataQueries"]])

    def add_response(self, *results: dict[str, Any], token: str = "", **expected: Any) -> None:
        """The response to the next request; `expected` are required request parameters."""
        response: dict[str, Any] = {"MetricDataResults": list(results)}
        parameters = dict.fromkeys(("MetricDataQueries", "StartTime", "EndTime", "ScanBy"), ANY)
        if token:
            response["NextToken"] = token
        self.stubber.add_response(OPERATION, response, parameters | expected)

    def add_error(self, code: str) -> None:
        self.stubber.add_client_error(OPERATION, code, "slow down")

    def points(self, count: int) -> Points:
        found = self.fleet.points(queries(count), start=START, end=END, period=300)
        self.stubber.assert_no_pending_responses()
        return found


@pytest.fixture
def cloudwatch() -> StubbedCloudWatch:
    return StubbedCloudWatch()


def queries(count: int) -> list[Query]:
    return [
        Query(CloudWatchMetric("AWS/EC2", "CPUUtilization", (("InstanceId", f"i-{n}"),)), "Average")
        for n in range(count)
    ]


def result(query_id: str, *minutes: int, status: str = "Complete") -> dict[str, Any]:
    """A query's result: at each minute of the window a point whose value is the minute."""
    return {
        "Id": query_id,
        "StatusCode": status,
        "Timestamps": [START + timedelta(minutes=each) for each in minutes],
        "Values": [float(each) for each in minutes],
    }


def values(points: Points, number: int) -> list[float]:
    return [value for _, value in points.get(queries(number + 1)[number], ())]


def test_no_queries_make_no_request(cloudwatch: StubbedCloudWatch) -> None:
    assert cloudwatch.points(0) == {}


def test_a_request_has_at_most_500_queries(cloudwatch: StubbedCloudWatch) -> None:
    for size in (500, 500, 1):
        cloudwatch.add_response(*(result(f"q{n}", 5) for n in range(size)))
    cloudwatch.points(1001)
    assert [len(query_ids) for query_ids in cloudwatch.requests] == [500, 500, 1]


def test_each_query_of_each_batch_gets_its_own_points(cloudwatch: StubbedCloudWatch) -> None:
    cloudwatch.add_response(*(result(f"q{n}", 5) for n in range(500)))
    cloudwatch.add_response(result("q0", 10))
    found = cloudwatch.points(501)
    assert (values(found, 0), values(found, 500)) == ([5], [10])


def test_pages_are_joined_in_time_order(cloudwatch: StubbedCloudWatch) -> None:
    cloudwatch.add_response(result("q0", 10, 15, status="PartialData"), token="more")
    cloudwatch.add_response(result("q0", 0, 5), NextToken="more")
    assert values(cloudwatch.points(1), 0) == [0, 5, 10, 15]


def test_only_partial_queries_are_repeated(cloudwatch: StubbedCloudWatch) -> None:
    cloudwatch.add_response(result("q0", 0), result("q1", 0, status="PartialData"))
    cloudwatch.add_response(result("q1", 0, 5))
    assert values(cloudwatch.points(2), 1) == [0, 5]
    assert cloudwatch.requests == [["q0", "q1"], ["q1"]]


def test_the_error_counts_the_queries_that_stay_partial(cloudwatch: StubbedCloudWatch) -> None:
    for _ in range(5):
        partial = [result(f"q{n}", 0, status="PartialData") for n in (1, 2)]
        cloudwatch.add_response(result("q0", 0), *partial)
    with pytest.raises(StorageError, match="PartialData: 2 of 3 queries stay partial"):
        cloudwatch.points(3)


def test_there_is_no_wait_after_the_last_attempt(cloudwatch: StubbedCloudWatch) -> None:
    for _ in range(5):
        cloudwatch.add_response(result("q0", 0, status="PartialData"))
    with pytest.raises(StorageError):
        cloudwatch.points(1)
    assert len(cloudwatch.waits) == 4


def test_too_many_pages_are_an_error(cloudwatch: StubbedCloudWatch) -> None:
    cloudwatch.add_response(result("q0", 0), token="again")
    for _ in range(19):
        cloudwatch.add_response(result("q0", 0), token="again", NextToken="again")
    with pytest.raises(StorageError, match="TooManyPages"):
        cloudwatch.points(1)


@pytest.mark.parametrize("code", ["Throttling", "ThrottlingException"])
def test_a_throttled_request_is_retried(cloudwatch: StubbedCloudWatch, code: str) -> None:
    cloudwatch.add_error(code)
    cloudwatch.add_response(result("q0", 5))
    assert values(cloudwatch.points(1), 0) == [5]


def test_waits_grow_with_each_attempt(cloudwatch: StubbedCloudWatch) -> None:
    for _ in range(4):
        cloudwatch.add_error("Throttling")
    cloudwatch.add_response(result("q0", 5))
    cloudwatch.points(1)
    limits = (0.2, 0.4, 0.8, 1.6)
    assert all(0 <= wait <= most for wait, most in zip(cloudwatch.waits, limits, strict=True))


def test_continued_throttling_is_an_error(cloudwatch: StubbedCloudWatch) -> None:
    for _ in range(5):
        cloudwatch.add_error("Throttling")
    with pytest.raises(StorageError, match="Throttling: slow down"):
        cloudwatch.points(1)


def test_denied_access_is_an_error_without_a_retry(cloudwatch: StubbedCloudWatch) -> None:
    cloudwatch.add_error("AccessDenied")
    with pytest.raises(StorageError, match="AccessDenied"):
        cloudwatch.points(1)
    assert cloudwatch.waits == []


def test_the_request_has_the_start_and_end_of_the_window(cloudwatch: StubbedCloudWatch) -> None:
    cloudwatch.add_response(result("q0", 0, 175), StartTime=START, EndTime=END)
    assert values(cloudwatch.points(1), 0) == [0, 175]


def test_points_outside_the_window_are_left_out(cloudwatch: StubbedCloudWatch) -> None:
    cloudwatch.add_response(result("q0", -5, 0, 175, 180))
    assert values(cloudwatch.points(1), 0) == [0, 175]
