"""Replay recorded traces as a fleet and compare the alarms with the traces.

These tests replay the most eventful days; `python -m benchmarks.alarms` replays all 14.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from benchmarks.alarms.__main__ import main
from benchmarks.alarms.detections import (
    HOST_ALARMS,
    detections,
    incidents,
    period_breaches,
    sustained_breaches,
)
from benchmarks.alarms.replay import Outcome, replay
from benchmarks.alarms.scenarios import (
    FLEET,
    INCIDENTS,
    LATE_AT_EDGE,
    RECORDED,
    SILENT,
    SINGLE_HOST,
)
from benchmarks.alarms.traces import START, Traces, across_windows

SCENARIOS = {
    each.name: each
    for each in (
        replace(RECORDED, days=2.5),
        replace(SINGLE_HOST, days=1.5),
        LATE_AT_EDGE,
        replace(INCIDENTS, days=2.25),
    )
}
IN_BREACH = [name for name in SCENARIOS if name != INCIDENTS.name]
_OUTCOMES: dict[str, Outcome] = {}


def outcome_of(name: str) -> Outcome:
    if name not in _OUTCOMES:
        _OUTCOMES[name] = replay(SCENARIOS[name])
    return _OUTCOMES[name]


@pytest.fixture
def incident_outcome() -> Outcome:
    return outcome_of(INCIDENTS.name)


@pytest.mark.parametrize(("threshold", "breaches_per_host"), [(80, 2), (60, 37), (99.9, 0)])
def test_traces_have_sustained_breaches(threshold: float, breaches_per_host: int) -> None:
    breaches = Traces(FLEET).sustained("CPUUtilization", threshold)
    hosts = [each.host for each in breaches]
    assert (hosts.count("web-1"), hosts.count("web-3"), hosts.count("web-2")) == (
        breaches_per_host,
        breaches_per_host,
        0,
    )
    assert all(each.minutes >= 30 for each in breaches)


@pytest.mark.parametrize("name", IN_BREACH)
def test_no_sustained_cpu_breach_is_missed(name: str) -> None:
    found = detections(outcome_of(name), "HighCPU")
    assert found
    assert [each.breach for each in found if each.period is None] == []


def test_no_sustained_memory_breach_is_missed() -> None:
    """At 60 %: the only sustained breach of 90 % is after a week."""
    traces = tuple(each for each in FLEET if each.host == "web-2")
    scenario = replace(RECORDED, host_traces=traces, memory=60, days=0.75)
    found = detections(replay(scenario), "HighMemory")
    assert found
    assert [each.breach for each in found if each.period is None] == []


@pytest.mark.parametrize("name", [SINGLE_HOST.name, LATE_AT_EDGE.name])
def test_scenario_has_breaches_across_windows(name: str) -> None:
    assert across_windows(sustained_breaches(outcome_of(name), "HighCPU"))


def test_breach_with_late_points_is_detected_by_the_next_run() -> None:
    last = detections(outcome_of(LATE_AT_EDGE.name), "HighCPU")[-1]
    assert last.breach.start == START + timedelta(hours=14, minutes=40)
    assert last.at == START + timedelta(hours=18)
    assert last.names_host


def test_missed_breach_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", LATE_AT_EDGE.name, "--breach-minutes", "45", "--verbose"]) == 1
    assert "MISSED" in capsys.readouterr().out


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("alarm", HOST_ALARMS)
def test_every_alarm_has_a_host_in_breach_for_15_minutes(alarm: str, name: str) -> None:
    assert [
        each for each in period_breaches(outcome_of(name), alarm) if each.max_minutes < 15
    ] == []


def test_scenario_has_the_expected_incidents(incident_outcome: Outcome) -> None:
    assert [(each.description, each.alarm) for each in incidents(incident_outcome)] == [
        ("no runs", "PipelineStopped"),
        ("no data from web-4", "HostsMissing"),
        ("1 attempt of each object failed", "ProcessorErrors"),
        ("3 attempts of each object failed", "ProcessorErrors"),
        ("dead letters", "DeadLettersWaiting"),
    ]


def test_every_incident_is_reported_once_and_in_time(incident_outcome: Outcome) -> None:
    assert [each for each in incidents(incident_outcome) if not each.is_reported] == []


def test_email_names_the_missing_host(incident_outcome: Outcome) -> None:
    (period,) = incident_outcome.alarm_periods("HostsMissing")
    assert period.start - (START + SILENT[0]) < timedelta(hours=6)
    (email,) = [
        each for each in incident_outcome.emails if each.at == period.start and each.kind == "alarm"
    ]
    assert email.hosts == ("web-4",)


def test_five_incidents_cause_eleven_emails(incident_outcome: Outcome) -> None:
    """One for each start and end, and one sent by CloudWatch for the notifier's own alarm."""
    counts = incident_outcome.emails_by_kind()
    assert (counts["alarm"], counts["direct"]) == (10, 1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_alarm_change_causes_one_email_or_page(name: str) -> None:
    outcome = outcome_of(name)
    counts = outcome.emails_by_kind()
    assert counts["alarm"] + counts["page"] == outcome.transitions
    assert counts["direct"] == len(outcome.alarm_periods("DeadLettersWaiting"))
    assert counts["run"] == outcome.runs
