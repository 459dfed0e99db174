"""A local cloud in which the pipeline has run in every mode once."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import boto3
import requests

from chalicelib.model import records
from chalicelib.process.writing import SINGLE_WRITE_LIMIT
from tests.conftest import ACCOUNT, BUCKET, REGION, RunningCloud, make_record
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

SCHEDULED_TIME = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

# Values that must not appear in a log line: part of a payload, and a confidential setting.
MARKER = "a-value-of-a-payload"
EXTERNAL_ID = "an-external-id"

Event = dict[str, Any]


class Modes:
    """Runs every mode of the pipeline once, in one local cloud."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self._measure_the_host()
        self._measure_a_fleet_in_chunks()
        self._measure_another_account()
        self._process_many_records()
        self._process_rejected_entries()
        self._process_a_replaced_object()
        self._process_a_missing_object()
        self._replay()
        self._compact()
        self._notify_of_alarms()
        self._notify_once_a_day()
        self._publish_without_the_notifier()
        self._fail_for_good()
        self._call_the_api()

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
        """Started by the clock."""
        requests.post(f"{self.cloud.endpoint}/_local/tick", timeout=300)
        sfn = self.cloud.client("stepfunctions")

        def ended() -> bool:
            listed = sfn.list_executions(stateMachineArn=machine_arn(self.cloud))["executions"]
            return bool(listed) and listed[0]["status"] != "RUNNING"

        wait_until(ended)
        self._settle()

    def _measure_a_fleet_in_chunks(self) -> None:
        """Two hosts in chunks of one; the previous window is restated."""
        start_instances(self.cloud.client, 2)
        self.configure("data-collector", METRIC_SOURCES="cloudwatch", CHUNK_TARGETS="1")
        self._run(SCHEDULED_TIME)

    def _replay(self) -> None:
        """Writes existing items one by one."""
        prefixes = {"prefixes": [{"prefix": f"raw-metrics/{SCHEDULED_TIME:%Y/%m/%d}/"}]}
        execution = execute(self.cloud, machine_arn(self.cloud, REPLAY), prefixes)
        assert execution["status"] == "SUCCEEDED", execution

    def _compact(self) -> None:
        """By its schedule; then a day with processed objects, and the same day again."""
        rule = f"{self.cloud.endpoint}/_local/tick/{COMPACTION}"
        requests.post(rule, timeout=300).raise_for_status()
        for _ in range(2):
            days = {"days": [f"{SCHEDULED_TIME:%Y-%m-%d}"]}
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
        self._run(SCHEDULED_TIME)

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
        """More records than the processor writes one by one."""
        now = datetime.now(UTC).replace(microsecond=0)
        many = [
            make_record(timestamp=now, resource_id=f"many-{n}")
            for n in range(SINGLE_WRITE_LIMIT + 1)
        ]
        body = b"\n".join(map(records.encode, many))
        key = "raw-metrics/2026/11/22/many.json"
        self.cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
        self._settle()

    def _process_rejected_entries(self) -> None:
        record = {"schema_version": 1, "timestamp": MARKER, "metric_type": MARKER, "labels": MARKER}
        lines = [f"{{{MARKER}", json.dumps({MARKER: MARKER}), json.dumps(record)]
        self.cloud.client("s3").put_object(
            Bucket=BUCKET, Key="raw-metrics/2026/11/22/broken.json", Body="\n".join(lines).encode()
        )
        self._settle()

    def _process_a_replaced_object(self) -> None:
        """The object has changed, so the next invocation reads it from its start."""
        event = arrival("raw-metrics/2026/11/22/broken.json")
        event["detail"]["resume"] = {"etag": '"of-the-previous-version"', "position": {}}
        assert self.invoke("log-processor", event)["status"] == "REPLACED"
        self._settle()

    def _process_a_missing_object(self) -> None:
        self.invoke("log-processor", arrival("raw-metrics/2026/11/22/gone.json"))

    def _notify_of_alarms(self) -> None:
        for name in ("HighCPU", "Page"):
            assert self.invoke("notifier", alarm_event(f"InfraMonitoring-{name}"))["published"]

    def _notify_once_a_day(self) -> None:
        self.configure("notifier", SUCCESS_DIGEST="Daily")
        self._run(SCHEDULED_TIME)
        self.configure("notifier", SUCCESS_DIGEST="EveryRun")

    def _publish_without_the_notifier(self) -> None:
        """The notifier fails, so the state machine publishes."""
        topic = self.break_notifier()
        self._run(SCHEDULED_TIME)
        self.configure("notifier", TOPIC_ARN=topic)

    def break_notifier(self) -> str:
        """Remove its topic's ARN and return it."""
        lambda_ = self.cloud.client("lambda")
        held = lambda_.get_function_configuration(FunctionName="notifier")["Environment"]
        self.configure("notifier", TOPIC_ARN="")
        return str(held["Variables"]["TOPIC_ARN"])

    def _fail_for_good(self) -> None:
        """Events that fail go to the dead-letter queue, here without retries."""
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

    def _call_the_api(self) -> None:
        """Each route once, and a named query of each table until it has finished."""
        for path in ("/health", "/metrics/{metric_type}", "/hosts", "/runs", "/alarms"):
            self.call_api("GET", path, metric_type="cpu")
        self.call_api("GET", "/hosts/{resource_id}", resource_id="many-0")
        assert self.call_api("POST", "/runs")["name"]
        for name in ("trend", "data-quality", "by-label"):
            identity = self.call_api("POST", "/queries", body={"name": name})["id"]
            response = wait_until(partial(self._ended_query, identity))
            assert response["state"] == "SUCCEEDED", response
        self._settle()

    def _ended_query(self, identity: str) -> Event:
        response = self.call_api("GET", "/queries/{identity}", identity=identity)
        return response if response["state"] not in {"QUEUED", "RUNNING"} else {}

    def call_api(self, method: str, path: str, body: Event | None = None, **names: str) -> Event:
        """The deployed function's response to a request from API Gateway."""
        event = api_request(method, path, body, names)
        response = self.invoke("infra-monitoring-api", event)
        assert response["statusCode"] in {200, 202}, response
        found: Event = json.loads(response["body"])
        return found

    def invoke(self, function: str, event: Event) -> Event:
        response = self.cloud.client("lambda").invoke(
            FunctionName=function, Payload=json.dumps(event)
        )
        payload: Event = json.loads(response["Payload"].read())
        return payload

    @property
    def iam(self) -> Event:
        seen: Event = control(self.cloud, "iam")
        return seen

    def policies_of(self, role: str) -> dict[str, str]:
        """The deployed inline and managed policies in JSON, by name."""
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
    """Running instances with CPU and network for the two windows before SCHEDULED_TIME."""
    ec2 = clients("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    started = ec2.run_instances(ImageId=image, MinCount=count, MaxCount=count)["Instances"]
    data = [
        {
            "MetricName": name,
            "Dimensions": [{"Name": "InstanceId", "Value": instance["InstanceId"]}],
            "Timestamp": SCHEDULED_TIME - timedelta(minutes=minutes),
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
    """EventBridge's event for a new object."""
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
    """API Gateway's event for a request."""
    return {
        "requestContext": {"httpMethod": method, "resourcePath": path},
        "headers": {"content-type": "application/json"},
        "multiValueQueryStringParameters": None,
        "pathParameters": names,
        "body": base64.b64encode(json.dumps(body).encode() if body else b"").decode(),
        "isBase64Encoded": True,
        "stageVariables": None,
    }
