"""Run the pipeline once on ministack, an AWS emulator that shares no code with the local cloud.

Deploys infra/storage.yaml and the packaged app as they are, starts one run through EventBridge,
and compares the records in the raw objects, the table and the processed objects.
`make check-ministack` installs ministack and runs this.
"""

import argparse
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import yaml
from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).resolve().parents[1]
MINISTACK = ROOT / ".local" / "ministack" / "bin" / "ministack"
WHEELS = ROOT / ".local" / "wheels"
ACCOUNT, REGION = "123456789012", "eu-west-1"
BUCKET, TABLE, ARTIFACTS = "infra-monitoring-pipeline-data", "InfraMetrics", "artifacts"
CLOCK, STARTER = "InfraMonitoring-Clock", "independent-check"
TYPES = {"cpu", "memory", "disk", "network"}

Client = Callable[[str], Any]
# (metric type, metric ID) of each record -> the names of its measurements
Records = dict[tuple[str, str], set[str]]


class CheckError(Exception):
    """The check could not be completed."""


def main(arguments: Sequence[str]) -> int:
    """Run the check and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.independent_emulator",
        description=__doc__,
        epilog="exit status: 0 if all checks passed, 1 if not, 130 after Ctrl-C",
    )
    what = "for each step (default: %(default)g)"
    parser.add_argument("--timeout", type=float, default=180, metavar="SECONDS", help=what)
    timeout: float = parser.parse_args(arguments).timeout
    try:
        with TemporaryDirectory(prefix="independent-emulator-") as work:
            return _check(Path(work), timeout)
    except (CheckError, ClientError, BotoCoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _check(work: Path, timeout: float) -> int:
    template, archive = _package(work)
    with _ministack(work, timeout) as client:
        started = time.monotonic()
        _deploy(client, template, archive, timeout)
        deployed = time.monotonic()
        execution = _start_run(client, timeout)
        status = _wait(lambda: _end_of(client, execution), timeout, "the execution to end")
        _wait(lambda: _processed_all(client), timeout, "the processed objects")
        ended = time.monotonic()
        raw, hot, processed = _raw(client), _hot(client), _processed(client)
    enriched = raw.keys() == hot.keys() and all(raw[key] <= hot[key] for key in raw)
    checks = {
        f"execution {status}": status == "SUCCEEDED",
        f"the raw objects hold {len(raw)} records": {kind for kind, _ in raw} == TYPES,
        f"the table holds them, enriched ({len(hot)})": enriched,
        f"the processed objects hold what the table holds ({len(processed)})": processed == hot,
    }
    for name, passed in checks.items():
        print("ok  " if passed else "FAIL", name)
    print(f"deployed in {deployed - started:.1f} s, processed in {ended - deployed:.1f} s")
    return 0 if all(checks.values()) else 1


def _package(work: Path) -> tuple[dict[str, Any], bytes]:
    """The SAM template with the overlay, and the zip, as `make package` makes them."""
    environ = {**os.environ, "AWS_DEFAULT_REGION": REGION}
    if WHEELS.is_dir():
        environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)}
    command = [str(Path(sys.executable).with_name("chalice")), "package", "--stage", "local"]
    command += ["--template-format", "yaml", "--merge-template", "infra/overlay.yaml", str(work)]
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CheckError(f"chalice package failed:\n{done.stdout}{done.stderr}".rstrip())
    return yaml.safe_load((work / "sam.yaml").read_text()), (work / "deployment.zip").read_bytes()


@contextmanager
def _ministack(work: Path, timeout: float) -> Iterator[Client]:
    """Run ministack on a free port of loopback; at the end, stop it and its functions."""
    if not MINISTACK.exists():
        raise CheckError(f"{MINISTACK} is missing: run `make check-ministack`")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    environ = {"PATH": f"{MINISTACK.parent}:/usr/bin:/bin", "TMPDIR": str(work)}
    environ |= {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "MINISTACK_HOST": "127.0.0.1"}
    environ |= {"MINISTACK_ACCOUNT_ID": ACCOUNT, "MINISTACK_REGION": REGION}
    environ["IOT_MTLS_ENABLED"] = "0"  # that listener would bind all interfaces
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    new: Any = boto3.client

    def accepts() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    process = subprocess.Popen(
        [str(MINISTACK)],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(lambda: process.poll() is not None or accepts(), timeout, "ministack to start")
        endpoint = f"http://127.0.0.1:{port}"
        yield lambda service: new(service, region_name=REGION, endpoint_url=endpoint, **keys)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the functions belong to its group
        process.wait()


def _wait(check: Callable[[], Any], timeout: float, what: str) -> Any:
    """Call `check` until its result is true, and return that."""
    until = time.monotonic() + timeout
    while not (value := check()):
        if time.monotonic() > until:
            raise CheckError(f"timed out waiting for {what}")
        time.sleep(0.2)
    return value


def _deploy(client: Client, template: dict[str, Any], archive: bytes, timeout: float) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket=ARTIFACTS, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=ARTIFACTS, Key="app.zip", Body=archive)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = {"Bucket": ARTIFACTS, "Key": "app.zip"}
            variables = resource["Properties"]["Environment"]["Variables"]
            for name in [name for name in variables if name.startswith("AWS_")]:
                del variables[name]  # the local cloud's endpoint and credentials
    storage = (ROOT / "infra" / "storage.yaml").read_text()
    parameters = {"AppendAccountId": "false", "NotificationEmail": "you@example.com"}
    _create_stack(client, "infra-monitoring-storage", storage, parameters, timeout)
    _create_stack(client, "infra-monitoring", json.dumps(template), {"Suffix": ""}, timeout)


def _create_stack(
    client: Client, name: str, template: str, parameters: dict[str, str], timeout: float
) -> None:
    s3, cloudformation = client("s3"), client("cloudformation")
    # By URL: CloudFormation refuses a TemplateBody of more than 51,200 bytes.
    s3.put_object(Bucket=ARTIFACTS, Key=f"{name}.template", Body=template.encode())
    cloudformation.create_stack(
        StackName=name,
        TemplateURL=f"{s3.meta.endpoint_url}/{ARTIFACTS}/{name}.template",
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )

    def ended() -> str:
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        return "" if stack["StackStatus"].endswith("IN_PROGRESS") else stack["StackStatus"]

    if (status := _wait(ended, timeout, f"stack {name}")) != "CREATE_COMPLETE":
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        failed = [each for each in events if each["ResourceStatus"].endswith("FAILED")]
        reasons = [f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}" for e in failed]
        raise CheckError(f"stack {name}: {status}: {'; '.join(reasons)}")


def _start_run(client: Client, timeout: float) -> str:
    """Send an event to the clock's target, and return the ARN of the execution."""
    events, stepfunctions = client("events"), client("stepfunctions")
    (target,) = events.list_targets_by_rule(Rule=CLOCK)["Targets"]
    # A scheduled rule cannot be made to fire now, so another rule has the same target.
    events.put_rule(Name=STARTER, EventPattern=json.dumps({"source": [STARTER]}))
    events.put_targets(Rule=STARTER, Targets=[target])
    entry = {"Source": STARTER, "DetailType": "Scheduled Event", "Detail": "{}"}
    events.put_events(Entries=[entry])

    def started() -> str:
        found = stepfunctions.list_executions(stateMachineArn=target["Arn"])["executions"]
        return found[0]["executionArn"] if found else ""

    return str(_wait(started, timeout, "EventBridge to start the state machine"))


def _end_of(client: Client, execution: str) -> str:
    status = client("stepfunctions").describe_execution(executionArn=execution)["status"]
    return "" if status == "RUNNING" else str(status)


def _processed_all(client: Client) -> bool:
    return len(_keys(client, "processed/")) >= len(_keys(client, "raw-metrics/")) > 0


def _keys(client: Client, prefix: str) -> list[str]:
    listed = client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return [each["Key"] for each in listed.get("Contents", [])]


def _lines(client: Client, prefix: str) -> Iterator[dict[str, Any]]:
    for key in _keys(client, prefix):
        body = client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        text = gzip.decompress(body) if key.endswith(".gz") else body
        yield from map(json.loads, text.splitlines())


def _raw(client: Client) -> Records:
    lines = _lines(client, "raw-metrics/")
    return {(each["metric_type"], each["metric_id"]): set(each["measurements"]) for each in lines}


def _hot(client: Client) -> Records:
    """The items that log-processor has enriched."""
    pages = client("dynamodb").get_paginator("scan").paginate(TableName=TABLE)
    return {
        (item["metric_type"]["S"], item["metric_id"]["S"]): set(item["measurements"]["M"])
        for page in pages
        for item in page["Items"]
        if "processed_at" in item
    }


def _processed(client: Client) -> Records:
    """The records of the processed objects, which have a line for each measurement."""
    found: Records = {}
    for line in _lines(client, "processed/"):
        key = line["metric_type"], line["metric_id"]
        found.setdefault(key, set()).add(line["measurement"])
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
