"""The subject, text, JSON and attributes of a notification. Pure functions.

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
from .affected_hosts import AffectedHost

_MAX_SUBJECT = 100  # characters, ASCII
_HOSTS_IN_TEXT = 5  # short enough for a phone
_HOSTS_IN_JSON = 50  # a message has at most 256 KB and contains the JSON four times
MAX_REASON = 600  # characters of an error's text

_CONSOLE_DOMAINS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}


@dataclass(frozen=True, slots=True)
class Deployment:
    """The stage, account and region of a pipeline, and the links to its pages."""

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

    def _console(self, path: str) -> str:
        domains = (
            domain for start, domain in _CONSOLE_DOMAINS.items() if self.region.startswith(start)
        )
        return f"https://{self.region}.{next(domains, 'console.aws.amazon.com')}/{path}"

    def __str__(self) -> str:
        return f"stage {self.stage}, account {self.account_id}, {self.region}"


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `text` for people, `facts` for programs, `attributes` for filters."""

    subject: str
    text: str
    facts: Mapping[str, Any]
    attributes: Mapping[str, str]

    @property
    def is_page(self) -> bool:
        return self.attributes["severity"] == "page"

    def structured(self) -> str:
        """The content for each protocol, in the form of SNS's MessageStructure `json`."""
        facts = json.dumps(self.facts)
        machines = dict.fromkeys(("sqs", "lambda", "http", "https"), facts)
        return json.dumps({"default": self.text, "email": self.text, **machines})


def make_message(
    subject: str,
    lines: Iterable[str],
    facts: Mapping[str, Any],
    deployment: Deployment,
    *,
    kind: str,
    severity: str,
    state: str,
    alarm: str = "",
) -> Message:
    """A message whose facts include its attributes and the deployment."""
    attributes = {
        "kind": kind,
        "severity": severity,
        "alarm": alarm,
        "state": state,
        "stage": deployment.stage,
        "region": deployment.region,
    }
    links = {"account_id": deployment.account_id, "dashboard": deployment.dashboard}
    return Message(
        subject=subject_line(subject, f" [{deployment.stage} {deployment.region}]"),
        text="\n".join(lines) + "\n",
        facts={**attributes, **links, **facts},
        # SNS rejects an empty value.
        attributes={name: value for name, value in attributes.items() if value},
    )


def subject_line(what: str, where: str) -> str:
    """A subject that SNS accepts: printable ASCII, at most 100 characters; `where` is kept."""
    what, where = (re.sub(r"[^ -~]", "?", " ".join(each.split())) for each in (what, where))
    room = _MAX_SUBJECT - len(where) - 1
    return f"{what if len(what) <= room else what[: room - 3] + '...'} {where}"[:_MAX_SUBJECT]


def format_duration(duration: timedelta) -> str:
    """`45 min`, `2 h 5 min`, `3 d 4 h`."""
    minutes = round(duration.total_seconds() / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def format_time(time: datetime) -> str:
    """`2026-11-22 18:05 UTC`, for people."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def iso(time: datetime) -> str:
    """`2026-11-22T18:05:00Z`, for programs."""
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def host_facts(hosts: Sequence[AffectedHost]) -> dict[str, Any]:
    """The worst hosts as JSON, and the number of all."""
    worst = [
        {
            "name": each.name,
            "account_id": each.account_id,
            "region": each.region,
            "what": each.description,
            "since": iso(each.since) if each.since else None,
        }
        for each in hosts[:_HOSTS_IN_JSON]
    ]
    return {"hosts": worst, "host_count": len(hosts)}


def host_lines(hosts: Sequence[AffectedHost], deployment: Deployment) -> list[str]:
    """A line for each of the worst hosts, and one with the number of the others."""
    lines = []
    for each in hosts[:_HOSTS_IN_TEXT]:
        elsewhere = (each.account_id, each.region) != (deployment.account_id, deployment.region)
        where = f" [{each.account_id} {each.region}]" if elsewhere else ""
        since = f", since {format_time(each.since)}" if each.since else ""
        lines.append(f"- {each.name}{where}: {each.description}{since}")
    if (more := len(hosts) - _HOSTS_IN_TEXT) > 0:
        lines.append(f"- and {more} more")
    return lines
