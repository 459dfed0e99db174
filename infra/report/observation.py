"""Collect the results of a run through the AWS APIs."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chalicelib.aws.athena import read_page, start_query, wait_for_query
from chalicelib.aws.pipeline import read_history
from chalicelib.model.dynamodb import decode
from chalicelib.model.execution_history import Branch, Event, branches, failure_reason
from chalicelib.model.query_results import Page

from ..local.cloud import STACKS, LocalCloud
from ..local.errors import LocalCloudError
from ..local.lambda_.environment import Invocation
from ..local.wiring import Mail

QUERY = """\
SELECT metric_type, measurement, round(value_last, 1) AS value, unit, status
FROM infra_monitoring.metrics
WHERE measurement IN ('utilization', 'percent', 'bytes_sent', 'bytes_received')
ORDER BY metric_type, measurement"""

# A branch has four tries of at most 45 seconds, and 70 seconds of waits between them.
_SETTLE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm's state and its number of billed metrics, which is 0 for a composite alarm."""

    name: str
    state: str
    reason: str
    metrics: int


@dataclass(frozen=True, slots=True)
class Observation:
    """A run, finished or not, and the data it has written.

    `items` are decoded, `objects` has key and size by prefix, `invocations` are by function.
    """

    execution: str
    status: str
    reason: str
    seconds: float
    branches: Sequence[Branch]
    items: Sequence[dict[str, Any]]
    objects: dict[str, list[tuple[str, int]]]
    invocations: dict[str, list[Invocation]]
    mails: Sequence[Mail]
    alarms: Sequence[Alarm]
    query_result: Page
    scanned_bytes: int

    @property
    def passed(self) -> bool:
        """The run succeeded, every record is enriched, and quarantine is empty."""
        return (
            self.status == "SUCCEEDED"
            and bool(self.items)
            and all("processed_at" in item for item in self.items)
            and not self.objects["quarantine/"]
        )


def outputs(cloud: LocalCloud) -> dict[str, str]:
    """The outputs of all stacks."""
    cloudformation = cloud.client("cloudformation")
    found: dict[str, str] = {}
    for name in STACKS:
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        found |= {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
    return found


def wait_until_settled(cloud: LocalCloud) -> bool:
    """Wait until no execution runs and no event is pending; False after a timeout.

    After a failed execution, events that only wait for a retry do not count as pending: retries
    take three minutes and change nothing in the report.
    """
    state_machine = outputs(cloud)["StateMachineArn"]
    sfn = cloud.client("stepfunctions")
    until = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < until:
        executions = sfn.list_executions(stateMachineArn=state_machine)["executions"]
        statuses = {each["status"] for each in executions}
        if statuses and "RUNNING" not in statuses:
            failed = statuses != {"SUCCEEDED"}
            if cloud.wiring.idle or (failed and cloud.wiring.only_retries_left):
                return True
        time.sleep(0.1)
    return False


def redeliver(cloud: LocalCloud) -> None:
    """Invoke the functions again with the events of the latest execution, if it succeeded.

    This shows warm starts, and measures the CPU without the cold starts of the run. AWS delivers
    events at least once, so a second delivery must not change any count. The notifier is not
    invoked, because it would send a second e-mail.
    """
    latest, history = _latest_execution(cloud)
    if latest["status"] != "SUCCEEDED":
        return
    for event in history:
        if event["type"] != "TaskScheduled":
            continue
        parameters = json.loads(event["taskScheduledEventDetails"]["parameters"])
        if "Payload" in parameters and not parameters["Payload"]["detail-type"].startswith("Run"):
            cloud.client("lambda").invoke(
                FunctionName=parameters["FunctionName"], Payload=json.dumps(parameters["Payload"])
            )
    wait_until_settled(cloud)


def _latest_execution(cloud: LocalCloud) -> tuple[dict[str, Any], list[Event]]:
    sfn = cloud.client("stepfunctions")
    state_machine = outputs(cloud)["StateMachineArn"]
    executions = sfn.list_executions(stateMachineArn=state_machine)["executions"]
    if not executions:
        raise LocalCloudError("no execution of the state machine has started")
    latest = executions[0]
    return latest, list(read_history(sfn, latest["executionArn"]))


def observe(cloud: LocalCloud) -> Observation:
    """Read the latest execution and all stored data."""
    names = outputs(cloud)
    latest, history = _latest_execution(cloud)
    page, scanned = _query(cloud, names["WorkGroupName"], names["DatabaseName"])
    ended = latest.get("stopDate") or datetime.now(UTC)
    return Observation(
        execution=latest["name"],
        status=latest["status"],
        reason=failure_reason(history),
        seconds=(ended - latest["startDate"]).total_seconds(),
        branches=[each for each in branches(history) if each.seconds is not None],
        items=_items(cloud, names["TableName"]),
        objects={
            prefix: _objects(cloud, names["BucketName"], prefix)
            for prefix in ("raw-metrics/", "processed/", "quarantine/")
        },
        invocations={name: list(each) for name, each in cloud.functions.invocations.items()},
        mails=list(cloud.wiring.mails),
        alarms=_alarms(cloud),
        query_result=page,
        scanned_bytes=scanned,
    )


def _alarms(cloud: LocalCloud) -> list[Alarm]:
    """The composite alarms, then the metric alarms in the order of the template."""
    described = cloud.client("cloudwatch").describe_alarms()
    return [
        Alarm(
            each["AlarmName"],
            each["StateValue"],
            each["StateReason"],
            metrics=0 if "AlarmRule" in each else billed_metrics(each),
        )
        for each in (*described["CompositeAlarms"], *described["MetricAlarms"])
    ]


def billed_metrics(alarm: Mapping[str, Any]) -> int:
    """The number of billed metrics of a metric alarm; expressions are free."""
    return sum("MetricStat" in query for query in alarm.get("Metrics") or []) or 1


def _items(cloud: LocalCloud, table: str) -> list[dict[str, Any]]:
    pages = cloud.client("dynamodb").get_paginator("scan").paginate(TableName=table)
    return [decode(item) for page in pages for item in page["Items"]]


def _objects(cloud: LocalCloud, bucket: str, prefix: str) -> list[tuple[str, int]]:
    pages = cloud.client("s3").get_paginator("list_objects_v2")
    return [
        (entry["Key"], entry["Size"])
        for page in pages.paginate(Bucket=bucket, Prefix=prefix)
        for entry in page.get("Contents", [])
    ]


def _query(cloud: LocalCloud, work_group: str, database: str) -> tuple[Page, int]:
    """The result of QUERY, and the bytes scanned."""
    client = cloud.client("athena")
    identity = start_query(client, QUERY, work_group=work_group, database=database)
    execution = wait_for_query(client, identity, poll_seconds=0.05)
    if execution["Status"]["State"] != "SUCCEEDED":
        reason = execution["Status"].get("StateChangeReason", "no reason given")
        raise LocalCloudError(f"the Athena query failed: {reason}")
    return read_page(client, execution), execution["Statistics"]["DataScannedInBytes"]
