"""A run of the pipeline: from the state machine's event to the message of it. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..model.errors import InvalidEventError
from ..model.windows import parse_utc
from .affected_hosts import Suspect
from .messages import (
    MAX_REASON,
    Message,
    Place,
    hosts_of,
    iso,
    listed,
    message_of,
    moment_of,
    where_of,
)


@dataclass(frozen=True, slots=True)
class Runs:
    """How many runs of a span succeeded, and when the others began."""

    succeeded: int
    failed: Sequence[datetime]


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the state machine with its four results, as the collector reports them."""

    arn: str
    tick: datetime
    results: Sequence[Mapping[str, Any]]

    @property
    def failed(self) -> list[str]:
        return [each["metric_type"] for each in self.results if each["status"] == "FAILED"]


def run_of(event: Mapping[str, Any]) -> Run:
    """The run that the state machine tells of.

    Raises:
        InvalidEventError: the event's detail is no run's.
    """
    try:
        detail = event["detail"]
        results = [{**each, "metric_type": each["metric_type"]} for each in detail["results"]]
        return Run(detail["execution"], parse_utc(event["time"]), results)
    except (KeyError, TypeError) as error:
        raise InvalidEventError(f"this is no run of the pipeline: {error!r}") from error


def run_message(
    run: Run,
    suspects: Sequence[Suspect],
    place: Place,
    *,
    runs: Runs | None = None,
    notes: Sequence[str] = (),
) -> Message:
    """The message of a run; with `runs`, the day's digest."""
    failed = run.failed
    hosts = max((each.get("reporting", 0) for each in run.results), default=0)
    missing = max((each.get("missing_count", 0) for each in run.results), default=0)
    if failed:
        what = f"run FAILED: {', '.join(failed)}"
    else:
        what = f"run succeeded: {hosts} host{'' if hosts == 1 else 's'}"
        what += f", {missing} missing" if missing else ""
        what += f", worst {suspects[0].name} {suspects[0].words}" if suspects else ""
    if runs:
        total = runs.succeeded + len(runs.failed)
        what = f"{runs.succeeded} of {total} runs of the last day succeeded"
    lines = [_opening(failed), "", *(summary(each) for each in run.results)]
    if runs:
        lines = [*_day(runs), "", "The newest run:", *lines]
    if suspects:
        lines += ["", "Highest now:", *listed(suspects, place)]
    lines += notes
    if failed:
        action = "Mend the reason above; then python -m infra redrive runs the same tick again."
        lines += ["", f"What to do: {action}", f"Runbook: {place.runbook('RunFailed.md')}"]
    lines += [
        "",
        f"Where: {where_of(place)}",
        f"Tick: {moment_of(run.tick)}",
        f"Run: {place.execution(run.arn)}",
        f"Dashboard: {place.dashboard}",
    ]
    facts = {
        "execution": run.arn,
        "time": iso(run.tick),
        "failed": failed,
        "results": list(run.results),
        **hosts_of(suspects),
    }
    if runs:
        facts["runs"] = {"succeeded": runs.succeeded, "failed": [*map(iso, runs.failed)]}
    return message_of(
        f"InfraMonitoring: {what}",
        lines,
        facts,
        place,
        kind="digest" if runs else "run",
        severity="alarm" if failed else "info",
        state="FAILED" if failed else "SUCCEEDED",
    )


def summary(result: Mapping[str, Any]) -> str:
    """One metric type of a run: what the collector says of it, or why it failed."""
    if result["status"] != "FAILED":
        return str(result["summary"])
    reason = f"{result.get('error', '')}: {_cause(str(result.get('cause', '')))}"
    told = f"{result['metric_type']}: FAILED after 3 retries: {reason[:MAX_REASON]}"
    # Of a fleet in chunks, what the good ones measured.
    return f"{told}\n{result['summary']}" if result.get("summary") else told


def _cause(cause: str) -> str:
    """What a function raises comes as JSON; what Lambda refuses as plain text."""
    try:
        raised = json.loads(cause)
    except ValueError:
        return cause
    return str(raised.get("errorMessage", cause)) if isinstance(raised, dict) else cause


def _opening(failed: Sequence[str]) -> str:
    if not failed:
        return "All four collectors succeeded."
    return (
        f"{len(failed)} of the four collectors failed: {', '.join(failed)}."
        " What the others measured is stored."
    )


def _day(runs: Runs) -> Iterable[str]:
    yield f"Runs of the last 24 hours: {runs.succeeded} succeeded, {len(runs.failed)} failed."
    yield from (f"- failed: {moment_of(each)}" for each in sorted(runs.failed))
