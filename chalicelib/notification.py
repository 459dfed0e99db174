"""What people and machines are told: subject, text, JSON and attributes of a message. Pure.

SNS's limits: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from .alarms import Alarm, alarm_of
from .errors import InvalidEventError
from .hosts import Suspect
from .windows import parse_utc

_SUBJECT = 100  # characters, ASCII
_NAMED = 5  # hosts in a mail; people read it on a phone
_TOLD = 50  # hosts in the JSON; a message has 256 KB, and the JSON is in it four times
_REASON = 600  # characters of an error's text

_DOMAINS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something happened, and where people read on."""

    stage: str
    account_id: str
    region: str
    runbooks: str

    @property
    def suffix(self) -> str:
        """What names end in on stages beside local and prod."""
        return "" if self.stage in ("local", "prod") else f"-{self.stage}"

    @property
    def dashboard(self) -> str:
        return self._console(f"cloudwatch/home?region={self.region}#dashboards/dashboard/") + (
            f"InfraMonitoring{self.suffix}"
        )

    def execution(self, arn: str) -> str:
        link = f"states/home?region={self.region}#/v2/executions/details/"
        return self._console(link) + quote(arn, safe=":")

    def runbook(self, page: str) -> str:
        return f"{self.runbooks.rstrip('/')}/{page}"

    def _console(self, rest: str) -> str:
        domains = (domain for start, domain in _DOMAINS.items() if self.region.startswith(start))
        return f"https://{self.region}.{next(domains, 'console.aws.amazon.com')}/{rest}"


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `text` for people, `facts` for machines, `attributes` to filter by."""

    subject: str
    text: str
    facts: Mapping[str, Any]
    attributes: Mapping[str, str]

    @property
    def is_page(self) -> bool:
        return self.attributes["severity"] == "page"

    def structured(self) -> str:
        """The text for each protocol, as SNS's MessageStructure `json` takes it."""
        facts = json.dumps(self.facts)
        machines = dict.fromkeys(("sqs", "lambda", "http", "https"), facts)
        return json.dumps({"default": self.text, "email": self.text, **machines})


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm's change of state, as CloudWatch tells it."""

    alarm: Alarm
    name: str
    state: str
    before: str
    at: datetime
    before_since: datetime | None
    reason: str
    threshold: float | None
    parts: tuple[str, ...]

    @property
    def is_told(self) -> bool:
        """Whether people hear of it: a new alarm, or the end of one."""
        return self.state == "ALARM" or (self.state == "OK" and self.before == "ALARM")


def change_of(event: Mapping[str, Any], suffix: str) -> Change | None:
    """The change of an alarm of this stage; None of another one's.

    Raises:
        InvalidEventError: it is no "CloudWatch Alarm State Change".
    """
    try:
        detail = event["detail"]
        match = re.fullmatch(rf"InfraMonitoring-(\w+){re.escape(suffix)}", detail["alarmName"])
        if match is None:
            return None
        state, before = detail["state"], detail.get("previousState", {})
        data = json.loads(state.get("reasonData") or "{}")
        since = before.get("timestamp")
        return Change(
            alarm=alarm_of(match[1], detail.get("configuration", {}).get("description", "")),
            name=detail["alarmName"],
            state=state["value"],
            before=before.get("value", ""),
            at=parse_utc(state["timestamp"]),
            before_since=parse_utc(since) if since else None,
            reason=str(state.get("reason", "")),
            threshold=data.get("threshold"),
            parts=tuple(_short(each["arn"]) for each in data.get("triggeringAlarms", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidEventError(f"this is no change of an alarm's state: {error!r}") from error


def _short(arn: str) -> str:
    return arn.rpartition(":")[2].removeprefix("InfraMonitoring-")


# --- Alarms --------------------------------------------------------------------------------


def alarm_message(
    change: Change, suspects: Sequence[Suspect], place: Place, *, notes: Sequence[str] = ()
) -> Message:
    """The message of an alarm that began or ended."""
    alarm, ended = change.alarm, change.state == "OK"
    is_page = alarm.name == "Page"
    severity = "page" if is_page else "ok" if ended else alarm.severity
    lasted = change.at - change.before_since if ended and change.before_since else None
    if ended:
        lead = "RESOLVED" if is_page else "OK"
        what = alarm.title + (
            f" is over after {span(lasted)}" if lasted is not None else " is over"
        )
    else:
        lead = {"page": "PAGE", "alarm": "ALARM", "warning": "Warning"}[severity]
        about = ", ".join(change.parts) if is_page else _about(suspects)
        what = alarm.title + (f": {about}" if about else "")
    lines = [f"{what}."]
    if suspects and not ended:
        lines += ["", *_listed(suspects, place)]
    lines += [*notes, "", f"Where: {_where(place)}"]
    if ended:
        lines.append(f"Over since: {_moment(change.at)}")
    else:
        lines += [
            f"Since: {_moment(change.at)}",
            "",
            f"What it means: {alarm.meaning}",
            f"What to do: {alarm.action}",
        ]
    lines += [
        "",
        f"Runbook: {place.runbook(alarm.runbook)}",
        f"Dashboard: {place.dashboard}",
        "",
        f"CloudWatch says: {change.reason[:_REASON]}",
    ]
    facts = {
        "alarm_name": change.name,
        "previous_state": change.before,
        "time": _iso(change.at),
        "lasted_seconds": None if lasted is None else round(lasted.total_seconds()),
        "title": alarm.title,
        "meaning": alarm.meaning,
        "action": alarm.action,
        "threshold": change.threshold,
        "reason": change.reason,
        "parts": list(change.parts),
        **_hosts(suspects),
        "runbook": place.runbook(alarm.runbook),
    }
    return _message(
        f"{lead} {what}",
        lines,
        facts,
        place,
        kind="alarm",
        severity=severity,
        alarm=change.name,
        state=change.state,
    )


def _about(suspects: Sequence[Suspect]) -> str:
    """The worst host with its value, and how many more there are."""
    if not suspects:
        return ""
    more = f" and {len(suspects) - 1} more" if len(suspects) > 1 else ""
    return f"{suspects[0].name} {suspects[0].words}{more}"


def _listed(suspects: Sequence[Suspect], place: Place) -> list[str]:
    lines = []
    for each in suspects[:_NAMED]:
        elsewhere = (each.account_id, each.region) != (place.account_id, place.region)
        where = f" [{each.account_id} {each.region}]" if elsewhere else ""
        since = f", since {_moment(each.since)}" if each.since else ""
        lines.append(f"- {each.name}{where}: {each.words}{since}")
    if more := len(suspects) - _NAMED:
        lines += [f"- and {more} more"] if more > 0 else []
    return lines


# --- Runs ----------------------------------------------------------------------------------


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
        lines += ["", "Highest now:", *_listed(suspects, place)]
    lines += notes
    if failed:
        action = "Mend the reason above; then python -m infra redrive runs the same tick again."
        lines += ["", f"What to do: {action}", f"Runbook: {place.runbook('RunFailed.md')}"]
    lines += [
        "",
        f"Where: {_where(place)}",
        f"Tick: {_moment(run.tick)}",
        f"Run: {place.execution(run.arn)}",
        f"Dashboard: {place.dashboard}",
    ]
    facts = {
        "execution": run.arn,
        "time": _iso(run.tick),
        "failed": failed,
        "results": list(run.results),
        **_hosts(suspects),
    }
    if runs:
        facts["runs"] = {"succeeded": runs.succeeded, "failed": [*map(_iso, runs.failed)]}
    return _message(
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
    told = f"{result['metric_type']}: FAILED after 3 retries: {reason[:_REASON]}"
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
    yield from (f"- failed: {_moment(each)}" for each in sorted(runs.failed))


# --- What all have -------------------------------------------------------------------------


def _message(
    subject: str,
    lines: Iterable[str],
    facts: Mapping[str, Any],
    place: Place,
    *,
    kind: str,
    severity: str,
    state: str,
    alarm: str = "",
) -> Message:
    attributes = {
        "kind": kind,
        "severity": severity,
        "alarm": alarm,
        "state": state,
        "stage": place.stage,
        "region": place.region,
    }
    named = {"account_id": place.account_id, "dashboard": place.dashboard}
    return Message(
        subject=subject_line(subject, f" [{place.stage} {place.region}]"),
        text="\n".join(lines) + "\n",
        facts={**attributes, **named, **facts},
        # SNS takes no empty value.
        attributes={name: value for name, value in attributes.items() if value},
    )


def subject_line(what: str, where: str) -> str:
    """A subject that SNS takes: ASCII, no control characters, 100 of them at most."""
    what, where = (re.sub(r"[^ -~]", "?", " ".join(each.split())) for each in (what, where))
    room = _SUBJECT - len(where) - 1
    return f"{what if len(what) <= room else what[: room - 3] + '...'} {where}"[:_SUBJECT]


def span(duration: timedelta) -> str:
    """`45 min`, `2 h 5 min`, `3 d 4 h`."""
    minutes = round(duration.total_seconds() / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _where(place: Place) -> str:
    return f"stage {place.stage}, account {place.account_id}, {place.region}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _hosts(suspects: Sequence[Suspect]) -> dict[str, Any]:
    named = [
        {
            "name": each.name,
            "account_id": each.account_id,
            "region": each.region,
            "what": each.words,
            "since": _iso(each.since) if each.since else None,
        }
        for each in suspects[:_TOLD]
    ]
    return {"hosts": named, "host_count": len(suspects)}
