"""The whole pipeline: `python -m infra up` in a separate process, used through AWS clients.

The tests run what is deployed: the built zip and the merged, transformed template.
"""

import gzip
import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
import requests

from chalicelib.model import records
from chalicelib.model.metric_types import METRIC_TYPES
from chalicelib.model.records import Record
from tests.conftest import BUCKET, RunningCloud, make_record, point
from tests.support.waiting import wait_until
from tests.unit.notify.test_messages import RESOLVED, alarm_event

Eventually = Callable[..., Any]

BRANCHES = [f"Invoke{name}Collector" for name in ("CPU", "Memory", "Disk", "Network")]


def machine_arn(cloud: RunningCloud, name: str = "InfraMonitoring-Pipeline-Orch") -> str:
    machines = cloud.client("stepfunctions").list_state_machines()["stateMachines"]
    (arn,) = [each["stateMachineArn"] for each in machines if each["name"] == name]
    return str(arn)


def execute(cloud: RunningCloud, arn: str, document: dict[str, Any]) -> dict[str, Any]:
    """Start an execution and wait for its end."""
    sfn = cloud.client("stepfunctions")
    execution = sfn.start_execution(stateMachineArn=arn, input=json.dumps(document))

    def ended() -> Any:
        described = sfn.describe_execution(executionArn=execution["executionArn"])
        return described["status"] != "RUNNING" and described

    return dict(wait_until(ended))


def keys(cloud: RunningCloud, prefix: str) -> set[str]:
    listed = cloud.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return {entry["Key"] for entry in listed.get("Contents", [])}


def bodies(cloud: RunningCloud, found: set[str]) -> list[bytes]:
    s3 = cloud.client("s3")
    return [s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in found]


def items(cloud: RunningCloud) -> list[dict[str, Any]]:
    pages = cloud.client("dynamodb").get_paginator("scan").paginate(TableName="InfraMetrics")
    return [item for page in pages for item in page["Items"]]


def item_of(cloud: RunningCloud, record: Record) -> dict[str, Any]:
    """The enriched item of a record; empty until the record is processed."""
    response = cloud.client("dynamodb").get_item(
        TableName="InfraMetrics",
        Key={
            "metric_id": {"S": str(record.metric_id)},
            "timestamp": {"S": f"{record.timestamp:%Y-%m-%dT%H:%M:%SZ}"},
        },
        ConsistentRead=True,
    )
    item: dict[str, Any] = response.get("Item", {})
    return item if "processed_at" in item else {}


def control(cloud: RunningCloud, path: str) -> Any:
    return requests.get(f"{cloud.endpoint}/_local/{path}", timeout=300).json()


def test_a_rule_starts_the_state_machine_every_three_hours(cloud: RunningCloud) -> None:
    events = cloud.client("events")
    (rule,) = [each for each in events.list_rules()["Rules"] if each["Name"].endswith("Clock")]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(3 hours)", "ENABLED")
    (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target["Arn"] == machine_arn(cloud)


def test_the_first_execution_was_started_by_the_rule(cloud: RunningCloud) -> None:
    sfn = cloud.client("stepfunctions")
    executions = sfn.list_executions(stateMachineArn=machine_arn(cloud))["executions"]
    first = sfn.describe_execution(executionArn=executions[-1]["executionArn"])
    event = json.loads(first["input"])
    assert event["detail-type"] == "Scheduled Event"
    assert event["resources"][0].endswith("rule/InfraMonitoring-Clock")
    assert first["status"] == "SUCCEEDED"


def test_an_execution_runs_the_four_collectors(cloud: RunningCloud) -> None:
    execution = execute(cloud, machine_arn(cloud), {})
    assert execution["status"] == "SUCCEEDED"
    history = cloud.client("stepfunctions").get_execution_history(
        executionArn=execution["executionArn"]
    )["events"]
    entered = {
        event["stateEnteredEventDetails"]["name"]
        for event in history
        if event["type"] == "TaskStateEntered"
    }
    assert entered == {*BRANCHES, "NotifySuccess"}
    assert json.loads(execution["output"])["notification"]["response"]["severity"] == "info"


def test_an_execution_stores_four_objects_and_enriched_items(
    cloud: RunningCloud, eventually: Eventually
) -> None:
    today = f"raw-metrics/{datetime.now(UTC):%Y/%m/%d}/"
    before = keys(cloud, today)
    execution = execute(cloud, machine_arn(cloud), {})
    new = eventually(lambda: keys(cloud, today) - before)
    assert len(new) == 4
    for key in new:
        assert re.fullmatch(rf"{today}(cpu|memory|disk|network)-\d{{6}}-[0-9a-f]+\.json", key)
    found = [records.decode(line) for body in bodies(cloud, new) for line in body.splitlines()]
    assert {record.metric_type for record in found} == set(METRIC_TYPES)
    assert {record.execution_id for record in found} == {execution["name"]}
    for record in found:
        item = eventually(lambda record=record: item_of(cloud, record))
        assert {"metric_type", "region", "status", "source_object", "expires_at"} <= set(item)


@pytest.fixture
def start_time_machine(cloud: RunningCloud) -> Iterator[str]:
    """A state machine that returns the start time of its execution."""
    sfn = cloud.client("stepfunctions")
    parameters = {"start.$": "$$.Execution.StartTime"}
    state = {"Type": "Pass", "Parameters": parameters, "End": True}
    arn = sfn.create_state_machine(
        name="start-time",
        definition=json.dumps({"StartAt": "StartTime", "States": {"StartTime": state}}),
        roleArn="arn:aws:iam::123456789012:role/any",
    )["stateMachineArn"]
    yield str(arn)
    sfn.delete_state_machine(stateMachineArn=arn)


def test_executions_in_one_second_have_different_start_times(
    cloud: RunningCloud, start_time_machine: str
) -> None:
    """With whole seconds in the context object, such runs would share their object keys."""
    ended = [execute(cloud, start_time_machine, {}) for _ in range(3)]
    starts = [json.loads(execution["output"])["start"] for execution in ended]
    assert len(set(starts)) == 3
    for start in starts:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", start)


def test_memory_values_agree_with_psutil(cloud: RunningCloud) -> None:
    execute(cloud, machine_arn(cloud), {})
    newest = max(
        (item for item in items(cloud) if item["metric_type"]["S"] == "memory"),
        key=lambda item: str(item["collected_at"]["S"]),
    )
    measured = newest["measurements"]["M"]
    assert newest["resource_id"]["S"] == socket.gethostname()
    assert float(measured["total"]["M"]["last"]["N"]) == psutil.virtual_memory().total
    assert float(measured["percent"]["M"]["last"]["N"]) == pytest.approx(
        psutil.virtual_memory().percent, abs=5
    )


def test_the_index_finds_records_by_type_and_time(cloud: RunningCloud) -> None:
    response = cloud.client("dynamodb").query(
        TableName="InfraMetrics",
        IndexName="metric_type-timestamp-index",
        KeyConditionExpression="metric_type = :type AND #time > :since",
        ExpressionAttributeNames={"#time": "timestamp"},
        ExpressionAttributeValues={":type": {"S": "disk"}, ":since": {"S": "2026-01-01T00:00:00Z"}},
    )
    assert response["Count"] >= 1


def test_the_table_deletes_expired_items(cloud: RunningCloud) -> None:
    response = cloud.client("dynamodb").describe_time_to_live(TableName="InfraMetrics")
    assert response["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "expires_at",
    }


def test_processed_objects_are_gzipped_lines(cloud: RunningCloud) -> None:
    found = keys(cloud, f"processed/dt={datetime.now(UTC):%Y-%m-%d}/")
    (line, *_) = gzip.decompress(bodies(cloud, found)[0]).splitlines()
    assert {"metric_id", "ts", "measurement", "value_last", "status"} <= set(json.loads(line))


def test_a_successful_run_is_reported_by_email(cloud: RunningCloud) -> None:
    mail = control(cloud, "mails")[0]
    assert mail["to"] == "you@example.com"
    assert mail["subject"].startswith("InfraMonitoring: run succeeded: 1 host, ")
    assert mail["subject"].endswith(" [local eu-west-1]")
    assert f"\n- {socket.gethostname()}: " in mail["body"]
    for metric_type in METRIC_TYPES:
        assert f"\n{metric_type}: 1 record from 1 host in " in mail["body"]


def test_the_start_and_the_end_of_an_alarm_are_two_emails(
    cloud: RunningCloud, eventually: Eventually
) -> None:
    before = len(control(cloud, "mails"))
    for event in (alarm_event("InfraMonitoring-HighCPU"), alarm_event(**RESOLVED)):
        entry = {"Source": event["source"], "DetailType": event["detail-type"]}
        cloud.client("events").put_events(Entries=[entry | {"Detail": json.dumps(event["detail"])}])
        eventually(lambda: control(cloud, "idle"))
    subjects = [mail["subject"] for mail in control(cloud, "mails")[before:]]
    end = "OK CPU high: resolved after 2 d 12 h [local eu-west-1]"
    assert subjects.count(end) == 1
    # The subject names this machine if its CPU is busy; other alarms can then send emails, too.
    start = re.compile(r"ALARM CPU high(: .+)? \[local eu-west-1\]")
    assert any(start.fullmatch(subject) for subject in subjects[: subjects.index(end)])


def test_a_page_is_not_sent_by_email(cloud: RunningCloud) -> None:
    before = len(control(cloud, "mails"))
    response = cloud.client("lambda").invoke(
        FunctionName="notifier", Payload=json.dumps(alarm_event("InfraMonitoring-Page"))
    )
    assert json.loads(response["Payload"].read())["severity"] == "page"
    subjects = [mail["subject"] for mail in control(cloud, "mails")[before:]]
    assert not [subject for subject in subjects if "PAGE" in subject]


@pytest.mark.parametrize(
    ("group", "text"),
    [
        ("/aws/lambda/data-collector", "REPORT RequestId"),
        ("/aws/lambda/data-collector", '"message":"collected"'),
        ("/aws/lambda/log-processor", '"message":"processed"'),
        ("/aws/lambda/notifier", '"message":"notified"'),
        ("/aws/states/pipeline", "ExecutionSucceeded"),
    ],
)
def test_each_log_group_has_its_lines(
    group: str, text: str, cloud: RunningCloud, eventually: Eventually
) -> None:
    def found() -> bool:
        events = cloud.client("logs").filter_log_events(logGroupName=group)["events"]
        return any(text in event["message"] for event in events)

    assert eventually(found)


def query_athena(cloud: RunningCloud, sql: str, **arguments: Any) -> dict[str, Any]:
    athena = cloud.client("athena")
    started = athena.start_query_execution(
        QueryString=sql, WorkGroup="infra-monitoring", **arguments
    )

    def ended() -> Any:
        execution = athena.get_query_execution(QueryExecutionId=started["QueryExecutionId"])
        execution = execution["QueryExecution"]
        return execution["Status"]["State"] not in ("QUEUED", "RUNNING") and execution

    return dict(wait_until(ended))


def rows(cloud: RunningCloud, execution: dict[str, Any]) -> list[list[str | None]]:
    assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]
    response = cloud.client("athena").get_query_results(
        QueryExecutionId=execution["QueryExecutionId"]
    )
    return [
        [cell.get("VarCharValue") for cell in row["Data"]] for row in response["ResultSet"]["Rows"]
    ]


def test_athena_queries_the_history(cloud: RunningCloud) -> None:
    sql = """
        SELECT resource_id, max(value_max) AS peak, date_diff('hour', min(ts), max(ts)) AS hours
        FROM infra_monitoring.metrics
        WHERE metric_type = 'cpu' AND measurement = 'utilization'
          AND dt >= date_format(date '2026-01-01', '%Y-%m-%d') AND source = 'host'
        GROUP BY resource_id
    """
    header, row = rows(cloud, query_athena(cloud, sql))
    assert header == ["resource_id", "peak", "hours"]
    assert row[0] == socket.gethostname()
    assert 0 <= float(row[1] or -1) <= 100


def test_athena_accepts_parameters_and_a_database_in_the_context(
    cloud: RunningCloud,
) -> None:
    execution = query_athena(
        cloud,
        "SELECT DISTINCT metric_type FROM metrics WHERE metric_type = ?",
        ExecutionParameters=["'disk'"],
        QueryExecutionContext={"Database": "infra_monitoring"},
    )
    assert rows(cloud, execution) == [["metric_type"], ["disk"]]


def test_athena_writes_results_to_the_location_of_the_work_group(cloud: RunningCloud) -> None:
    execution = query_athena(cloud, "SELECT count(*) AS n FROM infra_monitoring.metrics")
    location = execution["ResultConfiguration"]["OutputLocation"]
    assert location.startswith(f"s3://{BUCKET}/athena-results/")
    (body,) = bodies(cloud, {location.removeprefix(f"s3://{BUCKET}/")})
    assert body.decode().splitlines()[0] == '"n"'


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT nothing FROM infra_monitoring.metrics", "nothing"),
        ("SELECT * FROM infra_monitoring.no_such_table", "TABLE_NOT_FOUND"),
        ("SELECT FROM WHERE", "SYNTAX_ERROR"),
        ("DROP TABLE infra_monitoring.metrics", "supports only queries"),
    ],
)
def test_an_invalid_query_fails_with_the_reason(sql: str, reason: str, cloud: RunningCloud) -> None:
    status = query_athena(cloud, sql)["Status"]
    assert status["State"] == "FAILED"
    assert reason in status["StateChangeReason"]


def unique_record(**changes: Any) -> Record:
    """A record of a host that no other test uses."""
    changes = {"timestamp": datetime.now(UTC), **changes}
    return make_record(resource_id=f"by-hand-{uuid.uuid4().hex[:8]}", **changes)


def put(cloud: RunningCloud, body: bytes, name: str) -> str:
    key = f"raw-metrics/{datetime.now(UTC):%Y/%m/%d}/{name}-{uuid.uuid4().hex[:8]}"
    cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
    return key


@pytest.mark.parametrize(
    "write",
    [
        lambda each: b"\n".join(map(records.encode, each)),
        lambda each: b"[" + b",".join(map(records.encode, each)) + b"]",
        lambda each: gzip.compress(b"\n".join(map(records.encode, each))),
    ],
    ids=["lines", "array", "gzip"],
)
def test_an_uploaded_object_is_processed(
    write: Any, cloud: RunningCloud, eventually: Eventually
) -> None:
    uploaded = [unique_record(), unique_record(measurements={"utilization": point("percent", 95)})]
    key = put(cloud, write(uploaded), "by hand+ü")
    found = [eventually(lambda each=each: item_of(cloud, each)) for each in uploaded]
    assert [item["status"]["S"] for item in found] == ["ok", "critical"]
    assert {item["source_object"]["S"] for item in found} == {f"s3://{BUCKET}/{key}"}


def test_an_invalid_line_is_quarantined_and_a_valid_one_is_stored(
    cloud: RunningCloud, eventually: Eventually
) -> None:
    valid = unique_record()
    key = put(cloud, records.encode(valid) + b"\n{this is broken\n", "half-broken.json")
    assert eventually(lambda: item_of(cloud, valid))

    def quarantined() -> list[dict[str, Any]]:
        lines = [
            json.loads(line)
            for body in bodies(cloud, keys(cloud, "quarantine/"))
            for line in body.splitlines()
        ]
        return [line for line in lines if line["source_object"] == f"s3://{BUCKET}/{key}"]

    (rejected,) = eventually(quarantined)
    assert (rejected["line"], rejected["original"]) == (2, "{this is broken")
    assert rejected["reason"]


def test_an_object_outside_raw_metrics_is_not_processed(cloud: RunningCloud) -> None:
    cloud.client("s3").put_object(Bucket=BUCKET, Key="elsewhere/x.json", Body=b"{broken")
    time.sleep(1)
    quarantined = b"".join(bodies(cloud, keys(cloud, "quarantine/")))
    assert b"elsewhere" not in quarantined


def test_a_repeated_run_does_not_add_items_or_objects(
    cloud: RunningCloud, eventually: Eventually
) -> None:
    event = {"time": "2026-11-22T03:00:00Z"}
    execute(cloud, machine_arn(cloud), event)
    eventually(lambda: control(cloud, "idle"))
    before = len(items(cloud)), len(keys(cloud, "raw-metrics/")), len(keys(cloud, "processed/"))
    execute(cloud, machine_arn(cloud), event)
    eventually(lambda: control(cloud, "idle"))
    after = len(items(cloud)), len(keys(cloud, "raw-metrics/")), len(keys(cloud, "processed/"))
    assert after == before


@pytest.fixture
def broken_memory_branch(cloud: RunningCloud) -> Iterator[str]:
    """A copy of the state machine with short waits and a memory collector without a table.

    The collector is the one that is deployed; only its TABLE_NAME is wrong.
    """
    lambda_, sfn = cloud.client("lambda"), cloud.client("stepfunctions")
    function = lambda_.get_function(FunctionName="data-collector")["Configuration"]
    s3 = cloud.client("s3")
    artifacts = "infra-monitoring-artifacts"
    code = s3.list_objects_v2(Bucket=artifacts)["Contents"][0]["Key"]
    variables = function["Environment"]["Variables"] | {"TABLE_NAME": "NoSuchTable"}
    broken = lambda_.create_function(
        FunctionName="data-collector-without-table",
        Runtime=function["Runtime"],
        Role=function["Role"],
        Handler=function["Handler"],
        Code={"S3Bucket": artifacts, "S3Key": code},
        Timeout=30,
        MemorySize=128,
        Environment={"Variables": variables},
    )
    machine = sfn.describe_state_machine(stateMachineArn=machine_arn(cloud))
    definition = json.loads(machine["definition"])
    for branch in definition["States"]["CollectMetrics"]["Branches"]:
        for state in branch["States"].values():
            for retry in state.get("Retry", []):
                retry["IntervalSeconds"] = 1
                retry["BackoffRate"] = 1
        if task := branch["States"].get("InvokeMemoryCollector"):
            task["Parameters"]["FunctionName"] = broken["FunctionArn"]
    iam = cloud.client("iam")
    # The role of the state machine allows only the original collector.
    role = iam.create_role(RoleName="with-a-broken-branch", AssumeRolePolicyDocument="{}")["Role"]
    statement = {
        "Effect": "Allow",
        "Action": ["lambda:InvokeFunction", "sns:Publish"],
        "Resource": "*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=role["RoleName"], PolicyName="any", PolicyDocument=policy)
    copy = sfn.create_state_machine(
        name="with-a-broken-branch", definition=json.dumps(definition), roleArn=role["Arn"]
    )
    yield str(copy["stateMachineArn"])
    sfn.delete_state_machine(stateMachineArn=copy["stateMachineArn"])
    iam.delete_role_policy(RoleName=role["RoleName"], PolicyName="any")
    iam.delete_role(RoleName=role["RoleName"])
    lambda_.delete_function(FunctionName="data-collector-without-table")


def test_a_failed_branch_is_retried_and_reported_and_stops_no_other(
    cloud: RunningCloud, broken_memory_branch: str, eventually: Eventually
) -> None:
    execution = execute(cloud, broken_memory_branch, {"time": "2026-11-21T03:00:00Z"})
    assert execution["status"] == "FAILED"

    history = cloud.client("stepfunctions").get_execution_history(
        executionArn=execution["executionArn"]
    )["events"]
    assert sum(event["type"] == "TaskFailed" for event in history) == 4, [
        event["type"] for event in history
    ]

    failure = [mail for mail in control(cloud, "mails") if "FAILED" in mail["subject"]][-1]
    assert "memory: FAILED after 3 retries: StorageError: put item NoSuchTable" in failure["body"]
    assert "cpu: 1 record from 1 host" in failure["body"]

    def stored() -> set[str]:
        return {
            item["metric_type"]["S"]
            for item in items(cloud)
            if item["execution_id"]["S"] == execution["name"] and "processed_at" in item
        }

    others = {"cpu", "disk", "network"}
    eventually(lambda: others <= stored())
    # The failed branch wrote its raw object, which the processor stored.
    eventually(lambda: stored() == others | {"memory"})


def test_a_function_is_stopped_at_its_timeout(cloud: RunningCloud) -> None:
    """CPU_SAMPLE_SECONDS makes the collector exceed its timeout."""
    lambda_ = cloud.client("lambda")
    function = lambda_.get_function(FunctionName="data-collector")["Configuration"]
    variables = function["Environment"]["Variables"]
    slow = variables | {"CPU_SAMPLE_SECONDS": "10"}
    lambda_.update_function_configuration(
        FunctionName="data-collector", Timeout=1, Environment={"Variables": slow}
    )
    try:
        response = lambda_.invoke(
            FunctionName="data-collector",
            Payload=json.dumps(
                {
                    "version": "0",
                    "id": "slow",
                    "time": "2026-11-20T03:00:00Z",
                    "account": "123456789012",
                    "region": "eu-west-1",
                    "source": "test",
                    "detail-type": "test",
                    "resources": [],
                    "detail": {"metric_type": "cpu"},
                }
            ),
        )
        assert response["FunctionError"] == "Unhandled"
        assert json.loads(response["Payload"].read())["errorType"] == "Sandbox.Timedout"
    finally:
        lambda_.update_function_configuration(
            FunctionName="data-collector", Timeout=30, Environment={"Variables": variables}
        )


@pytest.fixture
def alarm(cloud: RunningCloud) -> Iterator[str]:
    """An alarm on a metric that only this test uses."""
    cloudwatch = cloud.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="test-alarm",
        Namespace="Test",
        MetricName="Burning",
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    yield "test-alarm"
    cloudwatch.delete_alarms(AlarmNames=["test-alarm"])


def test_a_metric_at_the_threshold_raises_an_alarm(cloud: RunningCloud, alarm: str) -> None:
    cloudwatch = cloud.client("cloudwatch")
    (before,) = cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    assert before["StateValue"] == "INSUFFICIENT_DATA"
    cloudwatch.put_metric_data(Namespace="Test", MetricData=[{"MetricName": "Burning", "Value": 1}])
    changes = requests.post(f"{cloud.endpoint}/_local/alarms", timeout=300).json()
    assert changes[alarm] == "ALARM"
    (after,) = cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    assert after["StateReason"].startswith("Threshold Crossed: 1 out of the last 1 datapoints [1.0")


def test_the_observability_stack_has_its_alarms_and_its_dashboard(cloud: RunningCloud) -> None:
    cloudwatch = cloud.client("cloudwatch")
    described = cloudwatch.describe_alarms(AlarmNamePrefix="InfraMonitoring-")
    assert [each["AlarmName"] for each in described["CompositeAlarms"]] == ["InfraMonitoring-Page"]
    assert len(described["MetricAlarms"]) == 16
    (dashboard,) = cloudwatch.list_dashboards()["DashboardEntries"]
    assert dashboard["DashboardName"] == "InfraMonitoring"
