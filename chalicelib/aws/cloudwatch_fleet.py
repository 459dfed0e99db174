"""EC2 and CloudWatch of one account and region: implements `sources.cloudwatch.Fleet`."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3

from ..collect.sources.cloudwatch import Points, Query
from ..collect.sources.inventory import Instance
from ..collect.sources.protocol import CloudWatchMetric, Scope
from ..model.errors import StorageError
from ..model.settings import Role, Settings
from .clients import Clients
from .errors import translated
from .retry import back_off

# Limits of one GetMetricData request.
_QUERIES = 500

# AWS returns up to 1,000 instances a page, and botocore keeps both the XML and the parsed page in
# memory. A page of 2,000 exceeded the 128 MB of a function; pages of 200 peak at 89 MB.
_INSTANCES = 200

_POINTS = 100_800  # the most in one response

# Pages can hold fewer points than allowed. More than this many times the pages that the points
# need means that the service returns tokens without end.
_MAX_PAGES_FACTOR = 20
_ATTEMPTS = 5
_FIRST_SECONDS = 0.2

# Credentials of an assumed role are renewed this long before they expire: longer than an
# invocation takes.
_RENEW_BEFORE = timedelta(minutes=5)

Credentials = Mapping[str, str]

# Empty: clients use the function's own credentials.
_OWN: Credentials = {}

_THROTTLED = frozenset({"Throttling", "ThrottlingException", "LimitExceededException"})


def fleet_opener(settings: Settings) -> "Callable[[Scope], tuple[list[AwsFleet], list[str]]]":
    """A function that opens every account and region of the settings and reports failures."""
    # One session for all, because each one keeps a copy of EC2's large service model.
    session = boto3.Session()
    assumed = _AssumedRoles(session, settings.external_id)
    opened: dict[tuple[str, str], tuple[Credentials, AwsFleet]] = {}

    def open_fleets(scope: Scope) -> "tuple[list[AwsFleet], list[str]]":
        fleets: list[AwsFleet] = []
        failures: list[str] = []
        for role in settings.roles or (None,):
            try:
                credentials = _OWN if role is None else assumed.credentials(role)
            except StorageError as error:
                failures.append(str(error))
                continue
            account = scope.account_id if role is None else role.account_id
            name = account if role is None else role.name
            for region in settings.regions or (scope.region,):
                key = (account, region)
                if key not in opened or opened[key][0] is not credentials:
                    tags = settings.ec2_tags
                    fleet = AwsFleet(
                        session, account, region, name, tags=tags, credentials=credentials
                    )
                    opened[key] = (credentials, fleet)
                fleets.append(opened[key][1])
        return fleets, failures

    return open_fleets


class _AssumedRoles:
    """The credentials of each role, cached until shortly before they expire."""

    def __init__(self, session: boto3.Session, external_id: str) -> None:
        self._session = session
        self._external_id = external_id
        self._kept: dict[str, tuple[datetime, Credentials]] = {}

    def credentials(self, role: Role) -> Credentials:
        """The credentials of a role; the same object until they are renewed."""
        expires, credentials = self._kept.get(role.arn, (datetime.min.replace(tzinfo=UTC), {}))
        if datetime.now(UTC) + _RENEW_BEFORE < expires:
            return credentials
        request = {"RoleArn": role.arn, "RoleSessionName": "infra-monitoring"}
        if self._external_id:
            request["ExternalId"] = self._external_id
        with translated("assume role", role.arn):
            response = Clients(self._session)("sts").assume_role(**request)
        issued = response["Credentials"]
        credentials = {
            "aws_access_key_id": issued["AccessKeyId"],
            "aws_secret_access_key": issued["SecretAccessKey"],
            "aws_session_token": issued["SessionToken"],
        }
        self._kept[role.arn] = (issued["Expiration"], credentials)
        return credentials


class AwsFleet:
    """See `sources.cloudwatch.Fleet`."""

    def __init__(
        self,
        session: boto3.Session,
        account_id: str,
        region: str,
        account_name: str,
        *,
        tags: Mapping[str, str],
        credentials: Credentials = _OWN,
        clients: Callable[[str], Any] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.account_id = account_id
        self.region = region
        self.account_name = account_name
        self._client = clients or Clients(session, region_name=region, **credentials)
        self._tags = tags
        self._sleep = sleep

    def instances(self, page_token: str, limit: int) -> tuple[list[Instance], str]:
        filters = [{"Name": "instance-state-name", "Values": ["running"]}]
        filters += [
            {"Name": f"tag:{name}", "Values": [value]} for name, value in self._tags.items()
        ]
        request: dict[str, Any] = {"Filters": filters, "MaxResults": _INSTANCES}
        found: list[Instance] = []
        token = page_token
        while True:
            if token:
                request["NextToken"] = token
            with translated("describe instances in", self.region):
                page = self._client("ec2").describe_instances(**request)
            found += [
                _instance(instance)
                for reservation in page["Reservations"]
                for instance in reservation["Instances"]
            ]
            token = page.get("NextToken", "")
            if not token or len(found) >= limit:
                return found, token

    def metrics(self, namespace: str, metric_name: str) -> Iterator[CloudWatchMetric]:
        with translated("list metrics in", self.region):
            pages = self._client("cloudwatch").get_paginator("list_metrics")
            for page in pages.paginate(Namespace=namespace, MetricName=metric_name):
                for metric in page["Metrics"]:
                    dimensions = tuple(
                        (each["Name"], each["Value"]) for each in metric["Dimensions"]
                    )
                    yield CloudWatchMetric(namespace, metric_name, dimensions)

    def points(
        self, queries: Sequence[Query], *, start: datetime, end: datetime, period: int
    ) -> Points:
        found: dict[Query, list[tuple[float, float]]] = {}
        for first in range(0, len(queries), _QUERIES):
            batch = {
                f"q{number}": query
                for number, query in enumerate(queries[first : first + _QUERIES])
            }
            for identity, points in self._batch(batch, start, end, period).items():
                found[batch[identity]] = [
                    point
                    for point in sorted(points.items())
                    if start.timestamp() <= point[0] < end.timestamp()
                ]
        return found

    def _batch(
        self, batch: Mapping[str, Query], start: datetime, end: datetime, period: int
    ) -> dict[str, dict[float, float]]:
        """The points of one request; queries with partial data are repeated."""
        points: dict[str, dict[float, float]] = {identity: {} for identity in batch}
        pending: Mapping[str, Query] = batch
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(back_off(attempt - 1, first_seconds=_FIRST_SECONDS))
            partial = self._pages(pending, points, start, end, period)
            if not partial:
                return points
            pending = {identity: batch[identity] for identity in batch if identity in partial}
        detail = f"{len(pending)} of {len(batch)} queries stay partial after {_ATTEMPTS} attempts"
        raise StorageError("get metric data in", self.region, "PartialData", detail)

    def _pages(
        self,
        pending: Mapping[str, Query],
        points: dict[str, dict[float, float]],
        start: datetime,
        end: datetime,
        period: int,
    ) -> set[str]:
        """Read all pages into `points`; the IDs of the queries whose data is partial."""
        request: dict[str, Any] = {
            "MetricDataQueries": [_request(*each, period) for each in pending.items()],
            "StartTime": start,
            "EndTime": end,
            "ScanBy": "TimestampAscending",
        }
        states: dict[str, str] = {}
        expected = len(pending) * (end - start).total_seconds() / period
        most = _MAX_PAGES_FACTOR * math.ceil(expected / _POINTS)
        for _ in range(most):
            response = self._get_metric_data(request)
            for result in response["MetricDataResults"]:
                states[result["Id"]] = result["StatusCode"]
                moments = (moment.timestamp() for moment in result["Timestamps"])
                points[result["Id"]].update(zip(moments, result["Values"], strict=True))
            if not response.get("NextToken"):
                return {each for each in pending if states.get(each, "Complete") != "Complete"}
            request["NextToken"] = response["NextToken"]
        detail = f"still more pages after {most}"
        raise StorageError("get metric data in", self.region, "TooManyPages", detail)

    def _get_metric_data(self, request: dict[str, Any]) -> Any:
        for attempt in range(_ATTEMPTS):
            try:
                with translated("get metric data in", self.region):
                    return self._client("cloudwatch").get_metric_data(**request)
            except StorageError as error:
                if error.code not in _THROTTLED or attempt == _ATTEMPTS - 1:
                    raise
            self._sleep(back_off(attempt, first_seconds=_FIRST_SECONDS))
        raise AssertionError("the last attempt returns or raises")


def _request(identity: str, query: Query, period: int) -> dict[str, Any]:
    metric = query.metric
    return {
        "Id": identity,
        "MetricStat": {
            "Metric": {
                "Namespace": metric.namespace,
                "MetricName": metric.metric_name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
            },
            "Period": period,
            "Stat": query.statistic,
        },
    }


def _instance(described: Mapping[str, Any]) -> Instance:
    tags = {tag["Key"]: tag["Value"] for tag in described.get("Tags", [])}
    labels = {"instance_type": str(described.get("InstanceType", ""))}
    if "Name" in tags:
        labels["name"] = tags["Name"]
    return Instance(described["InstanceId"], labels, described.get("PrivateIpAddress", ""), tags)
