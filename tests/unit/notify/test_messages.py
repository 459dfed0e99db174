"""Messages: the affected hosts from records, and the texts and JSON from events."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model.alarm_catalog import ALARMS, Alarm, find_alarm
from chalicelib.model.enrichment import enrich
from chalicelib.model.errors import InvalidEventError
from chalicelib.model.items import enriched_item, previous_from_record
from chalicelib.model.records import Measurement
from chalicelib.notify.affected_hosts import (
    AffectedHost,
    StoredRecord,
    affected_by,
    first_to_fill,
    fullest,
    highest_values,
    missing_hosts,
    read_item,
)
from chalicelib.notify.alarm_messages import StateChange, alarm_message, read_state_change
from chalicelib.notify.messages import Deployment, Message, format_duration, subject_line
from chalicelib.notify.run_messages import DaySummary, Run, read_run, run_message
from chalicelib.telemetry.metrics import record_metrics
from tests.conftest import ACCOUNT, REGION, ROOT, SETTINGS, WINDOW_END, make_record, point

DEPLOYMENT = Deployment(
    "prod", ACCOUNT, REGION, "https://git.example.com/infra/blob/main/docs/runbooks"
)
WINDOW = timedelta(hours=3)
RUN = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:InfraMonitoring-Pipeline-Orch:abc"


def stored(host: str, windows_ago: int = 0, **changes: Any) -> StoredRecord:
    values: dict[str, Any] = {
        "resource_id": host,
        "account_id": ACCOUNT,
        "region": REGION,
        "timestamp": WINDOW_END - windows_ago * WINDOW,
        "window_seconds": 10_800,
        **changes,
    }
    return StoredRecord(**values)


def breached(host: str, minutes: float, windows_ago: int = 0) -> StoredRecord:
    cpu = Measurement(
        unit="percent", last=20, avg=30, max=99.1, samples=36, breach_seconds=60 * minutes
    )
    return stored(host, windows_ago, measurements={"utilization": cpu})


def alarm_event(name: str = "InfraMonitoring-HighCPU", **changes: Any) -> dict[str, Any]:
    """An alarm event in the format that AWS documents for EventBridge."""
    state = {
        "value": "ALARM",
        "timestamp": "2026-11-22T18:05:40.989+0000",
        "reason": "Threshold Crossed: 1 out of the last 1 datapoints [45.0] was greater than or"
        " equal to the threshold (15.0).",
        "reasonData": json.dumps({"version": "1.0", "threshold": 15.0, "period": 10800}),
        **changes.pop("state", {}),
    }
    previous = {"value": "OK", "timestamp": "2026-11-20T06:00:40.000+0000"}
    return {
        "version": "0",
        "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": ACCOUNT,
        "time": "2026-11-22T18:05:41Z",
        "region": REGION,
        "resources": [f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"],
        "detail": {
            "alarmName": name,
            "configuration": {"description": "Of CloudFormation.", "metrics": []},
            "previousState": previous | changes.pop("previous", {}),
            "state": state,
        },
    }


def change(name: str = "InfraMonitoring-HighCPU", **changes: Any) -> StateChange:
    found = read_state_change(alarm_event(name, **changes), "")
    assert found is not None
    return found


RESOLVED: dict[str, Any] = {"state": {"value": "OK"}, "previous": {"value": "ALARM"}}


# --- Affected hosts ------------------------------------------------------------------------


def test_a_host_in_breach_is_named_with_minutes_peak_and_start() -> None:
    records = [breached("web-1", 45), breached("web-1", 20, 1), breached("web-1", 0, 2)]
    (found,) = affected_by(ALARMS["HighCPU"], records, 15.0, SETTINGS)
    assert found.description == "45 of 180 minutes above 80 %, peak 99.1 %"
    # The first of the two consecutive breaches started two windows before the end.
    assert found.since == WINDOW_END - 2 * WINDOW


@pytest.mark.parametrize(("value", "descriptions"), [(91.25, ["91.2 %, above 80 %"]), (80, [])])
def test_a_host_with_one_value_for_a_window_is_named_with_it(
    value: float, descriptions: list[str]
) -> None:
    cpu = Measurement(unit="percent", last=value, samples=1)
    records = [stored("web-1", 0, measurements={"utilization": cpu})]
    found = affected_by(ALARMS["HighCPU"], records, 15.0, SETTINGS)
    assert [each.description for each in found] == descriptions


def test_the_longest_breach_is_first() -> None:
    records = [breached("web-1", 15), breached("web-2", 170), breached("web-3", 14)]
    found = affected_by(ALARMS["HighCPU"], records, 15.0, SETTINGS)
    assert [each.name for each in found] == ["web-2", "web-1"]


def test_a_breach_starts_after_the_last_gap_in_the_records() -> None:
    records = [breached("web-1", 45), breached("web-1", 45, 2)]
    (found,) = affected_by(ALARMS["HighCPU"], records, 15.0, SETTINGS)
    assert found.since == WINDOW_END - WINDOW


def test_a_host_that_recovered_or_stopped_reporting_is_not_affected() -> None:
    records = [breached("recovered", 0), breached("recovered", 90, 1), breached("silent", 90, 2)]
    assert affected_by(ALARMS["HighCPU"], records, 15.0, SETTINGS) == []


def test_the_threshold_of_the_alarm_is_used() -> None:
    assert affected_by(ALARMS["HighCPU"], [breached("web-1", 45)], 60.0, SETTINGS) == []
    assert affected_by(ALARMS["HighCPU"], [breached("web-1", 45)], None, SETTINGS) != []


def test_an_instance_is_named_with_its_name_tag() -> None:
    record = stored("i-1", labels={"name": "db"}, measurements={"percent": point("percent", 95)})
    (found,) = affected_by(ALARMS["DiskNearlyFull"], [record], 90.0, SETTINGS)
    assert found.name == "db (i-1)"


def test_the_fullest_file_system_is_named() -> None:
    measurements = {
        name: point("percent", value)
        for name, value in (("percent", 60), ("percent:/", 50), ("percent:/var", 97.2))
    }
    found = fullest(stored("web-1", measurements=measurements), 90)
    assert found is not None
    assert found.description == "/var 97.2 % used"


def test_a_disk_is_full_when_it_has_grown_by_its_free_space() -> None:
    measurements = {"free": point("bytes", 100), "free:/var": point("bytes", 20)}
    record = stored(
        "db",
        measurements=measurements,
        change={"used": 10, "used:/var": 10},
        previous_timestamp=WINDOW_END - WINDOW,
    )
    found = first_to_fill(record, 72)
    assert found is not None
    assert found.description == "/var full in 6 h"  # 20 bytes at 10 in three hours
    assert first_to_fill(record, 5) is None


def test_a_disk_that_shrinks_or_has_no_previous_window_does_not_fill() -> None:
    free = {"free": point("bytes", 1)}
    assert (
        first_to_fill(
            stored(
                "db",
                measurements=free,
                change={"used": -5},
                previous_timestamp=WINDOW_END - WINDOW,
            ),
            72,
        )
        is None
    )
    assert first_to_fill(stored("db", measurements=free), 72) is None


def test_a_host_without_a_record_of_the_newest_window_is_missing() -> None:
    records = [stored("a"), stored("b", 1), stored("b", 2), stored("c", 3)]
    found = missing_hosts(records)
    assert [(each.name, each.since) for each in found] == [
        ("c", WINDOW_END - 3 * WINDOW),
        ("b", WINDOW_END - WINDOW),
    ]


def test_a_run_names_a_host_once_with_its_worst_value_first() -> None:
    def of(metric_type: str, host: str, name: str, value: float) -> tuple[str, StoredRecord]:
        return metric_type, stored(host, measurements={name: point("percent", value)})

    found = highest_values(
        [
            of("cpu", "a", "utilization", 12),
            of("cpu", "b", "utilization", 75),
            of("memory", "a", "percent", 99),
        ],
        SETTINGS,
    )
    assert [(each.name, each.description) for each in found] == [
        ("a", "memory 99.0 % (critical from 90 %), cpu 12.0 %"),
        ("b", "cpu 75.0 % (warning from 70 %)"),
    ]


@pytest.mark.parametrize("alarm", ALARMS.values(), ids=lambda alarm: alarm.name)
def test_every_alarm_has_a_rule_for_its_hosts(alarm: Alarm) -> None:
    assert affected_by(alarm, [], None, SETTINGS) == []


def test_metric_and_message_have_the_same_forecast_for_percentages_only() -> None:
    before = make_record(
        metric_type="disk",
        timestamp=WINDOW_END - WINDOW,
        measurements={"percent:/var": point("percent", 88)},
    )
    record = make_record(metric_type="disk", measurements={"percent:/var": point("percent", 94)})
    enriched = enrich(
        record,
        previous_from_record(before),
        settings=SETTINGS,
        source_object="s3://bucket/raw-metrics/x",
        stored_at=WINDOW_END,
        now=WINDOW_END,
    )
    metrics = record_metrics([enriched], settings=SETTINGS, now=WINDOW_END)
    (hours,) = (each.values for each in metrics if each.name == "DiskHoursToFull")
    (host,) = affected_by(
        ALARMS["DiskFillsUp"], [read_item(enriched_item(enriched, retention_days=90))], 72, SETTINGS
    )
    assert list(hours) == [3.0]
    assert host.description == "/var full in 3 h"


# --- Alarms --------------------------------------------------------------------------------

WEB = AffectedHost(
    "web-1", ACCOUNT, REGION, "45 of 180 minutes above 80 %", 45, WINDOW_END - WINDOW
)
DB = AffectedHost("db", "210987654321", "eu-central-1", "16 of 180 minutes above 80 %", 16, None)


def test_the_subject_has_issue_and_deployment_and_the_text_the_details() -> None:
    message = alarm_message(change(), [WEB, DB], DEPLOYMENT)
    assert message.subject == (
        "ALARM CPU high: web-1 45 of 180 minutes above 80 % and 1 more [prod eu-west-1]"
    )
    for line in (
        "- web-1: 45 of 180 minutes above 80 %, since 2026-11-22 15:00 UTC",
        "- db [210987654321 eu-central-1]: 16 of 180",
        f"Where: stage prod, account {ACCOUNT}, {REGION}",
        "Since: 2026-11-22 18:05 UTC",
        "What it means: CPU",
        "What to do: Find",
        "Runbook: https://git.example.com/infra/blob/main/docs/runbooks/HighCPU.md",
        "#dashboards/dashboard/InfraMonitoring",
        "Reason given by CloudWatch: Threshold Crossed",
    ):
        assert line in message.text, line


def test_five_hosts_are_named_and_the_others_are_counted() -> None:
    message = alarm_message(change(), [WEB] * 8, DEPLOYMENT)
    assert message.text.count("- web-1:") == 5
    assert "- and 3 more" in message.text
    assert message.facts["host_count"] == 8


def test_the_end_of_an_alarm_includes_its_duration() -> None:
    message = alarm_message(change(**RESOLVED), [], DEPLOYMENT)
    assert message.subject.startswith("OK CPU high: resolved after 2 d 12 h ")
    assert message.attributes["severity"] == "ok"
    assert message.facts["lasted_seconds"] == 216_301


@pytest.mark.parametrize(
    ("previous", "current", "reported"),
    [
        ("OK", "ALARM", True),
        ("INSUFFICIENT_DATA", "ALARM", True),
        ("ALARM", "OK", True),
        ("INSUFFICIENT_DATA", "OK", False),  # a new alarm
        ("ALARM", "INSUFFICIENT_DATA", False),
    ],
)
def test_only_starts_and_ends_are_reported(previous: str, current: str, reported: bool) -> None:
    assert change(state={"value": current}, previous={"value": previous}).is_reported is reported


def test_attributes_allow_filtering() -> None:
    assert alarm_message(change(), [WEB], DEPLOYMENT).attributes == {
        "kind": "alarm",
        "severity": "alarm",
        "alarm": "InfraMonitoring-HighCPU",
        "state": "ALARM",
        "stage": "prod",
        "region": REGION,
    }


def test_the_documented_email_is_the_one_that_is_sent() -> None:
    reason = "Threshold Crossed: 1 out of the last 1 datapoints [45.0 (22/11/26 15:00:00)] was"
    reason += " greater than or equal to the threshold (15.0)."
    records = [breached("web-1", 45), breached("web-1", 30, 1)]
    db = breached("i-0123456789abcdef0", 16)
    records.append(
        msgspec.structs.replace(
            db,
            labels={"name": "db"},
            measurements={
                "utilization": msgspec.structs.replace(db.measurements["utilization"], max=88)
            },
        )
    )
    deployment = Deployment("prod", ACCOUNT, REGION, "docs/runbooks")
    found = affected_by(ALARMS["HighCPU"], records, 15.0, SETTINGS)
    mail = alarm_message(change(state={"reason": reason}), found, deployment)
    documented = (ROOT / "docs" / "messages.md").read_text().split("```")[1]
    assert documented == f"\n{mail.subject}\n\n{mail.text}"


@pytest.mark.parametrize("name", ALARMS)
@pytest.mark.parametrize("changes", [{}, RESOLVED], ids=["starts", "ends"])
def test_only_the_composite_alarm_is_a_page(name: str, changes: dict[str, Any]) -> None:
    message = alarm_message(change(f"InfraMonitoring-{name}", **changes), [], DEPLOYMENT)
    assert message.is_page is (name == "Page")


def test_a_page_names_its_child_alarms() -> None:
    arns = [f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:InfraMonitoring-{n}" for n in ("A", "B")]
    data = json.dumps({"triggeringAlarms": [{"arn": arn} for arn in arns]})
    page = change("InfraMonitoring-Page", state={"reasonData": data})
    subject = alarm_message(page, [], DEPLOYMENT).subject
    assert subject == "PAGE Immediate action required: A, B [prod eu-west-1]"


@pytest.mark.parametrize(
    ("name", "suffix", "accepted"),
    [
        ("InfraMonitoring-HighCPU", "", True),
        ("InfraMonitoring-HighCPU-dev", "-dev", True),
        ("InfraMonitoring-HighCPU-dev", "", False),
        ("InfraMonitoring-HighCPU", "-dev", False),
        ("Other-HighCPU", "", False),
    ],
)
def test_an_alarm_of_another_stage_is_ignored(name: str, suffix: str, accepted: bool) -> None:
    assert (read_state_change(alarm_event(name), suffix) is not None) is accepted


def test_an_unknown_alarm_has_its_cloudwatch_description() -> None:
    alarm = find_alarm("HighCPUOfBuildHost", "The build host is busy.")
    assert (alarm.title, alarm.meaning) == ("HighCPUOfBuildHost", "The build host is busy.")


def test_an_event_that_is_not_a_change_of_state_is_rejected() -> None:
    with pytest.raises(InvalidEventError):
        read_state_change({"detail": {"alarmName": "InfraMonitoring-HighCPU"}}, "")


# --- Runs ----------------------------------------------------------------------------------


def result(metric_type: str, **changes: Any) -> dict[str, Any]:
    summary = f"{metric_type}: 3 records from 3 hosts in 12 ms"
    return {
        "metric_type": metric_type,
        "status": "SUCCEEDED",
        "reporting": 3,
        "summary": summary,
        **changes,
    }


def failed(metric_type: str, cause: str) -> dict[str, Any]:
    return {
        "metric_type": metric_type,
        "status": "FAILED",
        "error": "StorageError",
        "cause": cause,
    }


def run(*results: Mapping[str, Any]) -> Run:
    return Run(RUN, WINDOW_END, results)


GOOD = [result(name) for name in ("cpu", "memory", "disk", "network")]


def test_the_message_of_a_successful_run_has_counts_and_links() -> None:
    message = run_message(run(*GOOD), [], DEPLOYMENT)
    assert message.subject == "InfraMonitoring: run succeeded: 3 hosts [prod eu-west-1]"
    for each in GOOD:
        assert each["summary"] in message.text
    assert f"#/v2/executions/details/{RUN}" in message.text
    assert message.attributes["severity"] == "info"


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        ('{"errorMessage": "put item X: 5", "errorType": "StorageError"}', "put item X: 5"),
        ("Function not found", "Function not found"),
        ("[1]", "[1]"),
        ("{cut", "{cut"),
    ],
)
def test_a_failed_branch_is_named_with_its_reason(cause: str, reason: str) -> None:
    message = run_message(run(*GOOD[:3], failed("network", cause)), [], DEPLOYMENT)
    assert message.subject.startswith("InfraMonitoring: run FAILED: network ")
    assert f"network: FAILED after 3 retries: StorageError: {reason}\n" in message.text
    assert "python -m infra redrive" in message.text
    assert message.attributes["severity"] == "alarm"


def test_a_partly_failed_branch_includes_what_is_stored() -> None:
    partly = result("cpu", status="FAILED", error="ChunksFailed", cause="1 of 3 chunks failed")
    text = run_message(run(partly, *GOOD[1:]), [], DEPLOYMENT).text
    assert "ChunksFailed: 1 of 3 chunks failed\ncpu: 3 records from 3 hosts" in text


def test_the_digest_counts_the_day() -> None:
    day = DaySummary(7, [WINDOW_END - 2 * WINDOW])
    message = run_message(run(*GOOD), [], DEPLOYMENT, day=day)
    assert message.subject.startswith("InfraMonitoring: 7 of 8 runs of the last day succeeded")
    assert "7 succeeded, 1 failed." in message.text
    assert "- failed: 2026-11-22 12:00 UTC" in message.text
    assert message.attributes["kind"] == "digest"


@pytest.mark.parametrize(
    "event", [{}, {"detail": {}}, {"detail": {"results": [{}]}}, {"detail": 1}]
)
def test_an_event_that_is_not_a_run_is_rejected(event: dict[str, Any]) -> None:
    with pytest.raises(InvalidEventError):
        read_run(event)


# --- SNS's limits --------------------------------------------------------------------------


@given(st.text(max_size=300), st.text(max_size=60))
def test_every_subject_is_accepted_by_sns(issue: str, deployment: str) -> None:
    subject = subject_line(f"x{issue}", deployment)
    assert 0 < len(subject) <= 100
    assert all(" " <= letter <= "~" for letter in subject)


def test_a_long_subject_keeps_the_deployment() -> None:
    assert subject_line("x" * 300, "[prod]").endswith("... [prod]")


def test_the_structured_message_has_text_for_people_and_json_for_programs() -> None:
    message = alarm_message(change(), [WEB], DEPLOYMENT)
    structured = json.loads(message.structured())
    assert structured["default"] == structured["email"] == message.text
    for protocol in ("sqs", "lambda", "http", "https"):
        assert json.loads(structured[protocol])["hosts"][0]["name"] == "web-1"


def test_a_message_with_a_thousand_hosts_is_small_enough_for_sns() -> None:
    many = [AffectedHost("h" * 500, ACCOUNT, REGION, "w" * 100, 1, WINDOW_END)] * 1_000
    assert len(alarm_message(change(), many, DEPLOYMENT).structured()) < 262_144


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("eu-west-1", "console.aws.amazon.com"),
        ("cn-north-1", "console.amazonaws.cn"),
        ("us-gov-west-1", "console.amazonaws-us-gov.com"),
    ],
)
def test_links_use_the_console_of_the_partition(region: str, domain: str) -> None:
    deployment = Deployment("dev", ACCOUNT, region, "docs/runbooks")
    assert deployment.dashboard == (
        f"https://{region}.{domain}/cloudwatch/home?region={region}"
        "#dashboards/dashboard/InfraMonitoring-dev"
    )


@pytest.mark.parametrize(
    ("minutes", "text"), [(45, "45 min"), (125, "2 h 5 min"), (60 * 76, "3 d 4 h")]
)
def test_a_duration_has_two_units(minutes: int, text: str) -> None:
    assert format_duration(timedelta(minutes=minutes)) == text


def messages() -> list[Message]:
    return [alarm_message(change(), [WEB], DEPLOYMENT), run_message(run(*GOOD), [], DEPLOYMENT)]


def test_facts_are_json_with_iso_times() -> None:
    for message in messages():
        facts = json.loads(json.dumps(message.facts))
        assert datetime.fromisoformat(facts["time"]).tzinfo is not None
