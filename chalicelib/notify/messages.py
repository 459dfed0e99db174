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

from ..model.settings import stage_suffix
from .affected_hosts import Suspect

_SUBJECT = 100  # characters, ASCII
_NAMED = 5  # hosts in a mail; people read it on a phone
_TOLD = 50  # hosts in the JSON; a message has 256 KB, and the JSON is in it four times
MAX_REASON = 600  # characters of an error's text

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
        return stage_suffix(self.stage)

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


def message_of(
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
    """A message; attributes and place are in its facts, too."""
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


def where_of(place: Place) -> str:
    """Stage, account and region in a line of text."""
    return f"stage {place.stage}, account {place.account_id}, {place.region}"


def moment_of(moment: datetime) -> str:
    """`2026-11-22 18:05 UTC`, for people."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def iso(moment: datetime) -> str:
    """`2026-11-22T18:05:00Z`, for machines."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def hosts_of(suspects: Sequence[Suspect]) -> dict[str, Any]:
    """The hosts as the JSON has them: the worst ones, and how many there are."""
    named = [
        {
            "name": each.name,
            "account_id": each.account_id,
            "region": each.region,
            "what": each.words,
            "since": iso(each.since) if each.since else None,
        }
        for each in suspects[:_TOLD]
    ]
    return {"hosts": named, "host_count": len(suspects)}


def listed(suspects: Sequence[Suspect], place: Place) -> list[str]:
    """A line for each host, of the worst ones; how many more there are."""
    lines = []
    for each in suspects[:_NAMED]:
        elsewhere = (each.account_id, each.region) != (place.account_id, place.region)
        where = f" [{each.account_id} {each.region}]" if elsewhere else ""
        since = f", since {moment_of(each.since)}" if each.since else ""
        lines.append(f"- {each.name}{where}: {each.words}{since}")
    if more := len(suspects) - _NAMED:
        lines += [f"- and {more} more"] if more > 0 else []
    return lines
