"""Run one fixed input through the product and write everything that it stores or sends.

`python -m tests.support.persisted_driver FOLDER` writes the files to a folder; `--update` replaces
the expected ones (tests/data/persisted/expected). The driver uses only the handlers with their
events and environment variables, the API's routes and AWS's APIs, so the files depend neither on
the names of modules nor on those of functions.
"""

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import time_machine

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "persisted"
INPUTS, EXPECTED = DATA / "inputs", DATA / "expected"

ACCOUNT, REGION = "123456789012", "eu-west-1"
BUCKET, TABLE = "infra-monitoring-pipeline-data", "InfraMetrics"
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:InfraMonitoring-Pipeline-Orch"
RUN = MACHINE.replace("stateMachine", "execution")
INDEX = "metric_type-timestamp-index"

# What S3 calls an object that is put without a type, as all inputs are here.
PUT_AS = "binary/octet-stream"

TYPES = ("cpu", "memory", "disk", "network")

FIRST = datetime(2026, 11, 22, 18, 4, 10, tzinfo=UTC)
SECOND, THIRD = FIRST + timedelta(hours=3), FIRST + timedelta(hours=6)

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "STAGE": "prod",
    "POWERTOOLS_METRICS_NAMESPACE": "InfraMonitoring",
    "TABLE_NAME": TABLE,
    "BUCKET_NAME": BUCKET,
    "METRIC_SOURCES": "node_exporter",
    "WINDOW_SECONDS": "10800",
    "METRIC_PERIOD_SECONDS": "1800",
    "RETENTION_DAYS": "90",
    "MAX_AHEAD_SECONDS": "86400",
    "CPU_SAMPLE_SECONDS": "0.5",
    "CPU_THRESHOLDS": "70,80",
    "MEMORY_THRESHOLDS": "80,90",
    "DISK_THRESHOLDS": "80,90",
    "CHUNK_TARGETS": "200",
    "MAX_SERIES_PER_RUN": "20000",
    "OVERLAP_WINDOWS": "1",
    "REGIONS": "",
    "ASSUME_ROLES": "",
    "ASSUME_ROLE_EXTERNAL_ID": "",
    "EC2_TAGS": "",
    "NODE_EXPORTER_TIMEOUT_SECONDS": "5",
    "NODE_EXPORTER_MAX_BYTES": "4194304",
    "NODE_EXPORTER_TARGETS": (
        "web-1.example:9100, dns+nodes.example:9100, ec2+Monitoring=node:9100,"
        " dns+nowhere.example:9100"
    ),
    "TOPIC_ARN": f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms",
    "PAGES_TOPIC_ARN": f"arn:aws:sns:{REGION}:{ACCOUNT}:pages",
    "PIPELINE_ARN": MACHINE,
    "RUNBOOK_URL": "docs/runbooks",
    "SUCCESS_DIGEST": "EveryRun",
}

# In the order of their events; a correction comes after what it corrects.
OBJECTS = (
    "lines.json",
    "array.json",
    "document.json",
    "packed.json.gz",
    "cut.json.gz",
    "broken.json",
    "empty.json",
    "empty-array.json",
    "old.json",
    "many.json",
    "correction.json",
)

# Host names with the addresses that DNS has for them. A name with itself for an address is
# served from loopback.
HOSTS = {
    "web-1.example": ("web-1.example",),
    "nodes.example": ("192.0.2.1",),
    "192.0.2.1": ("192.0.2.1",),
    "10.0.0.7": ("10.0.0.7",),
}

Item = dict[str, Any]
Event = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="write all that the handlers store and send")
    parser.add_argument("folder", nargs="?", type=Path, help="where to write the files")
    parser.add_argument("--update", action="store_true", help="write the expected files anew")
    arguments = parser.parse_args()
    folder = EXPECTED if arguments.update else arguments.folder
    if folder is None:
        parser.error("name a folder, or give --update")
    files = run()
    if arguments.update:
        shutil.rmtree(EXPECTED, ignore_errors=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def run() -> dict[str, bytes]:
    """The files by their names."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "POWERTOOLS_"))]:
        del os.environ[name]
    os.environ.update(ENVIRONMENT)
    printed = io.StringIO()
    with (
        time_machine.travel(FIRST, tick=False) as clock,
        patch("time.perf_counter", ProductClock()),
        contextlib.redirect_stdout(printed),
        scraped_hosts() as scrapes,
        tempfile.TemporaryDirectory() as folder,
    ):
        # Imported only here: imports bind what is patched, and `app` reads variables.
        import botocore.session  # noqa: PLC0415
        from moto import mock_aws  # noqa: PLC0415

        # Each session reads the services' models anew otherwise.
        botocore.session.create_loader = cache(botocore.session.create_loader)
        with (
            mock_aws(),
            patch("moto.ec2.models.instances.random_instance_id", instance_ids()),
            patch("moto.cloudwatch.models.are_dimensions_same", are_same),
        ):
            pipeline = Pipeline(clock, scrapes, printed, Path(folder))
            pipeline.drive()
            return pipeline.files()


class ProductClock:
    """`time.perf_counter` with fixed values: an eighth of a second passes between two readings.

    Only readings by this project's code count; the number of others depends on library versions.
    """

    def __init__(self) -> None:
        self._readings = 0

    def __call__(self) -> float:
        caller = Path(sys._getframe(1).f_code.co_filename)
        own = caller.is_relative_to(ROOT) and ".venv" not in caller.parts
        self._readings += own
        return self._readings / 8


def instance_ids() -> Callable[[], str]:
    """Fixed IDs for moto's instances: its own are random, and records' identities contain them."""
    numbers = iter(range(1, 100))
    return lambda: f"i-{next(numbers):017x}"


def are_same(one: Iterable[Any], other: Iterable[Any]) -> bool:
    """Whether two metrics have the same dimensions; moto's version lists duplicates."""
    return {(each.name, each.value) for each in one} == {(each.name, each.value) for each in other}


@contextlib.contextmanager
def scraped_hosts() -> Iterator[dict[str, str]]:
    """Serve the recorded scrapes on loopback; `folder` in the result selects the recording."""
    texts = {"folder": "first"}

    class Exporter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers["Host"].rpartition(":")[0]
            path = INPUTS / "scrapes" / texts["folder"] / f"{host}.txt"
            if not path.exists():
                self.send_error(500)
                return
            body = path.read_bytes()
            if "gzip" in self.headers["Accept-Encoding"] and host == "192.0.2.1":
                body = gzip.compress(body)
                encoding = {"Content-Encoding": "gzip"}
            else:
                encoding = {}
            self.send_response(200)
            for name, value in {**encoding, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    thread = threading.Thread(target=partial(server.serve_forever, 0.02))
    thread.start()

    def getaddrinfo(host: str, port: Any, *_: Any, **__: Any) -> Any:
        if host not in HOSTS:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = HOSTS[host]
        if addresses == (host,):
            addresses, port = ("127.0.0.1",), server.server_address[1]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in addresses
        ]

    try:
        with patch("socket.getaddrinfo", getaddrinfo):
            yield texts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Pipeline:
    """The app on moto, its clock, and everything that is recorded for the files."""

    def __init__(
        self,
        clock: time_machine.Traveller,
        scrapes: dict[str, str],
        printed: io.StringIO,
        folder: Path,
    ) -> None:
        import boto3  # noqa: PLC0415 - see `run`
        from chalice.test import Client  # noqa: PLC0415

        import app  # noqa: PLC0415

        self._app = app
        self._clock = clock
        self._scrapes = scrapes
        self._printed = printed
        client: Any = boto3.client
        self._aws: Callable[[str], Any] = client
        self._client = Client(app.app, project_dir=str(folder))
        self._s3, self._dynamodb = self._aws("s3"), self._aws("dynamodb")
        self._seen: set[str] = set()
        self._collected: list[Item] = []
        self._answers: list[dict[str, Any]] = []
        self._responses: list[dict[str, Any]] = []
        self._mails: list[str] = []
        self._messages: list[dict[str, Any]] = []
        self._summaries: list[str] = []
        self._metrics: list[dict[str, Any]] = []
        self._logs: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []
        self._settled: dict[str, str] | None = None

    # --- What is driven ---------------------------------------------------------------------

    def drive(self) -> None:
        self._make_resources()
        self._collect_twice()
        self._collect_in_chunks()
        self._process_objects()
        self._at(THIRD + timedelta(minutes=6))
        self._ask_api()
        self._notify_of_alarms()
        self._notify_of_runs()

    def _make_resources(self) -> None:
        self._s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        self._dynamodb.create_table(
            TableName=TABLE,
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"}
                for name in ("metric_id", "metric_type", "timestamp")
            ],
            KeySchema=_keys("metric_id"),
            GlobalSecondaryIndexes=[
                {
                    "IndexName": INDEX,
                    "KeySchema": _keys("metric_type"),
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        self._make_topics()
        self._make_instances()
        self._make_alarms()
        self._make_queries()
        self._aws("stepfunctions").create_state_machine(
            name=MACHINE.rpartition(":")[2],
            definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/pipeline",
        )

    def _make_topics(self) -> None:
        for name in ("alarms", "pages"):
            self._aws("sns").create_topic(Name=name)

    def _make_instances(self) -> None:
        ec2 = self._aws("ec2")
        for number, tags in enumerate(
            ({"Name": "web", "Monitoring": "node"}, {"Name": "Datenbank Köln"}, {})
        ):
            specifications = [
                {
                    "ResourceType": "instance",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ]
            ec2.run_instances(
                ImageId="ami-12c6146b",
                MinCount=1,
                MaxCount=1,
                InstanceType="t3.micro",
                PrivateIpAddress=f"10.0.0.{7 + number}",
                TagSpecifications=specifications if tags else [],
            )

    def _make_alarms(self) -> None:
        cloudwatch = self._aws("cloudwatch")
        for name, state in (
            ("HighCPU", "ALARM"),
            ("DiskNearlyFull", "OK"),
            ("SomethingElse", "INSUFFICIENT_DATA"),
            ("HighCPU-dev", "ALARM"),
        ):
            cloudwatch.put_metric_alarm(
                AlarmName=f"InfraMonitoring-{name}",
                AlarmDescription=f"Of the template: {name}.",
                Namespace="InfraMonitoring",
                MetricName="Any",
                Statistic="Maximum",
                Period=10_800,
                EvaluationPeriods=1,
                Threshold=15,
                ComparisonOperator="GreaterThanOrEqualToThreshold",
            )
            cloudwatch.set_alarm_state(
                AlarmName=f"InfraMonitoring-{name}", StateValue=state, StateReason="as given"
            )

    def _make_queries(self) -> None:
        athena = self._aws("athena")
        athena.create_work_group(
            Name="infra-monitoring",
            Configuration={"ResultConfiguration": {"OutputLocation": f"s3://{BUCKET}/answers/"}},
        )
        athena.create_named_query(
            Name="busiest_hosts",
            Description=(
                "The busiest hosts\nparameter: days integer 7\nparameter: host string\n"
                "parameter: above number 80"
            ),
            Database="infra_monitoring",
            QueryString="SELECT * FROM metrics WHERE day > ? AND host = ? AND value > ?",
            WorkGroup="infra-monitoring",
        )

    def _collect_twice(self) -> None:
        """Collect one metric type at a time, as the state machine does, then all at once.

        The second run restates the first window, because some of its points came late.
        """
        settings = {"METRIC_SOURCES": "node_exporter,cloudwatch"}
        self._put_metrics(FIRST)
        for name in TYPES:
            detail = {"metric_type": name, "execution_id": "run-1"}
            self._collect(FIRST, detail, **settings)
        self._collected = self._items()
        self._process_new()
        self._scrapes["folder"] = "second"
        self._put_metrics(FIRST, late=True)
        self._put_metrics(SECOND)
        self._collect(SECOND, {}, **settings)
        self._process_new()

    def _collect_in_chunks(self) -> None:
        """Collect as the state machine does for a large fleet: plan, chunks, merge."""
        self._put_metrics(THIRD)
        settings = {"METRIC_SOURCES": "cloudwatch", "CHUNK_TARGETS": "2"}
        detail = {"metric_type": "cpu", "fan_out": True, "execution_id": "run-3"}
        (planned,) = self._collect(THIRD, detail, **settings)["results"]
        done = [
            self._invoke("data-collector", chunk, THIRD, **settings)["results"][0]
            for chunk in planned["chunks"]
        ]
        self._collect(THIRD, {"merge": [planned | {"chunk_results": done}]}, **settings)
        failed = [*done[:-1], {"status": "FAILED", "error": "Lambda.Unknown", "cause": "no answer"}]
        self._collect(THIRD, {"merge": [planned | {"chunk_results": failed}]}, **settings)
        self._process_new()

    def _process_objects(self) -> None:
        for name in OBJECTS:
            body = (INPUTS / "objects" / name).read_bytes()
            self._at(THIRD + timedelta(minutes=2))
            self._put_raw(f"2026/11/22/{name}", body)
            self._process_new()
        self._put_raw("without a day/ödd näme.v2.json", self._object("document.json"))
        self._process_new()
        self._process_resumed()
        # A repeated event, one whose object is missing, one for another prefix.
        for key in ("raw-metrics/2026/11/22/lines.json", "raw-metrics/gone.json", "other/a.json"):
            self._process(key)

    def _process_resumed(self) -> None:
        """Process the rest of an object: the event may come from an earlier release."""
        body, key = self._object("resumed.json"), "raw-metrics/2026/11/22/resumed.json"
        self._put_raw(key.removeprefix("raw-metrics/"), body)
        self._seen.add(key)
        mark = {
            "etag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
            "position": {
                "form": "lines",
                "offset": body.index(b"\n") + 1,
                "line": 2,
                "fault": "",
                "packed": False,
            },
            "batch": 1,
            "continuation": 1,
            "records": 1,
            "rejected": 0,
            "rejected_bytes": 0,
        }
        self._process(key, resume=mark)

    def _ask_api(self) -> None:
        span = "from=2026-11-22T18:00:00Z&to=2026-11-23T00:00:00Z"
        for path in (
            "/hosts",
            f"/hosts/web-1.example:9100?{span.replace('18', '20')}",
            f"/hosts/i-00000000000000002?{span.replace('18', '23')}",
            f"/hosts/probe%2Fmoment?{span}",
            "/hosts/nobody",
            f"/metrics/network?{span}&resource_id=192.0.2.1:9100",
            "/metrics/cpu?limit=0",
            "/metrics/gpu",
        ):
            self._ask("GET", path)
        page = self._ask("GET", f"/metrics/cpu?{span}&limit=2")
        self._ask("GET", f"/metrics/cpu?limit=1&cursor={page['body']['cursor']}")
        self._ask_for_runs()
        self._ask("GET", "/alarms")
        self._ask_queries()

    def _ask_for_runs(self) -> None:
        states = self._aws("stepfunctions")
        self._at(SECOND)
        stopped = states.start_execution(stateMachineArn=MACHINE, name="tick-1", input="{}")
        self._at(SECOND + timedelta(seconds=30))
        states.stop_execution(executionArn=stopped["executionArn"])
        self._at(THIRD + timedelta(minutes=6))
        with patch(
            "moto.stepfunctions.models.Execution.get_execution_history",
            lambda *_: _history(self._results),
        ):
            self._ask("POST", "/runs")
            self._ask("GET", "/runs?limit=5")
            self._ask("POST", "/runs")
        newest = states.list_executions(stateMachineArn=MACHINE)["executions"][0]
        started = states.describe_execution(executionArn=newest["executionArn"])
        self._responses.append({"execution": {each: started[each] for each in ("name", "input")}})

    def _ask_queries(self) -> None:
        self._ask("GET", "/queries")
        self._ask("POST", "/queries", json.dumps({"name": "busiest_hosts"}))
        asked = {"name": "busiest_hosts", "parameters": {"host": "it's", "above": 1.5, "days": 3}}
        answer = self._ask("POST", "/queries", json.dumps(asked))
        execution = self._aws("athena").get_query_execution(QueryExecutionId=answer["body"]["id"])
        names = ("Query", "ExecutionParameters", "QueryExecutionContext", "WorkGroup")
        self._responses.append(
            {"query": {each: execution["QueryExecution"].get(each) for each in names}}
        )
        # moto's execution ID is random.
        answer["body"]["id"] = "<id>"
        del answer["sha256"]

    def _notify_of_alarms(self) -> None:
        for name, threshold in (
            ("HighCPU", 15.0),
            ("HighMemory", 15.0),
            ("DiskNearlyFull", 90.0),
            ("DiskFillsUp", 72.0),
            ("HostsMissing", 0.0),
            ("NotKnownHere", 1.0),
        ):
            self._notify(_alarm_event(name, threshold=threshold))
        self._notify(_alarm_event("HighCPU", state="OK", before="ALARM"))
        parts = [{"arn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:InfraMonitoring-HighCPU"}]
        self._notify(_alarm_event("Page", triggeringAlarms=parts))
        self._notify(_alarm_event("Page", state="OK", before="ALARM"))
        self._notify(_alarm_event("HighCPU", state="INSUFFICIENT_DATA"))
        self._notify(_alarm_event("HighCPU-dev"))
        self._notify(_alarm_event("HighCPU-dev"), STAGE="dev")

    def _notify_of_runs(self) -> None:
        good = self._results[:4]
        bad = [
            {
                "metric_type": "network",
                "status": "FAILED",
                "error": "Lambda.Unknown",
                "cause": json.dumps({"errorType": "Runtime", "errorMessage": "out of memory"}),
            }
        ]
        for digest in ("EveryRun", "Daily", "Never"):
            self._notify(_run_event("Run Succeeded", good), SUCCESS_DIGEST=digest)
        self._notify(_run_event("Run Failed", [*good[:3], *bad]), SUCCESS_DIGEST="Never")

    # --- One call each ----------------------------------------------------------------------

    def _at(self, moment: datetime) -> None:
        self._clock.move_to(moment + timedelta(seconds=2, microseconds=345_678))

    def _settle(self, changes: Mapping[str, str]) -> None:
        """Set the environment variables, and clear what `app` cached for other ones."""
        if changes == self._settled:
            return
        self._settled = dict(changes)
        os.environ.update(ENVIRONMENT)
        os.environ.update(changes)
        for each in vars(self._app).values():
            if callable(forget := getattr(each, "cache_clear", None)):
                forget()

    def _invoke(self, function: str, event: Event, at: datetime, **changes: str) -> Any:
        self._at(at)
        self._settle(changes)
        began = self._printed.tell()
        answer = json.loads(json.dumps(self._client.lambda_.invoke(function, event).payload))
        self._read_printed(began, answer)
        recorded = json.loads(json.dumps(answer))
        for each in recorded.get("results", ()):
            if summary := each.pop("summary", ""):
                self._summaries.append(summary)
        made_of_answers = event["detail"].keys() & {"merge", "results"}
        asked = {} if made_of_answers else {"detail": event["detail"]}
        self._answers.append({"function": function, **asked, "answer": recorded})
        return answer

    def _collect(self, tick: datetime, detail: Event, **changes: str) -> Any:
        event = _event("aws.events", "Scheduled Event", detail, tick)
        answer = self._invoke("data-collector", event, tick, **changes)
        self._results += [each for each in answer["results"] if each["status"] == "SUCCEEDED"]
        return answer

    def _process_new(self) -> None:
        """Process the raw objects that are new."""
        for key in self._keys("raw-metrics/"):
            if key not in self._seen:
                self._seen.add(key)
                self._process(key)

    def _process(self, key: str, **detail: Any) -> None:
        now = datetime.now(UTC)
        event = _event(
            "aws.s3",
            "Object Created",
            {"bucket": {"name": BUCKET}, "object": {"key": key}, **detail},
            now,
        )
        self._invoke("log-processor", event, now.replace(microsecond=0) + timedelta(seconds=3))

    def _notify(self, event: Event, **changes: str) -> None:
        before = {name: len(sent) for name, sent in self._sent().items()}
        self._invoke("notifier", event, THIRD + timedelta(minutes=6), **changes)
        for topic, sent in self._sent().items():
            for _, message, subject, attributes, *_ in sent[before[topic] :]:
                by_protocol = json.loads(message)
                text = by_protocol.pop("email")
                if by_protocol.pop("default") != text:
                    raise AssertionError("the mail's text is not the default text")
                self._mails.append(f"Topic: {topic}\nSubject: {subject}\n\n{text}")
                facts = {name: json.loads(each) for name, each in by_protocol.items()}
                self._messages.append(
                    {
                        "topic": topic,
                        "attributes": {name: each["Value"] for name, each in attributes.items()},
                        "protocols": sorted(facts),
                        "message": _only(facts.values()),
                    }
                )

    def _sent(self) -> dict[str, list[Any]]:
        """What was published to each topic, with the texts for all protocols."""
        from moto.backends import get_backend  # noqa: PLC0415 - see `run`

        topics = get_backend("sns")[ACCOUNT][REGION].topics
        return {topic.name: topic.sent_notifications for topic in topics.values()}

    def _ask(self, method: str, path: str, body: str = "") -> dict[str, Any]:
        self._settle({})
        answer = self._client.http.request(
            method,
            path,
            headers={"Host": "localhost", "Content-Type": "application/json"},
            body=body.encode(),
        )
        response = {
            "request": f"{method} {path}",
            **({"asked": json.loads(body)} if body else {}),
            "status": answer.status_code,
            "headers": dict(sorted(answer.headers.items())),
            "sha256": hashlib.sha256(answer.body).hexdigest(),
            "body": json.loads(answer.body),
        }
        self._responses.append(response)
        return response

    def _put_metrics(self, tick: datetime, *, late: bool = False) -> None:
        """Put one window of the instances' points; the last two only with `late`."""
        cloudwatch = self._aws("cloudwatch")
        end = tick.replace(minute=0, second=0)
        for namespace, name, dimensions, value in _metrics():
            moments = [end - timedelta(minutes=30 * number) for number in range(6, 0, -1)]
            data = [
                {
                    "MetricName": name,
                    "Dimensions": [{"Name": key, "Value": each} for key, each in dimensions],
                    "Timestamp": moment + timedelta(seconds=60 * more),
                    # Sums of eighths are exact, whichever way a version of Python adds them up.
                    "Value": value + 7.25 * (moment.hour % 3) + (moment.minute + 9 * more) / 8,
                }
                for moment in (moments[-2:] if late else moments[:-2])
                for more in (0, 5)
            ]
            cloudwatch.put_metric_data(Namespace=namespace, MetricData=data)

    def _put_raw(self, name: str, body: bytes) -> None:
        self._s3.put_object(Bucket=BUCKET, Key=f"raw-metrics/{name}", Body=body)

    def _object(self, name: str) -> bytes:
        return (INPUTS / "objects" / name).read_bytes()

    # --- What is there afterwards -----------------------------------------------------------

    def _items(self) -> list[Item]:
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=TABLE)
        return [item for page in pages for item in page["Items"]]

    def _keys(self, prefix: str = "") -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def files(self) -> dict[str, bytes]:
        mails = [*self._mails, *(f"Summary:\n\n{each}\n" for each in self._summaries)]
        return {
            "items_collected.json": _items_text(self._collected),
            "items.json": _items_text(self._items()),
            "answers.json": _document(self._answers),
            "api.json": _document(self._responses),
            "messages.json": _document(self._messages),
            "mails.txt": f"{'-' * 80}\n".join(mails).encode(),
            "emf.txt": _shortened(_lines(sorted(self._metrics, key=sorted))),
            "logs.jsonl": _lines(self._logs).encode(),
            **self._object_files(),
        }

    def _read_printed(self, began: int, answer: Mapping[str, Any]) -> None:
        """Keep metrics, and the fields of log lines that are neither random nor in the answer."""
        for text in self._printed.getvalue()[began:].splitlines():
            line = json.loads(text)
            if "_aws" in line:
                _check_memory(line)
                self._metrics.append(line)
            else:
                again = [name for name in line if name in answer and line[name] == answer[name]]
                # `location` is a function's name and its line.
                unstable = ("location", "function_request_id", "xray_trace_id")
                self._logs.append(_without(line, *again, *unstable))

    def _object_files(self) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        described: dict[str, Any] = {}
        for key in self._keys():
            answer = self._s3.get_object(Bucket=BUCKET, Key=key)
            body: bytes = answer["Body"].read()
            about: dict[str, Any] = {"content_type": answer["ContentType"]}
            if key.startswith("processed/"):
                # Compressed bytes depend on zlib's version; these contain the time, which is 0.
                about["gzip_begins"] = body[:8].hex()
                files[f"{key}.txt"] = _shortened(gzip.decompress(body).decode())
            elif key.startswith(("quarantine/", "plans/")) or answer["ContentType"] != PUT_AS:
                files[key] = body
            described[key] = about
        return {**files, "objects.json": _document(described)}


def _shortened(text: str) -> bytes:
    """Each line as `N|rest`: its first N characters are those of the line before.

    The lines of one record have most of their columns in common. No information is lost.
    """
    recorded, before = [], ""
    for line in text.split("\n"):
        same = line[: _same(before, line)].rfind(',"') + 1
        recorded.append(f"{same}|{line[same:]}")
        before = line
    return "\n".join(recorded).encode()


def _same(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    different = (place for place, (left, right) in enumerate(pairs) if left != right)
    return next(different, min(len(one), len(other)))


def _items_text(items: list[Item]) -> bytes:
    """The items in the order of their keys; numbers keep the text that DynamoDB has."""
    ordered = sorted(items, key=lambda each: (each["metric_id"]["S"], each["timestamp"]["S"]))
    return _document([{name: _plain(item[name]) for name in sorted(item)} for item in ordered])


class _Number(NamedTuple):
    """A DynamoDB number, written without conversion."""

    text: str


def _plain(attribute: Item) -> Any:
    """An attribute without its type, which follows from the form: there are no sets or binaries."""
    ((kind, value),) = attribute.items()
    match kind:
        case "M":
            return {name: _plain(each) for name, each in sorted(value.items())}
        case "N":
            return _Number(value)
        case "S" | "BOOL":
            return value
        case "NULL":
            return None
    raise AssertionError(f"there is a {kind}")


def _document(value: Any) -> bytes:
    return f"{_pretty(value)}\n".encode()


def _pretty(value: Any, indent: str = "") -> str:
    """JSON that puts a value on one line where it fits."""
    if isinstance(value, _Number):
        return value.text
    if not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    deeper = f"{indent} "
    if isinstance(value, dict):
        parts = [f"{json.dumps(k, ensure_ascii=False)}:{_pretty(value[k], deeper)}" for k in value]
        first, last = "{", "}"
    else:
        parts = [_pretty(each, deeper) for each in value]
        first, last = "[", "]"
    if sum(map(len, parts)) + len(parts) < 160 and not any("\n" in each for each in parts):
        return first + ",".join(parts) + last
    return f"{first}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{last}"


def _lines(values: Iterable[dict[str, Any]]) -> str:
    write = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
    return "".join(f"{write(each)}\n" for each in values)


def _check_memory(line: dict[str, Any]) -> None:
    """Replace the memory of the process, which differs from run to run."""
    if "LambdaMemoryUsed" in line:
        (used,) = line["LambdaMemoryUsed"]
        if not 1 < used < 4096:
            raise AssertionError(f"{used} is no number of megabytes")
        line["LambdaMemoryUsed"] = "<megabytes>"


def _without(line: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in names}


def _only(values: Any) -> Any:
    first, *others = values
    if any(each != first for each in others):
        raise AssertionError("machines get different messages")
    return first


# --- Events and data ------------------------------------------------------------------------


def _keys(name: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": name, "KeyType": "HASH"},
        {"AttributeName": "timestamp", "KeyType": "RANGE"},
    ]


def _metrics() -> Iterator[tuple[str, str, list[tuple[str, str]], float]]:
    """Namespace, name, dimensions and base value of each series in CloudWatch."""
    web, database, silent = (f"i-{number:017x}" for number in (1, 2, 3))
    for instance, value in ((web, 5.5), (database, 71.25)):
        here = [("InstanceId", instance)]
        yield "AWS/EC2", "CPUUtilization", here, value
        yield "AWS/EC2", "NetworkIn", here, value * 1e6
        yield "AWS/EC2", "NetworkOut", here, value * 1e3
    agent = [("InstanceId", database), ("InstanceType", "t3.micro")]
    yield "CWAgent", "mem_used_percent", agent, 74.0
    yield "CWAgent", "mem_used", agent, 3e9
    for path, value in (("/", 40.0), ("/data", 75.5)):
        where = [("path", path), *agent, ("device", "nvme0n1p1"), ("fstype", "xfs")]
        yield "CWAgent", "disk_used_percent", where, value
    yield "CWAgent", "disk_used_percent", [*where[1:], ("path", "/proc")], 0.0
    yield "AWS/EC2", "StatusCheckFailed", [("InstanceId", silent)], 0.0


def _event(source: str, kind: str, detail: Event, at: datetime) -> Event:
    return {
        "version": "0",
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": kind,
        "source": source,
        "account": ACCOUNT,
        "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": [],
        "detail": detail,
    }


def _alarm_event(
    name: str,
    *,
    state: str = "ALARM",
    before: str = "OK",
    threshold: float | None = None,
    **data: Any,
) -> Event:
    """In the form of AWS's documentation of alarm events and EventBridge."""
    if threshold is not None:
        data["threshold"] = threshold
    detail = {
        "alarmName": f"InfraMonitoring-{name}",
        "configuration": {"description": f"Of the template: {name}.", "metrics": []},
        "previousState": {"value": before, "timestamp": "2026-11-22T06:00:40.000+0000"},
        "state": {
            "value": state,
            "timestamp": "2026-11-23T00:08:40.989+0000",
            "reason": "Threshold Crossed: 1 out of the last 1 datapoints was greater.",
            "reasonData": json.dumps({"version": "1.0", "period": 10800, **data}),
        },
    }
    return _event("aws.cloudwatch", "CloudWatch Alarm State Change", detail, THIRD)


def _run_event(kind: str, results: list[dict[str, Any]]) -> Event:
    detail = {"execution": f"{RUN}:third", "results": results}
    return _event("infra-monitoring", kind, detail, SECOND)


def _history(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An execution's events: two branches succeeded, one failed, one is running."""
    states = ("InvokeCPUCollector", "InvokeMemoryCollector", "InvokeDiskCollector")
    events = [
        _state(number, "Entered", name)
        for number, name in enumerate((*states, "InvokeNetworkCollector"))
    ]
    for number, (name, result) in enumerate(zip(states[:2], results, strict=False)):
        events.append(_state(5 + number, "Exited", name, result))
    bad = {"metric_type": "disk", "status": "FAILED", "error": "Any", "cause": "no answer"}
    events.append(_state(9, "Exited", "DiskCollectorFailed", bad))
    return events


def _state(seconds: int, what: str, name: str, output: Any = None) -> dict[str, Any]:
    details = {"name": name, **({"output": json.dumps(output)} if output else {})}
    return {
        "timestamp": SECOND + timedelta(seconds=seconds),
        "type": f"TaskState{what}",
        "id": seconds + 1,
        "previousEventId": seconds,
        f"state{what}EventDetails": details,
    }


if __name__ == "__main__":
    main()
