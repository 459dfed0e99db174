"""`python -m infra replay`: process raw objects again, in a state machine on AWS."""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from chalicelib.aws.pipeline import read_history
from chalicelib.model.execution_history import join_reason, state_outputs
from chalicelib.model.object_keys import RAW_PREFIX

from ..command_line import CommandError, exit_statuses
from .arguments import add_days, add_stores
from .aws_errors import aws_errors
from .deployment import Days, Stage, days_of, stage_of
from .raw_objects import RawObject, list_raw

# Each prefix uses about 25 events of the history, whose limit is 25,000, and half a kilobyte of
# the state, whose limit is 256 KB.
MAX_PREFIXES = 300

_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PrefixResult:
    """Counts of one prefix; `manifest` is the key of the Distributed Map's result manifest."""

    prefix: str
    complete: bool
    objects: int
    failed: int
    manifest: str
    failure: str


@dataclass(frozen=True, slots=True)
class FailedObject:
    """An object that failed after its retries."""

    key: str
    reason: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Start a state machine that sends every raw object of these days through log-processor"
        " again. The same items and lines are written again under the same keys."
    )
    parser.epilog = exit_statuses(
        "every object was processed (with --no-wait: the replay was started)",
        "an object failed or the command failed",
    )
    add_days(parser)
    parser.add_argument(
        "--prefix",
        default="",
        help="only objects whose names start with this, for example --prefix cpu",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be replayed")
    parser.add_argument("--no-wait", action="store_true", help="start the replay and return")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue with the days that the last replay of the same days did not finish",
    )
    add_stores(parser)


@aws_errors()
def run(options: argparse.Namespace) -> int:
    """Replay the selected days; 0 if every object was processed."""
    stage, days = stage_of(options), days_of(options)
    console = Console(highlight=False, soft_wrap=True)
    found = [each for each in list_raw(stage, days) if object_name(each).startswith(options.prefix)]
    prefixes = prefixes_of(found, options.prefix)
    if options.dry_run or not found:
        _print_plan(console, prefixes, found)
        return 0
    if len(prefixes) > MAX_PREFIXES:
        raise CommandError(
            f"{len(prefixes)} prefixes exceed the limit of {MAX_PREFIXES} per replay:"
            " choose fewer days, or --prefix"
        )
    executions = ReplayExecutions(stage, replay_name(days, options.prefix))
    execution = executions.resume() if options.resume else executions.start(prefixes)
    if execution is None:
        console.print(f"{executions.name} has succeeded: nothing to resume")
        return 0
    console.print(f"{execution}")
    if options.no_wait:
        return 0
    try:
        status = watch(stage, execution, total=len(found))
    except KeyboardInterrupt:
        console.print("the replay continues on AWS; run the same command to follow it")
        return 130
    return _report(console, stage, execution, status)


def object_name(raw: RawObject) -> str:
    """The part of the key that `--prefix` selects: after the date, if the key has one."""
    tail = raw.key.removeprefix(RAW_PREFIX)
    return tail.split("/", 3)[3] if raw.dated else tail


def prefixes_of(found: Sequence[RawObject], prefix: str) -> list[str]:
    """Prefixes that select these objects: days in order, then keys without a date."""
    days = sorted({each.day for each in found if each.dated})
    keys = sorted(each.key for each in found if not each.dated)
    return [f"{RAW_PREFIX}{day:%Y/%m/%d}/{prefix}" for day in days] + keys


def replay_name(days: Days, prefix: str) -> str:
    """The common name of the executions for the same days and prefix, without the number."""
    name = f"replay-{days.first:%Y%m%d}-{days.last:%Y%m%d}"
    return f"{name}-{re.sub(r'[^A-Za-z0-9_]', '_', prefix)[:40]}" if prefix else name


class ReplayExecutions:
    """The executions that replay the same days: `<name>-1`, `<name>-2` and so on."""

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage = stage
        self._sfn = stage.client("stepfunctions")
        self.name = name

    def start(self, prefixes: Sequence[str]) -> str:
        """Start an execution, unless one is running; returns its ARN."""
        number, latest = self._latest()
        if latest and latest["status"] == "RUNNING":
            return str(latest["executionArn"])
        return self._start(number + 1, prefixes)

    def resume(self) -> str | None:
        """Replay the prefixes that the latest execution did not complete.

        Returns the ARN of the new or the running execution, or None if all are complete.

        Raises:
            CommandError: these days were never replayed.
        """
        number, latest = self._latest()
        if latest is None:
            raise CommandError(f"no execution {self.name} to resume: omit --resume")
        if latest["status"] == "RUNNING":
            return str(latest["executionArn"])
        remaining = remaining_prefixes(self._sfn, latest["executionArn"])
        return self._start(number + 1, remaining) if remaining else None

    def _start(self, number: int, prefixes: Sequence[str]) -> str:
        # StartExecution is idempotent for the same name and input: two operators start only one.
        started = self._sfn.start_execution(
            stateMachineArn=self._stage.replay_arn,
            name=f"{self.name}-{number}",
            input=json.dumps({"prefixes": [{"prefix": each} for each in prefixes]}),
        )
        return str(started["executionArn"])

    def _latest(self) -> tuple[int, dict[str, Any] | None]:
        pages = self._sfn.get_paginator("list_executions")
        found: dict[int, dict[str, Any]] = {}
        for page in pages.paginate(stateMachineArn=self._stage.replay_arn):
            for each in page["executions"]:
                match = re.fullmatch(re.escape(self.name) + r"-(\d+)", each["name"])
                if match:
                    found[int(match[1])] = each
        return max(found.items(), key=lambda each: each[0]) if found else (0, None)


def remaining_prefixes(sfn: Any, execution: str) -> list[str]:
    """The prefixes of an execution that are not complete."""
    described = sfn.describe_execution(executionArn=execution)
    complete = {each.prefix for each in prefix_results(sfn, execution) if each.complete}
    requested = [each["prefix"] for each in json.loads(described["input"])["prefixes"]]
    return [each for each in requested if each not in complete]


def prefix_results(sfn: Any, execution: str) -> Iterator[PrefixResult]:
    """The result of each prefix that has ended, from the history of an execution."""
    history = read_history(sfn, execution)
    return (
        _prefix_result(output) for _, output in state_outputs(history, ("Complete", "Incomplete"))
    )


def _prefix_result(output: dict[str, Any]) -> PrefixResult:
    failure = output.get("failure", {})
    counted = output.get("objects", {})
    return PrefixResult(
        prefix=output["prefix"],
        complete=output["complete"],
        objects=counted.get("total", 0),
        failed=counted.get("failed", 0),
        manifest=output.get("map_run", {}).get("ResultWriterDetails", {}).get("Key", ""),
        failure=join_reason(failure.get("Error"), failure.get("Cause")),
    )


def failed_objects(s3: Any, bucket: str, manifest: str) -> Iterator[FailedObject]:
    """The failed objects, from the result files of the Distributed Map."""
    if not manifest:
        return
    for file in _json(s3, bucket, manifest)["ResultFiles"]["FAILED"]:
        for child in _json(s3, bucket, file["Key"]):
            reason = join_reason(child.get("Error"), child.get("Cause"))
            yield FailedObject(json.loads(child["Input"])["Key"], reason)


def _json(s3: Any, bucket: str, key: str) -> Any:
    return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def watch(
    stage: Stage, execution: str, *, total: int, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Show the progress of an execution until it ends; returns its status."""
    sfn = stage.client("stepfunctions")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=total)
        while True:
            status = str(sfn.describe_execution(executionArn=execution)["status"])
            done, failed = _count(sfn, execution)
            description = f"replaying, {failed} failed" if failed else "replaying"
            progress.update(task, completed=done, description=description)
            if status != "RUNNING":
                return status
            sleep(_POLL_SECONDS)


def _count(sfn: Any, execution: str) -> tuple[int, int]:
    """Numbers of the objects processed, including failed ones, and of the failed ones."""
    done = failed = 0
    for page in sfn.get_paginator("list_map_runs").paginate(executionArn=execution):
        for run in page["mapRuns"]:
            counts = sfn.describe_map_run(mapRunArn=run["mapRunArn"])["itemCounts"]
            failed += counts["failed"]
            done += counts["succeeded"] + counts["failed"]
    return done, failed


def _report(console: Console, stage: Stage, execution: str, status: str) -> int:
    s3 = stage.client("s3")
    found = list(prefix_results(stage.client("stepfunctions"), execution))
    for each in found:
        if each.failure:
            console.print(f"{each.prefix}: {each.failure}", style="red", markup=False)
        for failed in failed_objects(s3, stage.bucket, each.manifest):
            console.print(f"{failed.key}: {failed.reason}", style="red", markup=False)
    failures = sum(each.failed for each in found)
    done = sum(each.objects for each in found) - failures
    console.print(f"{status}: {done:,} objects replayed, {failures:,} failed")
    if status != "SUCCEEDED":
        console.print("run the same command with --resume to replay the remaining days")
    return 0 if status == "SUCCEEDED" else 1


def _print_plan(console: Console, prefixes: Sequence[str], found: Sequence[RawObject]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("prefix", overflow="fold")
    table.add_column("objects", justify="right")
    table.add_column("bytes", justify="right")
    for prefix in prefixes:
        sizes = [each.size for each in found if each.key.startswith(prefix)]
        table.add_row(prefix, f"{len(sizes):,}", f"{sum(sizes):,}")
    console.print(table)
    console.print(f"{len(found):,} objects would be replayed" if found else "no objects found")
