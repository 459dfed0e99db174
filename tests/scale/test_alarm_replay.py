"""Recorded traces replayed as a fleet: what alarms told, against what the rows say.

A few days that have much in them; `python -m benchmarks.alarms` replays all fourteen.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from benchmarks.alarms.__main__ import main
from benchmarks.alarms.replay import Outcome, replay
from benchmarks.alarms.scenarios import (
    ALONE,
    EDGE,
    FLEET,
    RECORDED,
    TROUBLE,
    VANISHED,
)
from benchmarks.alarms.traces import START, Traces, crossing
from benchmarks.alarms.verdict import (
    WATCHED,
    fired,
    sustained,
    told,
    troubles,
)

SCENARIOS = {
    each.name: each
    for each in (
        replace(RECORDED, days=2.5),
        replace(ALONE, days=1.5),
        EDGE,
        replace(TROUBLE, days=2.25),
    )
}
IN_BREACH = [name for name in SCENARIOS if name != TROUBLE.name]
_OUTCOMES: dict[str, Outcome] = {}


def outcome_of(name: str) -> Outcome:
    if name not in _OUTCOMES:
        _OUTCOMES[name] = replay(SCENARIOS[name])
    return _OUTCOMES[name]


@pytest.fixture
def trouble() -> Outcome:
    return outcome_of(TROUBLE.name)


@pytest.mark.parametrize(("limit", "of_each"), [(80, 2), (60, 37), (99.9, 0)])
def test_the_rows_have_breaches_of_half_an_hour(limit: float, of_each: int) -> None:
    breaches = Traces(FLEET).sustained("CPUUtilization", limit)
    hosts = [each.host for each in breaches]
    assert (hosts.count("web-1"), hosts.count("web-3"), hosts.count("web-2")) == (
        of_each,
        of_each,
        0,
    )
    assert all(each.minutes >= 30 for each in breaches)


@pytest.mark.parametrize("name", IN_BREACH)
def test_nothing_sustained_is_missed(name: str) -> None:
    found = told(outcome_of(name), "HighCPU")
    assert found
    assert [each.breach for each in found if each.span is None] == []


def test_no_sustained_breach_of_memory_is_missed() -> None:
    """At 60 %: above 90 % the trace is only once for so long, after a week."""
    feeds = tuple(each for each in FLEET if each.host == "web-2")
    scenario = replace(RECORDED, feeds=feeds, memory=60, days=0.75)
    found = told(replay(scenario), "HighMemory")
    assert found
    assert [each.breach for each in found if each.span is None] == []


@pytest.mark.parametrize("name", [ALONE.name, EDGE.name])
def test_breaches_across_a_windows_edge_are_among_them(name: str) -> None:
    assert crossing(sustained(outcome_of(name), "HighCPU"))


def test_a_breach_at_an_edge_that_came_late_is_told_by_the_next_run() -> None:
    last = told(outcome_of(EDGE.name), "HighCPU")[-1]
    assert last.breach.start == START + timedelta(hours=14, minutes=40)
    assert last.at == START + timedelta(hours=18)
    assert last.named


def test_an_alarm_that_is_too_deaf_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", EDGE.name, "--breach-minutes", "45", "--verbose"]) == 1
    assert "MISSED" in capsys.readouterr().out


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("alarm", WATCHED)
def test_no_alarm_of_a_host_is_without_a_quarter_of_an_hour_in_a_window(
    alarm: str, name: str
) -> None:
    assert [each for each in fired(outcome_of(name), alarm) if each.minutes < 15] == []


def test_the_trouble_is_what_was_meant(trouble: Outcome) -> None:
    assert [(each.what, each.alarm) for each in troubles(trouble)] == [
        ("no tick", "PipelineStopped"),
        ("web-4 silent", "HostsMissing"),
        ("1 attempt of each object failed", "ProcessorErrors"),
        ("3 attempts of each object failed", "ProcessorErrors"),
        ("dead letters", "DeadLettersWaiting"),
    ]


def test_every_trouble_is_told_once_in_time_and_over_in_time(trouble: Outcome) -> None:
    assert [each for each in troubles(trouble) if not each.is_told] == []


def test_the_mail_names_the_host_that_vanished(trouble: Outcome) -> None:
    (span,) = trouble.spans("HostsMissing")
    assert span.start - (START + VANISHED[0]) < timedelta(hours=6)
    (mail,) = [each for each in trouble.mails if each.at == span.start and each.kind == "alarm"]
    assert mail.hosts == ("web-4",)


def test_trouble_of_five_kinds_is_eleven_mails(trouble: Outcome) -> None:
    """Each begins and ends; what watches the notifier is told by CloudWatch itself, too."""
    counted = trouble.counted()
    assert (counted["alarm"], counted["direct"]) == (10, 1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_there_is_one_mail_or_page_for_each_alarm_that_begins_or_ends(name: str) -> None:
    outcome = outcome_of(name)
    counted = outcome.counted()
    assert counted["alarm"] + counted["page"] == outcome.transitions
    assert counted["direct"] == len(outcome.spans("DeadLettersWaiting"))
    assert counted["run"] == outcome.runs
