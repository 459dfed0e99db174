"""GetMetricData: its limits, its pages, and a service that does not do what it should."""

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


class Stubbed:
    """A fleet whose CloudWatch gives scripted answers, and the waits that it made."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        client = boto3.client("cloudwatch")
        self.stubber = Stubber(client)
        self.stubber.activate()
        self.asked: list[list[str]] = []
        client.meta.events.register_first("before-parameter-build.cloudwatch", self._note)
        self.fleet = AwsFleet(
            boto3.Session(),
            ACCOUNT,
            REGION,
            "web",
            tags={},
            clients={"cloudwatch": client}.__getitem__,
            sleep=self.waits.append,
        )

    def _note(self, params: dict[str, Any], **_: Any) -> None:
        self.asked.append([query["Id"] for query in params["MetricDataQueries"]])

    def answers(self, *results: dict[str, Any], token: str = "", **expected: Any) -> None:
        """Say these results next; `expected` are parameters that the request has to have."""
        answer: dict[str, Any] = {"MetricDataResults": list(results)}
        wanted = dict.fromkeys(("MetricDataQueries", "StartTime", "EndTime", "ScanBy"), ANY)
        if token:
            answer["NextToken"] = token
        self.stubber.add_response(OPERATION, answer, wanted | expected)

    def refuses(self, code: str) -> None:
        self.stubber.add_client_error(OPERATION, code, "slow down")

    def points(self, count: int) -> Points:
        found = self.fleet.points(queries(count), start=START, end=END, period=300)
        self.stubber.assert_no_pending_responses()
        return found


@pytest.fixture
def cloudwatch() -> Stubbed:
    return Stubbed()


def queries(count: int) -> list[Query]:
    return [
        Query(CloudWatchMetric("AWS/EC2", "CPUUtilization", (("InstanceId", f"i-{n}"),)), "Average")
        for n in range(count)
    ]


def result(identity: str, *minutes: int, state: str = "Complete") -> dict[str, Any]:
    """A point at each of these minutes of the window; its value is the minute."""
    return {
        "Id": identity,
        "StatusCode": state,
        "Timestamps": [START + timedelta(minutes=each) for each in minutes],
        "Values": [float(each) for each in minutes],
    }


def values(points: Points, number: int) -> list[float]:
    return [value for _, value in points.get(queries(number + 1)[number], ())]


def test_no_queries_are_no_request(cloudwatch: Stubbed) -> None:
    assert cloudwatch.points(0) == {}


def test_a_request_has_500_queries_at_most(cloudwatch: Stubbed) -> None:
    for size in (500, 500, 1):
        cloudwatch.answers(*(result(f"q{n}", 5) for n in range(size)))
    cloudwatch.points(1001)
    assert [len(asked) for asked in cloudwatch.asked] == [500, 500, 1]


def test_each_query_of_each_batch_has_its_own_points(cloudwatch: Stubbed) -> None:
    cloudwatch.answers(*(result(f"q{n}", 5) for n in range(500)))
    cloudwatch.answers(result("q0", 10))
    found = cloudwatch.points(501)
    assert (values(found, 0), values(found, 500)) == ([5], [10])


def test_pages_are_joined_in_order_of_time(cloudwatch: Stubbed) -> None:
    cloudwatch.answers(result("q0", 10, 15, state="PartialData"), token="more")
    cloudwatch.answers(result("q0", 0, 5), NextToken="more")
    assert values(cloudwatch.points(1), 0) == [0, 5, 10, 15]


def test_only_what_is_partial_is_asked_for_again(cloudwatch: Stubbed) -> None:
    cloudwatch.answers(result("q0", 0), result("q1", 0, state="PartialData"))
    cloudwatch.answers(result("q1", 0, 5))
    assert values(cloudwatch.points(2), 1) == [0, 5]
    assert cloudwatch.asked == [["q0", "q1"], ["q1"]]


def test_data_that_stays_partial_is_an_error_that_counts_the_queries(cloudwatch: Stubbed) -> None:
    for _ in range(5):
        partial = [result(f"q{n}", 0, state="PartialData") for n in (1, 2)]
        cloudwatch.answers(result("q0", 0), *partial)
    with pytest.raises(StorageError, match="PartialData: 2 of 3 queries stay partial"):
        cloudwatch.points(3)


def test_nothing_is_waited_for_after_the_last_attempt(cloudwatch: Stubbed) -> None:
    for _ in range(5):
        cloudwatch.answers(result("q0", 0, state="PartialData"))
    with pytest.raises(StorageError):
        cloudwatch.points(1)
    assert len(cloudwatch.waits) == 4


def test_pages_without_end_are_an_error(cloudwatch: Stubbed) -> None:
    cloudwatch.answers(result("q0", 0), token="again")
    for _ in range(19):
        cloudwatch.answers(result("q0", 0), token="again", NextToken="again")
    with pytest.raises(StorageError, match="TooManyPages"):
        cloudwatch.points(1)


@pytest.mark.parametrize("code", ["Throttling", "ThrottlingException"])
def test_a_throttled_request_is_made_again(cloudwatch: Stubbed, code: str) -> None:
    cloudwatch.refuses(code)
    cloudwatch.answers(result("q0", 5))
    assert values(cloudwatch.points(1), 0) == [5]


def test_waits_grow_from_one_attempt_to_the_next(cloudwatch: Stubbed) -> None:
    for _ in range(4):
        cloudwatch.refuses("Throttling")
    cloudwatch.answers(result("q0", 5))
    cloudwatch.points(1)
    limits = (0.2, 0.4, 0.8, 1.6)
    assert all(0 <= wait <= most for wait, most in zip(cloudwatch.waits, limits, strict=True))


def test_throttling_that_does_not_end_is_raised(cloudwatch: Stubbed) -> None:
    for _ in range(5):
        cloudwatch.refuses("Throttling")
    with pytest.raises(StorageError, match="Throttling: slow down"):
        cloudwatch.points(1)


def test_a_refusal_is_raised_at_once(cloudwatch: Stubbed) -> None:
    cloudwatch.refuses("AccessDenied")
    with pytest.raises(StorageError, match="AccessDenied"):
        cloudwatch.points(1)
    assert cloudwatch.waits == []


def test_the_window_is_asked_for_as_it_is(cloudwatch: Stubbed) -> None:
    cloudwatch.answers(result("q0", 0, 175), StartTime=START, EndTime=END)
    assert values(cloudwatch.points(1), 0) == [0, 175]


def test_points_outside_of_the_window_are_left_out(cloudwatch: Stubbed) -> None:
    cloudwatch.answers(result("q0", -5, 0, 175, 180))
    assert values(cloudwatch.points(1), 0) == [0, 175]
