"""Least privilege: the pipeline in all its modes under its own roles, in the local cloud.

Every call that a role makes is evaluated against the policies that CloudFormation deployed. A
permission that is missing denies a call here, and one that nothing uses fails a test here.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from chalicelib.model import records
from chalicelib.process.writing import SINGLE_WRITE_LIMIT
from infra.local.iam.policies import (
    Call,
    Grant,
    evaluate,
    grants,
)
from tests.conftest import (
    ACCOUNT,
    BUCKET,
    REGION,
    ROOT,
    RunningCloud,
    make_record,
    start_cloud,
    stop_cloud,
)
from tests.local_cloud.test_pipeline import control, execute, machine_arn
from tests.support.waiting import wait_until
from tests.unit.notify.test_messages import alarm_event

COLLECTOR = "DataPipelineLambdaRole-data-collector"
PROCESSOR = "DataPipelineLambdaRole-log-processor"
NOTIFIER = "DataPipelineLambdaRole-notifier"
API = "DataPipelineLambdaRole-api"
ORCHESTRATOR = "InfraMonitoring-Pipeline-Orch"
CLOCK = "InfraMonitoring-Clock"
REPLAY = "InfraMonitoring-Replay"
COMPACTION = "InfraMonitoring-Compaction"
COMPACTION_CLOCK = "InfraMonitoring-CompactionClock"
ROLES = (
    COLLECTOR,
    PROCESSOR,
    NOTIFIER,
    API,
    ORCHESTRATOR,
    CLOCK,
    REPLAY,
    COMPACTION,
    COMPACTION_CLOCK,
)

THIS_STAGE_ONLY = "InfraMonitoring-ThisStageOnly"

OTHER_ACCOUNT = "210987654321"
READER = f"arn:aws:iam::{OTHER_ACCOUNT}:role/InfraMonitoringReader"
READER_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "Read",
            "Effect": "Allow",
            "Action": [
                "ec2:DescribeInstances",
                "cloudwatch:ListMetrics",
                "cloudwatch:GetMetricData",
            ],
            "Resource": "*",
        }
    ],
}

TICK = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

# What no log line may hold: of a payload, and a setting that others should not read.
MARKER = "a-value-of-somebodys-payload"
EXTERNAL_ID = "an-external-id-of-ours"

Event = dict[str, Any]


class Modes:
    """Everything that the pipeline does, each mode once, in one local cloud."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self._measure_the_host()
        self._measure_a_fleet_in_chunks()
        self._measure_another_account()
        self._process_many_records()
        self._process_what_is_no_record()
        self._process_what_was_replaced()
        self._process_what_is_not_there()
        self._replay()
        self._compact()
        self._tell_of_alarms()
        self._tell_once_a_day()
        self._tell_without_the_notifier()
        self._fail_for_good()
        self._ask_the_api()

    def configure(self, function: str, **variables: str) -> None:
        lambda_ = self.cloud.client("lambda")
        held = lambda_.get_function_configuration(FunctionName=function)["Environment"]
        lambda_.update_function_configuration(
            FunctionName=function, Environment={"Variables": held["Variables"] | variables}
        )

    def _run(self, tick: datetime) -> None:
        execution = execute(self.cloud, machine_arn(self.cloud), {"time": tick.isoformat()})
        assert execution["status"] == "SUCCEEDED", execution
        self._settle()

    def _settle(self) -> None:
        wait_until(lambda: control(self.cloud, "idle"))

    def _measure_the_host(self) -> None:
        """On the clock's tick."""
        requests.post(f"{self.cloud.endpoint}/_local/tick", timeout=300)
        sfn = self.cloud.client("stepfunctions")

        def ended() -> bool:
            listed = sfn.list_executions(stateMachineArn=machine_arn(self.cloud))["executions"]
            return bool(listed) and listed[0]["status"] != "RUNNING"

        wait_until(ended)
        self._settle()

    def _measure_a_fleet_in_chunks(self) -> None:
        """Two hosts in chunks of one; the window before is restated."""
        start_instances(self.cloud.client, 2)
        self.configure("data-collector", METRIC_SOURCES="cloudwatch", CHUNK_TARGETS="1")
        self._run(TICK)

    def _replay(self) -> None:
        """What is stored already of many items is written one by one."""
        prefixes = {"prefixes": [{"prefix": f"raw-metrics/{TICK:%Y/%m/%d}/"}]}
        execution = execute(self.cloud, machine_arn(self.cloud, REPLAY), prefixes)
        assert execution["status"] == "SUCCEEDED", execution

    def _compact(self) -> None:
        """On the clock's rule; then a day with lines, and again over what that wrote."""
        rule = f"{self.cloud.endpoint}/_local/tick/{COMPACTION}"
        requests.post(rule, timeout=300).raise_for_status()
        for _ in range(2):
            days = {"days": [f"{TICK:%Y-%m-%d}"]}
            execution = execute(self.cloud, machine_arn(self.cloud, COMPACTION), days)
            assert execution["status"] == "SUCCEEDED", execution

    def _measure_another_account(self) -> None:
        there = self._administrator_of(OTHER_ACCOUNT)
        iam = there("iam")
        iam.create_role(RoleName="InfraMonitoringReader", AssumeRolePolicyDocument="{}")
        iam.put_role_policy(
            RoleName="InfraMonitoringReader",
            PolicyName="read",
            PolicyDocument=json.dumps(READER_POLICY),
        )
        start_instances(there, 1)
        self.configure(
            "data-collector",
            ASSUME_ROLES=f"other={READER}",
            ASSUME_ROLE_EXTERNAL_ID=EXTERNAL_ID,
            CHUNK_TARGETS="200",
        )
        self._run(TICK)

    def _administrator_of(self, account: str) -> Callable[[str], Any]:
        credentials = self.cloud.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{account}:role/administrator", RoleSessionName="test"
        )["Credentials"]
        factory: Any = boto3.client

        def client(service: str) -> Any:
            return factory(
                service,
                region_name=REGION,
                endpoint_url=self.cloud.endpoint,
                aws_access_key_id=credentials["AccessKeyId"],
                aws_secret_access_key=credentials["SecretAccessKey"],
                aws_session_token=credentials["SessionToken"],
            )

        return client

    def _process_many_records(self) -> None:
        """More than are written one by one."""
        now = datetime.now(UTC).replace(microsecond=0)
        many = [
            make_record(timestamp=now, resource_id=f"many-{n}")
            for n in range(SINGLE_WRITE_LIMIT + 1)
        ]
        body = b"\n".join(map(records.encode, many))
        key = "raw-metrics/2026/11/22/many.json"
        self.cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
        self._settle()

    def _process_what_is_no_record(self) -> None:
        record = {"schema_version": 1, "timestamp": MARKER, "metric_type": MARKER, "labels": MARKER}
        lines = [f"{{{MARKER}", json.dumps({MARKER: MARKER}), json.dumps(record)]
        self.cloud.client("s3").put_object(
            Bucket=BUCKET, Key="raw-metrics/2026/11/22/broken.json", Body="\n".join(lines).encode()
        )
        self._settle()

    def _process_what_was_replaced(self) -> None:
        """The object is another one by now: the next invocation reads it from its start."""
        event = arrival("raw-metrics/2026/11/22/broken.json")
        event["detail"]["resume"] = {"etag": '"of the one before"', "position": {}}
        assert self.invoke("log-processor", event)["status"] == "REPLACED"
        self._settle()

    def _process_what_is_not_there(self) -> None:
        self.invoke("log-processor", arrival("raw-metrics/2026/11/22/gone.json"))

    def _tell_of_alarms(self) -> None:
        for name in ("HighCPU", "Page"):
            assert self.invoke("notifier", alarm_event(f"InfraMonitoring-{name}"))["published"]

    def _tell_once_a_day(self) -> None:
        self.configure("notifier", SUCCESS_DIGEST="Daily")
        self._run(TICK)
        self.configure("notifier", SUCCESS_DIGEST="EveryRun")

    def _tell_without_the_notifier(self) -> None:
        """It fails, so the state machine publishes by itself."""
        topic = self.break_notifier()
        self._run(TICK)
        self.configure("notifier", TOPIC_ARN=topic)

    def break_notifier(self) -> str:
        """Take its topic's name away; the name."""
        lambda_ = self.cloud.client("lambda")
        held = lambda_.get_function_configuration(FunctionName="notifier")["Environment"]
        self.configure("notifier", TOPIC_ARN="")
        return str(held["Variables"]["TOPIC_ARN"])

    def _fail_for_good(self) -> None:
        """An event that cannot be processed ends in the dead-letter queue, here at once."""
        lambda_ = self.cloud.client("lambda")
        event = json.dumps({"detail": {"secret": MARKER}})
        for name in ("log-processor", "notifier"):
            held = lambda_.get_function_event_invoke_config(FunctionName=name)
            lambda_.put_function_event_invoke_config(
                FunctionName=name,
                MaximumRetryAttempts=0,
                DestinationConfig=held["DestinationConfig"],
            )
            lambda_.invoke(FunctionName=name, InvocationType="Event", Payload=event)
        self._settle()
        self.invoke("data-collector", arrival("") | {"detail": {"secret": MARKER, "merge": 1}})

    def _ask_the_api(self) -> None:
        """Each route once; a named query of each table until it has its answer."""
        for path in ("/health", "/metrics/{metric_type}", "/hosts", "/runs", "/alarms"):
            self.ask_api("GET", path, metric_type="cpu")
        self.ask_api("GET", "/hosts/{resource_id}", resource_id="many-0")
        assert self.ask_api("POST", "/runs")["name"]
        for name in ("trend", "data-quality", "by-label"):
            identity = self.ask_api("POST", "/queries", body={"name": name})["id"]
            answer = wait_until(partial(self._ended_query, identity))
            assert answer["state"] == "SUCCEEDED", answer
        self._settle()

    def _ended_query(self, identity: str) -> Event:
        answer = self.ask_api("GET", "/queries/{identity}", identity=identity)
        return answer if answer["state"] not in {"QUEUED", "RUNNING"} else {}

    def ask_api(self, method: str, path: str, body: Event | None = None, **names: str) -> Event:
        """What the deployed function answers to a request of API Gateway's."""
        event = api_request(method, path, body, names)
        answer = self.invoke("infra-monitoring-api", event)
        assert answer["statusCode"] in {200, 202}, answer
        found: Event = json.loads(answer["body"])
        return found

    def invoke(self, function: str, event: Event) -> Event:
        answer = self.cloud.client("lambda").invoke(
            FunctionName=function, Payload=json.dumps(event)
        )
        payload: Event = json.loads(answer["Payload"].read())
        return payload

    @property
    def iam(self) -> Event:
        seen: Event = control(self.cloud, "iam")
        return seen

    def policies_of(self, role: str) -> dict[str, str]:
        """As CloudFormation deployed them, by name."""
        iam = self.cloud.client("iam")
        inline = {
            name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        }
        managed = {
            each["PolicyName"]: iam.get_policy_version(PolicyArn=each["PolicyArn"], VersionId="v1")[
                "PolicyVersion"
            ]["Document"]
            for each in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        }
        return {name: json.dumps(document) for name, document in (inline | managed).items()}


def start_instances(clients: Callable[[str], Any], count: int) -> None:
    """Running instances with CPU and network for the two windows before TICK."""
    ec2 = clients("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    started = ec2.run_instances(ImageId=image, MinCount=count, MaxCount=count)["Instances"]
    data = [
        {
            "MetricName": name,
            "Dimensions": [{"Name": "InstanceId", "Value": instance["InstanceId"]}],
            "Timestamp": TICK - timedelta(minutes=minutes),
            "Value": 50.0,
        }
        for instance in started
        for name in ("CPUUtilization", "NetworkIn", "NetworkOut", "DiskReadBytes")
        for minutes in (5, 10, 185, 190)
    ]
    clients("cloudwatch").put_metric_data(Namespace="AWS/EC2", MetricData=data)
    memory = [
        each | {"MetricName": name}
        for each in data[: 4 * count]
        for name in ("mem_used_percent", "disk_used_percent")
    ]
    clients("cloudwatch").put_metric_data(Namespace="CWAgent", MetricData=memory)


def arrival(key: str) -> Event:
    """EventBridge's event of an object."""
    return {
        "version": "0",
        "id": "test",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": ACCOUNT,
        "time": "2026-11-22T18:00:00Z",
        "region": REGION,
        "resources": [f"arn:aws:s3:::{BUCKET}"],
        "detail": {"bucket": {"name": BUCKET}, "object": {"key": key}},
    }


def api_request(method: str, path: str, body: Event | None, names: dict[str, str]) -> Event:
    """What API Gateway sends a function for a request."""
    return {
        "requestContext": {"httpMethod": method, "resourcePath": path},
        "headers": {"content-type": "application/json"},
        "multiValueQueryStringParameters": None,
        "pathParameters": names,
        "body": base64.b64encode(json.dumps(body).encode() if body else b"").decode(),
        "isBase64Encoded": True,
        "stageVariables": None,
    }


@pytest.fixture(scope="module")
def modes() -> Iterator[Modes]:
    cloud = start_cloud("--no-tick")
    try:
        yield Modes(cloud)
    finally:
        stop_cloud(cloud)


@dataclass(frozen=True)
class Unseen:
    """Permissions that the local cloud has no use for, and why they are needed on AWS."""

    roles: tuple[str, ...]
    actions: tuple[str, ...]
    resource: str
    reason: str

    def covers(self, role: str, use: Grant) -> bool:
        return role in self.roles and use.action in self.actions and self.resource in use.resource


# What a Distributed Map does on AWS alone: it runs its children, and writes results in parts.
CHILDREN = ("states:StartExecution", "states:DescribeExecution", "states:StopExecution")
PARTS = ("s3:ListMultipartUploadParts", "s3:AbortMultipartUpload")

UNSEEN = (
    Unseen(
        roles=(ORCHESTRATOR,),
        actions=CHILDREN,
        resource=f"{ORCHESTRATOR}",
        reason="a Distributed Map starts its children with them; moto runs them in threads:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html",
    ),
    Unseen(
        roles=(ORCHESTRATOR,),
        actions=PARTS,
        resource="/plans/*",
        reason="a Map Run writes large results in parts, for which moto has no counterpart:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html",
    ),
    Unseen(
        roles=(ORCHESTRATOR,),
        actions=("s3:GetObject", "s3:PutObject"),
        resource="/plans/*",
        reason="only a fleet of many chunks: test_a_map_run_reads_plans_and_writes_results_itself"
        " in test_large_fleet.py",
    ),
    Unseen(
        roles=(REPLAY,),
        actions=CHILDREN,
        resource=f"{REPLAY}",
        reason="as above, of the replay's own Map Runs",
    ),
    Unseen(
        roles=(REPLAY,),
        actions=("s3:GetObject", *PARTS),
        resource="/plans/replays/*",
        reason="as above: a Map Run writes large results in parts",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("athena:StopQueryExecution",),
        resource="workgroup/infra-monitoring",
        reason="Step Functions stops the query of an execution that is stopped or times out:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/connect-athena.html",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("athena:GetDataCatalog",),
        resource="datacatalog/AwsDataCatalog",
        reason="Step Functions' own policy for Athena has it; moto has but one catalog:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/connect-athena.html",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=(
            "glue:BatchCreatePartition",
            "glue:GetDatabase",
            "glue:GetPartition",
            "glue:GetPartitions",
        ),
        resource=":glue:",
        reason="Athena asks Glue with them around an INSERT INTO; DuckDB has no use for them:"
        " https://docs.aws.amazon.com/athena/latest/ug/fine-grained-access-to-glue-resources.html",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("s3:GetBucketLocation", "s3:ListBucketMultipartUploads"),
        resource=BUCKET,
        reason="Step Functions' own policy for Athena has them:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/connect-athena.html",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("s3:GetObject", *PARTS),
        resource="/athena-results/*",
        reason="GetQueryResults reads the results' object, and a large one is written in parts;"
        " here they are kept in memory and written at once",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("s3:GetObject", *PARTS),
        resource="/archive/*",
        reason="as above, of Parquet; and it may look whether an object is there",
    ),
    Unseen(
        roles=(ORCHESTRATOR, REPLAY, COMPACTION),
        actions=(
            "logs:CreateLogDelivery",
            "logs:DeleteLogDelivery",
            "logs:DescribeLogGroups",
            "logs:DescribeResourcePolicies",
            "logs:GetLogDelivery",
            "logs:ListLogDeliveries",
            "logs:PutResourcePolicy",
            "logs:UpdateLogDelivery",
        ),
        resource="*",
        reason="Step Functions sets up its logging with them, all on `*`:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html",
    ),
    Unseen(
        roles=(COLLECTOR, PROCESSOR, NOTIFIER, API, ORCHESTRATOR),
        actions=("xray:PutTraceSegments", "xray:PutTelemetryRecords"),
        resource="*",
        reason="Lambda and Step Functions send traces with them, which nobody takes here:"
        " https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html",
    ),
    Unseen(
        roles=(ORCHESTRATOR,),
        actions=("xray:GetSamplingRules", "xray:GetSamplingTargets"),
        resource="*",
        reason="Step Functions asks with them which executions to trace:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/xray-iam.html",
    ),
    Unseen(
        roles=(COLLECTOR, PROCESSOR, NOTIFIER, API),
        actions=("logs:CreateLogStream", "logs:PutLogEvents"),
        resource="log-group:/aws/lambda/infra-monitoring-",
        reason="the names that `chalice deploy` gives: test_names_of_chalice_deploy_may_log",
    ),
    Unseen(
        roles=(API,),
        actions=("glue:GetDatabase", "s3:GetBucketLocation"),
        resource="",
        reason="Athena asks with its caller's permissions where things are; here it knows:"
        " https://docs.aws.amazon.com/athena/latest/ug/fine-grained-access-to-glue-resources.html",
    ),
    Unseen(
        roles=(API,),
        actions=("s3:GetObject", *PARTS),
        resource="/athena-results/*",
        reason="Athena writes large answers in parts, and reads them under who asks for them:"
        " https://docs.aws.amazon.com/athena/latest/ug/querying.html",
    ),
    Unseen(
        roles=(PROCESSOR,),
        actions=("lambda:InvokeFunction",),
        resource="function:infra-monitoring-",
        reason="the name that `chalice deploy` gives: test_chalice_deploys_processor_may_go_on",
    ),
)


def unseen(role: str, use: Grant) -> bool:
    # The API's own name begins like those of `chalice deploy`, and is seen.
    if use.resource.endswith("/infra-monitoring-api*"):
        return False
    return any(each.covers(role, use) for each in UNSEEN)


def used(modes: Modes, role: str) -> set[Grant]:
    return {
        Grant(each["policy"], each["sid"], each["action"], each["resource"])
        for each in modes.iam["uses"]
        if each["role"] == role
    }


def calls(modes: Modes, role: str) -> list[Call]:
    return [
        Call(
            each["call"]["action"],
            each["call"]["resource"],
            tuple(map(tuple, each["call"]["context"])),
        )
        for each in modes.iam["calls"]
        if each["role"] == role
    ]


def test_no_call_is_denied(modes: Modes) -> None:
    assert modes.iam["denied"] == []


def test_every_role_of_the_templates_made_a_call(modes: Modes) -> None:
    made = {each["role"] for each in modes.iam["calls"]}
    assert made == {*ROLES, "InfraMonitoringReader"}
    deployed = {role["RoleName"] for role in modes.cloud.client("iam").list_roles()["Roles"]}
    assert deployed == set(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_every_permission_is_used(role: str, modes: Modes) -> None:
    granted = grants(modes.policies_of(role))
    assert {use for use in granted - used(modes, role) if not unseen(role, use)} == set()


@pytest.mark.parametrize("role", ROLES)
def test_what_is_excepted_is_really_unseen(role: str, modes: Modes) -> None:
    assert not {use for use in used(modes, role) if unseen(role, use)}


@pytest.mark.parametrize("role", ROLES)
def test_without_any_one_statement_a_call_would_be_denied(role: str, modes: Modes) -> None:
    """Each statement carries something that no other does."""
    policies, made = modes.policies_of(role), calls(modes, role)
    for name, document in policies.items():
        for statement in json.loads(document)["Statement"]:
            if statement["Effect"] == "Deny" or unseen_whole(role, name, statement):
                continue
            less = policies | {name: without(document, statement["Sid"])}
            assert not all(evaluate(call, less) for call in made), statement["Sid"]


def unseen_whole(role: str, policy: str, statement: dict[str, Any]) -> bool:
    pieces = grants({policy: json.dumps({"Statement": [statement]})})
    return all(unseen(role, use) for use in pieces)


def without(document: str, sid: str) -> str:
    policy = json.loads(document)
    kept = [each for each in policy["Statement"] if each["Sid"] != sid]
    assert len(kept) == len(policy["Statement"]) - 1, sid
    return json.dumps(policy | {"Statement": kept})


# --- Taking a permission away makes the real thing fail ---------------------------------------


@pytest.fixture
def less(modes: Modes, request: pytest.FixtureRequest) -> Iterator[str]:
    """The deployed role without one of its statements; the statement's Sid."""
    role, sid = request.param
    iam = modes.cloud.client("iam")
    before = modes.policies_of(role)
    (name,) = [name for name, text in before.items() if f'"Sid": "{sid}"' in text]
    changed = without(before[name], sid)
    if json.loads(changed)["Statement"]:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=changed)
    else:
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    yield sid
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=before[name])


@pytest.mark.parametrize(
    ("less", "code"),
    [
        ((COLLECTOR, "InsertAndCompareItems"), "AccessDeniedException"),
        ((COLLECTOR, "WriteRawObjectsAndPlans"), "AccessDenied"),
        ((COLLECTOR, "AssumeReadersInOtherAccounts"), "AccessDenied"),
    ],
    indirect=["less"],
)
def test_a_collector_without_a_permission_fails_with_awss_code(
    modes: Modes, less: str, code: str
) -> None:
    # A setting that changes is a cold start: no role is assumed yet.
    modes.configure("data-collector", ASSUME_ROLES=f"{less.lower()}={READER}")
    tick = {"time": f"{TICK:%Y-%m-%dT%H:%M:%SZ}", "detail": {"metric_type": "cpu"}}
    answer = modes.invoke("data-collector", arrival("") | tick)
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/{COLLECTOR}/data-collector"
    assert f"{code}: User: {principal} is not authorized" in answer["errorMessage"]


@pytest.mark.parametrize(
    "less",
    [
        (PROCESSOR, "ReadRawObjects"),
        (PROCESSOR, "ReadAndWriteItems"),
        (PROCESSOR, "WriteProcessedAndQuarantined"),
    ],
    indirect=True,
)
def test_a_processor_without_a_permission_fails(modes: Modes, less: str) -> None:
    s3 = modes.cloud.client("s3")
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="raw-metrics/")["Contents"]
    key = next(each["Key"] for each in listed if "broken" not in each["Key"])
    answer = modes.invoke("log-processor", arrival(key))
    assert "AccessDenied" in answer["errorMessage"], less


@pytest.mark.parametrize("less", [(PROCESSOR, "GetNotFoundForMissingObjects")], indirect=True)
@pytest.mark.usefixtures("less")
def test_who_may_not_list_is_refused_a_missing_object(modes: Modes) -> None:
    answer = modes.invoke("log-processor", arrival("raw-metrics/2026/11/22/gone.json"))
    assert "AccessDenied" in answer["errorMessage"]


@pytest.mark.parametrize("less", [(ORCHESTRATOR, "Publish")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_run_that_may_not_tell_fails(modes: Modes) -> None:
    """Neither the notifier, which has lost its topic, nor the state machine itself."""
    modes.configure("data-collector", METRIC_SOURCES="host", ASSUME_ROLES="")
    topic = modes.break_notifier()
    try:
        execution = execute(modes.cloud, machine_arn(modes.cloud), {"time": TICK.isoformat()})
    finally:
        modes.configure("notifier", TOPIC_ARN=topic)
    assert execution["status"] == "FAILED"
    assert "sns:Publish" in execution["cause"]


@pytest.mark.parametrize("less", [(NOTIFIER, "ReadNewestRecords")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_notifier_that_may_not_read_tells_all_the_same(modes: Modes) -> None:
    assert modes.invoke("notifier", alarm_event())["published"]
    assert "The affected hosts could not be read" in control(modes.cloud, "mails")[-1]["body"]


@pytest.mark.parametrize("less", [(NOTIFIER, "Publish")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_notifier_that_may_not_publish_fails(modes: Modes) -> None:
    answer = modes.invoke("notifier", alarm_event())
    assert "AuthorizationError" in answer["errorMessage"]


@pytest.mark.parametrize("less", [(ORCHESTRATOR, "InvokeNotifier")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_run_that_may_not_invoke_the_notifier_tells_plainly(modes: Modes) -> None:
    modes.configure("data-collector", METRIC_SOURCES="host", ASSUME_ROLES="")
    execution = execute(modes.cloud, machine_arn(modes.cloud), {"time": TICK.isoformat()})
    assert execution["status"] == "SUCCEEDED", execution
    assert "the function notifier failed" in control(modes.cloud, "mails")[-1]["body"]


@pytest.mark.parametrize("less", [(CLOCK, "StartPipeline")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_clock_that_may_not_start_the_pipeline_does_not(modes: Modes) -> None:
    sfn = modes.cloud.client("stepfunctions")
    before = sfn.list_executions(stateMachineArn=machine_arn(modes.cloud))["executions"]
    requests.post(f"{modes.cloud.endpoint}/_local/tick", timeout=300)
    after = sfn.list_executions(stateMachineArn=machine_arn(modes.cloud))["executions"]
    assert modes.iam["denied"][-1]["call"]["action"] == "states:StartExecution"
    assert len(after) == len(before)


# --- Names of other stages and of `chalice deploy` --------------------------------------------


@pytest.mark.parametrize(
    ("role", "action", "resource"),
    [
        (COLLECTOR, "dynamodb:PutItem", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/InfraMetrics"),
        (COLLECTOR, "s3:PutObject", f"arn:aws:s3:::{BUCKET}%/raw-metrics/x"),
        (PROCESSOR, "s3:GetObject", f"arn:aws:s3:::{BUCKET}%/raw-metrics/x"),
        (PROCESSOR, "s3:ListBucket", f"arn:aws:s3:::{BUCKET}%"),
        (
            NOTIFIER,
            "dynamodb:Query",
            f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/InfraMetrics%/index/"
            "metric_type-timestamp-index",
        ),
        (NOTIFIER, "sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:InfraMonitoring-Alarms"),
        (
            NOTIFIER,
            "states:ListExecutions",
            f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:InfraMonitoring-Pipeline-Orch",
        ),
        (
            PROCESSOR,
            "sqs:SendMessage",
            f"arn:aws:sqs:{REGION}:{ACCOUNT}:InfraMonitoring-DeadLetters",
        ),
        (
            PROCESSOR,
            "logs:PutLogEvents",
            f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/log-processor%:log-stream:x",
        ),
    ],
)
def test_a_stage_reaches_its_own_things_and_not_another_stages(
    role: str, action: str, resource: str, modes: Modes
) -> None:
    """The policy files alone allow both; the managed policy denies the other stage's."""
    context = (("aws:ResourceAccount", ACCOUNT), ("aws:PrincipalAccount", ACCOUNT))
    policies = modes.policies_of(role)
    own = resource.replace("%", "")
    other = resource.replace("%", "-dev") if "%" in resource else f"{resource}-dev"
    assert evaluate(Call(action, own, context), policies)
    assert not evaluate(Call(action, other, context), policies)
    alone = {name: text for name, text in policies.items() if name != THIS_STAGE_ONLY}
    assert evaluate(Call(action, other, context), alone)


def test_the_guard_covers_every_service_with_a_stages_resource(modes: Modes) -> None:
    (guard,) = json.loads(modes.policies_of(COLLECTOR)[THIS_STAGE_ONLY])["Statement"]
    services = {
        use.action.partition(":")[0]
        for role in (COLLECTOR, PROCESSOR, NOTIFIER, API)
        for use in grants(modes.policies_of(role))
        if "*" in use.resource.split(":")[-1] and use.resource != "*"
    }
    assert set(guard["Action"]) == {f"{service}:*" for service in services}


@pytest.mark.parametrize("stage", ["dev", "prod"])
@pytest.mark.parametrize(
    ("file", "suffix"),
    [
        ("data-collector", "-data-collector"),
        ("log-processor", "-log-processor"),
        ("notifier", "-notifier"),
        ("api", ""),
    ],
)
def test_names_of_chalice_deploy_may_log(file: str, suffix: str, stage: str) -> None:
    policy = {file: (ROOT / ".chalice" / f"policy-{file}.json").read_text()}
    group = (
        f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/infra-monitoring-{stage}{suffix}"
    )
    assert evaluate(Call("logs:CreateLogStream", group), policy)
    assert evaluate(Call("logs:PutLogEvents", f"{group}:log-stream:x"), policy)


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_chalice_deploys_processor_may_go_on(stage: str) -> None:
    policy = {"file": (ROOT / ".chalice" / "policy-log-processor.json").read_text()}
    context = (("aws:ResourceAccount", ACCOUNT), ("aws:PrincipalAccount", ACCOUNT))
    name = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:infra-monitoring-{stage}"
    assert evaluate(Call("lambda:InvokeFunction", f"{name}-log-processor", context), policy)
    assert not evaluate(Call("lambda:InvokeFunction", f"{name}-data-collector", context), policy)


# --- Log lines --------------------------------------------------------------------------------


def test_what_was_quarantined_held_the_marker(modes: Modes) -> None:
    """Else the test below could not fail."""
    s3 = modes.cloud.client("s3")
    (held,) = s3.list_objects_v2(Bucket=BUCKET, Prefix="quarantine/")["Contents"]
    body = s3.get_object(Bucket=BUCKET, Key=held["Key"])["Body"].read().decode()
    assert len(body.splitlines()) == 3
    assert all(MARKER in line for line in body.splitlines())


@pytest.mark.parametrize(
    "forbidden",
    [MARKER, EXTERNAL_ID, r"ASIA[A-Z0-9]{16}", "(?i)secret_?access_?key", "(?i)session_?token"],
)
def test_no_log_line_holds_a_payload_or_a_credential(forbidden: str, modes: Modes) -> None:
    logs = modes.cloud.client("logs")
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    pages = [
        page
        for group in groups
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    ]
    lines = [event["message"] for page in pages for event in page["events"]]
    assert {"/aws/lambda/data-collector", "/aws/lambda/log-processor"} <= set(groups)
    assert any('"message":"processed"' in line for line in lines)
    assert not [line for line in lines if re.search(forbidden, line)]


# --- The answers are AWS's --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "code"),
    [
        ("s3", "get_object", {"Bucket": BUCKET, "Key": "a"}, "AccessDenied"),
        ("s3", "list_buckets", {}, "AccessDenied"),
        ("dynamodb", "scan", {"TableName": "InfraMetrics"}, "AccessDeniedException"),
        ("ec2", "describe_instances", {}, "UnauthorizedOperation"),
        ("sns", "list_topics", {}, "AuthorizationError"),
        ("sqs", "list_queues", {}, "AccessDenied"),
        ("lambda", "list_functions", {}, "AccessDeniedException"),
        ("stepfunctions", "list_state_machines", {}, "AccessDeniedException"),
        ("cloudwatch", "list_metrics", {}, "AccessDenied"),
        ("logs", "describe_log_groups", {}, "AccessDeniedException"),
        ("iam", "list_roles", {}, "AccessDenied"),
    ],
)
def test_each_service_refuses_in_its_own_words(
    service: str, operation: str, arguments: dict[str, Any], code: str, modes: Modes
) -> None:
    """A role without any policy."""
    iam = modes.cloud.client("iam")
    iam.create_role(RoleName="nobody", AssumeRolePolicyDocument="{}")
    try:
        role = f"arn:aws:iam::{ACCOUNT}:role/nobody"
        credentials = modes.cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="test")
        factory: Any = boto3.client
        client = factory(
            service,
            region_name=REGION,
            endpoint_url=modes.cloud.endpoint,
            aws_access_key_id=credentials["Credentials"]["AccessKeyId"],
            aws_secret_access_key=credentials["Credentials"]["SecretAccessKey"],
            aws_session_token=credentials["Credentials"]["SessionToken"],
        )
        with pytest.raises(ClientError) as refused:
            getattr(client, operation)(**arguments)
    finally:
        iam.delete_role(RoleName="nobody")
    assert refused.value.response["Error"]["Code"] == code
    assert "assumed-role/nobody/test is not authorized" in str(refused.value)
