"""The local cloud: starts moto's server and the functions, deploys the stacks, stops them."""

import contextlib
import faulthandler
import hashlib
import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.config import default_user_config
from moto.dynamodb.models import dynamodb_backends
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from . import moto_fixes
from .athena import query_executions
from .clients import ADMINISTRATOR, REGION, create_client
from .cloudformation import resources
from .cloudwatch import alarms, metric_index
from .cloudwatch.alarm_changes import change_publisher
from .cloudwatch.clock import Clock
from .cloudwatch.metrics import Metrics
from .cloudwatch.service_metrics import ServiceMetrics
from .control_api import with_control_api
from .dynamodb.capacity import Capacity, with_capacity
from .dynamodb.fast_reads import with_fast_reads
from .ec2 import instances
from .errors import LocalCloudError
from .iam import enforcement
from .lambda_.functions import Functions
from .lambda_.invocations import ASYNC_RETRY_SECONDS
from .package import (
    MAINTENANCE,
    OBSERVABILITY,
    QUERIES,
    ROOT,
    STORAGE,
    Template,
    package,
    transform,
    without_rest_api,
)
from .stepfunctions import athena_tasks, distributed_map
from .wiring import Mail, Wiring

# The `local` stage in .chalice/config.json connects to this port.
DEFAULT_PORT = 4566
ACCOUNT = "123456789012"
HOST = "127.0.0.1"
STAGE = "local"

STORAGE_STACK = "infra-monitoring-storage"
APP_STACK = "infra-monitoring"
OBSERVABILITY_STACK = "infra-monitoring-observability"
QUERIES_STACK = "infra-monitoring-queries"
MAINTENANCE_STACK = "infra-monitoring-maintenance"
STACKS = (STORAGE_STACK, QUERIES_STACK, APP_STACK, MAINTENANCE_STACK, OBSERVABILITY_STACK)
_ARTIFACTS = "infra-monitoring-artifacts"

# Created by `make setup`; has only what Lambda's runtime has: boto3 and AWS's runtime client.
LAMBDA_PYTHON = ROOT / ".local" / "lambda" / "bin" / "python"

# Stopping takes about three seconds. After this time, the process prints the stacks of all
# threads and exits; the functions' processes then exit too.
_STOP_SECONDS = 300

Progress = Callable[[str], None]


class LocalCloud:
    """A local cloud with the deployed app, as a context manager.

    Args:
        port: port on the loopback interface; 0 selects a free one.
        email: subscriber of the notifications.
        settings: overrides of the functions' environment variables.
        progress: called with a description of each step.
        on_mail: called with each captured e-mail.
        async_retry_seconds: delays before the retries of asynchronous invocations.
        alarm_seconds: interval at which the alarms are evaluated.
        thresholds: parameters of infra/observability.yaml.
        clock: CloudWatch's clock.
        proxy: maps the cloud's endpoint to the endpoint that the functions use, for tests that
            start a proxy in front of the cloud.

    Attributes:
        endpoint: URL of every AWS API.
        faults: exceptions in the cloud itself, each in one line.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        email: str = "you@example.com",
        settings: Mapping[str, str] | None = None,
        progress: Progress = lambda _: None,
        on_mail: Callable[[Mail], None] = lambda _: None,
        async_retry_seconds: Sequence[float] = ASYNC_RETRY_SECONDS,
        alarm_seconds: float = alarms.INTERVAL_SECONDS,
        thresholds: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        proxy: Callable[[str], str] = str,
    ) -> None:
        self._port = port
        self._email = email
        self._settings = dict(settings or {})
        self._progress = progress
        self._on_mail = on_mail
        self._async_retry_seconds = async_retry_seconds
        self._alarm_seconds = alarm_seconds
        self._thresholds = dict(thresholds or {})
        self.clock = clock or Clock()
        self._proxy = proxy
        self._exit = contextlib.ExitStack()
        self._cached_clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self.endpoint = ""
        self.faults: list[str] = []
        self.iam = enforcement.Iam()
        self.metrics: Metrics
        self.functions: Functions
        self.wiring: Wiring
        self.alarms: alarms.Alarms

    def __enter__(self) -> Self:
        try:
            self._start()
            self._deploy()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        faulthandler.dump_traceback_later(_STOP_SECONDS, exit=True)
        try:
            self._exit.close()
        finally:
            faulthandler.cancel_dump_traceback_later()

    def client(self, service: str, role_arn: str = "") -> Any:
        """Return a boto3 client, with the administrator's credentials or with those of a role."""
        with self._lock:
            if (service, role_arn) not in self._cached_clients:
                session = self.iam.assume(role_arn, "service") if role_arn else None
                self._cached_clients[service, role_arn] = create_client(
                    service, self.endpoint, session.credentials if session else ADMINISTRATOR
                )
            return self._cached_clients[service, role_arn]

    # --- Start --------------------------------------------------------------------------

    def _start(self) -> None:
        if not LAMBDA_PYTHON.exists():
            raise LocalCloudError(f"interpreter {LAMBDA_PYTHON} does not exist: run `make setup`")
        server_socket = _listen(self._port)
        self._exit.callback(server_socket.close)
        port = server_socket.getsockname()[1]
        self.endpoint = f"http://{HOST}:{port}"
        work = self._exit.enter_context(tempfile.TemporaryDirectory(prefix="infra-monitoring-"))
        self._work = Path(work)
        # moto's state is global; an earlier cloud in this process may have left some.
        moto_api_backend.reset()
        backend = cloudwatch_backends[ACCOUNT][REGION]
        self.metrics = Metrics(backend)
        self._service_metrics = ServiceMetrics(self.metrics, self.clock)
        self.functions = Functions(
            python=LAMBDA_PYTHON,
            work=self._work / "functions",
            endpoint=self._proxy(self.endpoint),
            log=self._put_log_lines,
            assume=self.iam.assume,
            on_invocation=self._service_metrics.record_invocation,
        )
        self.wiring = Wiring(
            self.client,
            self.functions,
            self._service_metrics,
            on_mail=self._on_mail,
            async_retry_seconds=self._async_retry_seconds,
        )
        self._progress("starting moto's server")
        self._serve(server_socket, port)
        self._replace_parts_of_moto()
        self.alarms = alarms.Alarms(
            backend, self.metrics, on_change=change_publisher(self.client), now=self.clock.now
        )
        self._exit.callback(self.functions.close)
        self._exit.callback(self.wiring.close)
        self._exit.callback(self.alarms.close)

    def _replace_parts_of_moto(self) -> None:
        # Keeps a reference: moto finds resource types only while their classes exist.
        self._resource_types = resources.install(self.client)
        moto_fixes.install()
        distributed_map.install()
        athena_tasks.install()
        metric_index.install()
        alarms.install()
        instances.install()
        enforcement.install(self.iam)
        self.wiring.install()
        self._exit.callback(
            query_executions.install(self.client, self.iam.role_of, self._work / "athena")
        )

    def _serve(self, server_socket: socket.socket, port: int) -> None:
        # moto's Step Functions calls other services at this port.
        os.environ["MOTO_PORT"] = str(port)
        default_user_config["stepfunctions"] = {"execute_state_machine": True}
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        dynamodb = dynamodb_backends[ACCOUNT][REGION]
        moto = DomainDispatcherApplication(create_backend_app)
        application = with_capacity(
            enforcement.with_iam(with_fast_reads(moto, dynamodb), self.iam),
            Capacity(dynamodb),
            self._service_metrics,
        )
        application = with_control_api(application, self)
        server = make_server(
            HOST,
            port,
            application,
            threaded=True,
            request_handler=MotoRequestHandler,
            fd=server_socket.fileno(),
        )
        server.daemon_threads = True  # type: ignore[attr-defined]  # an attribute of ThreadingMixIn
        threading.Thread(target=server.serve_forever, daemon=True, name="moto").start()
        self._exit.callback(server.shutdown)

    def _put_log_lines(self, role_arn: str, group: str, stream: str, lines: Iterable[str]) -> None:
        """Write log lines; as on AWS, an error does not fail the invocation."""
        try:
            self._put_log_events(self.client("logs", role_arn), group, stream, lines)
            self._service_metrics.record_log_lines(group, lines)
        except (ClientError, BotoCoreError) as error:
            self.faults.append(f"log lines of {group} were lost: {error}")

    def _put_log_events(self, logs: Any, group: str, stream: str, lines: Iterable[str]) -> None:
        # As on AWS, a function creates a missing log group if its role has the permission.
        try:
            with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_stream(logGroupName=group, logStreamName=stream)
        except logs.exceptions.ResourceNotFoundException:
            logs.create_log_group(logGroupName=group)
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in lines if line]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)

    # --- Deploy -------------------------------------------------------------------------

    def _deploy(self) -> None:
        self._progress("packaging the app and deploying infra/observability.yaml")
        # In parallel: the stack depends on no other, and packaging runs in a process.
        with ThreadPoolExecutor(max_workers=1) as pool:
            observability = pool.submit(
                self._create_stack,
                OBSERVABILITY_STACK,
                OBSERVABILITY.read_text(),
                {"Suffix": "", "AlarmSet": "All"} | self._thresholds,
            )
            built = package(STAGE, self._work / "package", region=REGION)
            observability.result()
        self._override_settings(built.template)
        self._progress("deploying infra/storage.yaml")
        self._create_stack(
            STORAGE_STACK,
            STORAGE.read_text(),
            {"AppendAccountId": "false", "NotificationEmail": self._email},
        )
        self._progress("deploying infra/queries.yaml")
        self._create_stack(QUERIES_STACK, QUERIES.read_text(), {"Suffix": ""})
        archive = built.archive.read_bytes()
        code = {"Bucket": _ARTIFACTS, "Key": f"{hashlib.sha256(archive).hexdigest()}.zip"}
        s3 = self.client("s3")
        s3.create_bucket(
            Bucket=_ARTIFACTS, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        s3.put_object(Bucket=_ARTIFACTS, Key=code["Key"], Body=archive)
        self._progress("deploying the app with infra/overlay.yaml")
        template = transform(built.template, code=code, parameters={"Suffix": ""}, region=REGION)
        self._create_stack(APP_STACK, json.dumps(without_rest_api(template)), {"Suffix": ""})
        self._progress("deploying infra/maintenance.yaml")
        self._create_stack(MAINTENANCE_STACK, MAINTENANCE.read_text(), {"Suffix": ""})
        self.wiring.start()
        self.alarms.start(self._alarm_seconds)

    def _override_settings(self, template: Template) -> None:
        environments = [
            resource["Properties"]["Environment"]["Variables"]
            for resource in template["Resources"].values()
            if resource["Type"] == "AWS::Serverless::Function"
        ]
        known = {name for variables in environments for name in variables}
        if unknown := sorted(set(self._settings) - known):
            raise LocalCloudError(
                f"--set {', '.join(unknown)}: unknown; the settings are {', '.join(sorted(known))}"
            )
        for variables in environments:
            variables.update({n: v for n, v in self._settings.items() if n in variables})

    def _create_stack(self, name: str, template: str, parameters: dict[str, str]) -> None:
        cloudformation = self.client("cloudformation")
        try:
            cloudformation.create_stack(
                StackName=name,
                TemplateBody=template,
                Parameters=[
                    {"ParameterKey": key, "ParameterValue": value}
                    for key, value in parameters.items()
                ],
                Capabilities=["CAPABILITY_NAMED_IAM"],
            )
            stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except Exception as error:
            reason = self.faults[-1] if self.faults else str(error)
            raise LocalCloudError(f"stack {name} was not created: {reason}") from error
        if stack["StackStatus"] != "CREATE_COMPLETE":
            raise LocalCloudError(f"stack {name}: {stack['StackStatus']}")


def _listen(port: int) -> socket.socket:
    """Return a listening socket on the loopback interface; port 0 selects a free port."""
    server_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server_socket.bind((HOST, port))
    except OSError as error:
        server_socket.close()
        raise LocalCloudError(
            f"port {port} is not available ({error.strerror}); choose another with --port"
        ) from error
    server_socket.listen(128)
    return server_socket
