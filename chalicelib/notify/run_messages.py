"""The message of a run of the pipeline, from the state machine's event. Pure functions."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..model.errors import InvalidEventError
from ..model.windows import parse_utc
from .affected_hosts import AffectedHost
from .messages import (
    MAX_REASON,
    Deployment,
    Message,
    format_time,
    host_facts,
    host_lines,
    iso,
    make_message,
)


@dataclass(frozen=True, slots=True)
class DaySummary:
    """The runs of the last day: the number that succeeded, and when the others started."""

    succeeded: int
    failed: Sequence[datetime]


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its execution's ARN and the collector's result for each metric type."""

    arn: str
    scheduled_time: datetime
    results: Sequence[Mapping[str, Any]]

    @property
    def failed(self) -> list[str]:
        """The metric types whose branch failed."""
        return [each["metric_type"] for each in self.results if each["status"] == "FAILED"]


def read_run(event: Mapping[str, Any]) -> Run:
    """The run in the event.

    Raises:
        InvalidEventError: the event's detail does not describe a run.
    """
    try:
        detail = event["detail"]
        results = [{**each, "metric_type": each["metric_type"]} for each in detail["results"]]
        return Run(detail["execution"], parse_utc(event["time"]), results)
    except (KeyError, TypeError) as error:
        raise InvalidEventError(f"not a run of the pipeline: {error!r}") from error


def run_message(
    run: Run,
    hosts: Sequence[AffectedHost],
    deployment: Deployment,
    *,
    day: DaySummary | None = None,
    notes: Sequence[str] = (),
) -> Message:
    """The message of a run; with `day`, the daily digest."""
    failed = run.failed
    lines = [_opening(run), "", *(result_summary(each) for each in run.results)]
    if day:
        lines = [*_day_lines(day), "", "The newest run:", *lines]
    if hosts:
        lines += ["", "Highest values:", *host_lines(hosts, deployment)]
    lines += notes
    if failed:
        action = "Fix the cause above; then python -m infra redrive starts the same run again."
        lines += ["", f"What to do: {action}", f"Runbook: {deployment.runbook('RunFailed.md')}"]
    lines += [
        "",
        f"Where: {deployment}",
        f"Scheduled: {format_time(run.scheduled_time)}",
        f"Run: {deployment.execution(run.arn)}",
        f"Dashboard: {deployment.dashboard}",
    ]
    return make_message(
        f"InfraMonitoring: {_subject(run, hosts, day)}",
        lines,
        _facts(run, hosts, day),
        deployment,
        kind="digest" if day else "run",
        severity="alarm" if failed else "info",
        state="FAILED" if failed else "SUCCEEDED",
    )


def _subject(run: Run, hosts: Sequence[AffectedHost], day: DaySummary | None) -> str:
    if day:
        total = day.succeeded + len(day.failed)
        return f"{day.succeeded} of {total} runs of the last day succeeded"
    if run.failed:
        return f"run FAILED: {', '.join(run.failed)}"
    reporting = max((each.get("reporting", 0) for each in run.results), default=0)
    missing = max((each.get("missing_count", 0) for each in run.results), default=0)
    subject = f"run succeeded: {reporting} host{'' if reporting == 1 else 's'}"
    subject += f", {missing} missing" if missing else ""
    return subject + (f", worst {hosts[0].name} {hosts[0].description}" if hosts else "")


def _facts(run: Run, hosts: Sequence[AffectedHost], day: DaySummary | None) -> dict[str, Any]:
    facts = {
        "execution": run.arn,
        "time": iso(run.scheduled_time),
        "failed": run.failed,
        "results": list(run.results),
        **host_facts(hosts),
    }
    if day:
        facts["runs"] = {"succeeded": day.succeeded, "failed": [*map(iso, day.failed)]}
    return facts


def result_summary(result: Mapping[str, Any]) -> str:
    """The collector's summary of one metric type, or the reason why it failed."""
    if result["status"] != "FAILED":
        return str(result["summary"])
    reason = f"{result.get('error', '')}: {_error_message(str(result.get('cause', '')))}"
    failure = f"{result['metric_type']}: FAILED after 3 retries: {reason[:MAX_REASON]}"
    # If only some chunks of a large fleet failed, the summary counts what the others stored.
    return f"{failure}\n{result['summary']}" if result.get("summary") else failure


def _error_message(cause: str) -> str:
    """The message in a cause: JSON for an exception in a function, plain text from Lambda."""
    try:
        raised = json.loads(cause)
    except ValueError:
        return cause
    return str(raised.get("errorMessage", cause)) if isinstance(raised, dict) else cause


def _opening(run: Run) -> str:
    total = len(run.results)
    if not run.failed:
        return f"All {total} collectors succeeded."
    return (
        f"{len(run.failed)} of {total} collectors failed: {', '.join(run.failed)}."
        " The records of the others are stored."
    )


def _day_lines(day: DaySummary) -> Iterable[str]:
    yield f"Runs of the last 24 hours: {day.succeeded} succeeded, {len(day.failed)} failed."
    yield from (f"- failed: {format_time(each)}" for each in sorted(day.failed))
