"""What people and machines are told: suspects out of records, messages out of events."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model.alarm_catalog import ALARMS, alarm_of
from chalicelib.model.errors import InvalidEventError
from chalicelib.model.records import Measurement
from chalicelib.notify.affected_hosts import (
    SEARCHES,
    Stored,
    Suspect,
    filling,
    fullest,
    highest,
    missing,
    suspects_of,
)
from chalicelib.notify.alarm_messages import Change, alarm_message, change_of
from chalicelib.notify.messages import (
    Message,
    Place,
    span,
    subject_line,
)
from chalicelib.notify.run_messages import (
    Run,
    Runs,
    run_message,
    run_of,
)
from tests.conftest import (
    ACCOUNT,
    REGION,
    ROOT,
    SETTINGS,
    WINDOW_END,
    point,
)

PLACE = Place("prod", ACCOUNT, REGION, "https://git.example.com/infra/blob/main/docs/runbooks")
WINDOW = timedelta(hours=3)
RUN = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:InfraMonitoring-Pipeline-Orch:abc"


def stored(host: str, windows_ago: int = 0, **changes: Any) -> Stored:
    values: dict[str, Any] = {
        "resource_id": host,
        "account_id": ACCOUNT,
        "region": REGION,
        "timestamp": WINDOW_END - windows_ago * WINDOW,
        "window_seconds": 10_800,
        **changes,
    }
    return Stored(**values)


def breached(host: str, minutes: float, windows_ago: int = 0) -> Stored:
    cpu = Measurement(
        unit="percent", last=20, avg=30, max=99.1, samples=36, breach_seconds=60 * minutes
    )
    return stored(host, windows_ago, measurements={"utilization": cpu})


def alarm_event(name: str = "InfraMonitoring-HighCPU", **changes: Any) -> dict[str, Any]:
    """In the form of AWS's documentation of alarm events and EventBridge."""
    state = {
        "value": "ALARM",
        "timestamp": "2026-11-22T18:05:40.989+0000",
        "reason": "Threshold Crossed: 1 out of the last 1 datapoints [45.0] was greater than or"
        " equal to the threshold (15.0).",
        "reasonData": json.dumps({"version": "1.0", "threshold": 15.0, "period": 10800}),
        **changes.pop("state", {}),
    }
    before = {"value": "OK", "timestamp": "2026-11-20T06:00:40.000+0000"}
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
            "previousState": before | changes.pop("before", {}),
            "state": state,
        },
    }


def change(name: str = "InfraMonitoring-HighCPU", **changes: Any) -> Change:
    found = change_of(alarm_event(name, **changes), "")
    assert found is not None
    return found


OVER: dict[str, Any] = {"state": {"value": "OK"}, "before": {"value": "ALARM"}}


# --- Which hosts ---------------------------------------------------------------------------


def test_a_host_in_breach_is_named_with_its_minutes_peak_and_beginning() -> None:
    records = [breached("web-1", 45), breached("web-1", 20, 1), breached("web-1", 0, 2)]
    (found,) = suspects_of("cpu breach", records, 15.0, SETTINGS)
    assert found.words == "45 of 180 minutes above 80 %, peak 99.1 %"
    # The window of the first of the two breaches in a row began two windows before the end.
    assert found.since == WINDOW_END - 2 * WINDOW


@pytest.mark.parametrize(("value", "words"), [(91.25, ["91.2 %, above 80 %"]), (80, [])])
def test_a_host_with_one_value_for_a_window_is_named_with_it(
    value: float, words: list[str]
) -> None:
    cpu = Measurement(unit="percent", last=value, samples=1)
    records = [stored("web-1", 0, measurements={"utilization": cpu})]
    found = suspects_of("cpu breach", records, 15.0, SETTINGS)
    assert [each.words for each in found] == words


def test_the_longest_breach_is_named_first() -> None:
    records = [breached("web-1", 15), breached("web-2", 170), breached("web-3", 14)]
    found = suspects_of("cpu breach", records, 15.0, SETTINGS)
    assert [each.name for each in found] == ["web-2", "web-1"]


def test_a_gap_in_the_records_ends_how_far_back_a_breach_is_said_to_go() -> None:
    records = [breached("web-1", 45), breached("web-1", 45, 2)]
    (found,) = suspects_of("cpu breach", records, 15.0, SETTINGS)
    assert found.since == WINDOW_END - WINDOW


def test_a_host_that_is_well_again_or_silent_since_is_no_suspect() -> None:
    records = [breached("well", 0), breached("well", 90, 1), breached("silent", 90, 2)]
    assert suspects_of("cpu breach", records, 15.0, SETTINGS) == []


def test_the_threshold_is_the_alarms_own() -> None:
    assert suspects_of("cpu breach", [breached("web-1", 45)], 60.0, SETTINGS) == []
    assert suspects_of("cpu breach", [breached("web-1", 45)], None, SETTINGS) != []


def test_an_instance_is_called_by_its_name_tag_too() -> None:
    record = stored("i-1", labels={"name": "db"}, measurements={"percent": point("percent", 95)})
    (found,) = suspects_of("disk full", [record], 90.0, SETTINGS)
    assert found.name == "db (i-1)"


def test_the_fullest_file_system_is_named() -> None:
    measurements = {
        name: point("percent", value)
        for name, value in (("percent", 60), ("percent:/", 50), ("percent:/var", 97.2))
    }
    found = fullest(stored("web-1", measurements=measurements), 90)
    assert found is not None
    assert found.words == "/var 97.2 % used"


def test_a_disk_is_full_when_its_growth_has_eaten_what_is_free() -> None:
    measurements = {"free": point("bytes", 100), "free:/var": point("bytes", 20)}
    record = stored("db", measurements=measurements, change={"used": 10, "used:/var": 10})
    found = filling(record, 72)
    assert found is not None
    assert found.words == "/var full in 6 h"  # 20 bytes at 10 in three hours
    assert filling(record, 5) is None


def test_a_disk_that_shrinks_or_has_no_window_before_does_not_fill() -> None:
    free = {"free": point("bytes", 1)}
    assert filling(stored("db", measurements=free, change={"used": -5}), 72) is None
    assert filling(stored("db", measurements=free), 72) is None


def test_a_host_without_a_record_of_the_newest_window_is_missing_longest_first() -> None:
    records = [stored("a"), stored("b", 1), stored("b", 2), stored("c", 3)]
    found = missing(records)
    assert [(each.name, each.since) for each in found] == [
        ("c", WINDOW_END - 3 * WINDOW),
        ("b", WINDOW_END - WINDOW),
    ]


def test_a_run_names_a_host_once_with_its_worst_value_first() -> None:
    def of(metric_type: str, host: str, name: str, value: float) -> tuple[str, Stored]:
        return metric_type, stored(host, measurements={name: point("percent", value)})

    found = highest(
        [
            of("cpu", "a", "utilization", 12),
            of("cpu", "b", "utilization", 75),
            of("memory", "a", "percent", 99),
        ],
        SETTINGS,
    )
    assert [(each.name, each.words) for each in found] == [
        ("a", "memory 99.0 % (critical from 90 %), cpu 12.0 %"),
        ("b", "cpu 75.0 % (warning from 70 %)"),
    ]


def test_every_kind_of_suspects_of_an_alarm_can_be_searched() -> None:
    kinds = {alarm.suspects for alarm in ALARMS.values()} - {"none"}
    assert kinds == set(SEARCHES)


# --- Alarms --------------------------------------------------------------------------------

WEB = Suspect("web-1", ACCOUNT, REGION, "45 of 180 minutes above 80 %", 45, WINDOW_END - WINDOW)
DB = Suspect("db", "210987654321", "eu-central-1", "16 of 180 minutes above 80 %", 16, None)


def test_the_subject_says_what_and_where_and_the_text_the_rest() -> None:
    message = alarm_message(change(), [WEB, DB], PLACE)
    assert message.subject == (
        "ALARM CPU high: web-1 45 of 180 minutes above 80 % and 1 more [prod eu-west-1]"
    )
    for words in (
        "- web-1: 45 of 180 minutes above 80 %, since 2026-11-22 15:00 UTC",
        "- db [210987654321 eu-central-1]: 16 of 180",
        f"Where: stage prod, account {ACCOUNT}, {REGION}",
        "Since: 2026-11-22 18:05 UTC",
        "What it means: The CPU",
        "What to do: Look",
        "Runbook: https://git.example.com/infra/blob/main/docs/runbooks/HighCPU.md",
        "#dashboards/dashboard/InfraMonitoring",
        "CloudWatch says: Threshold Crossed",
    ):
        assert words in message.text, words


def test_five_hosts_are_named_and_the_others_counted() -> None:
    message = alarm_message(change(), [WEB] * 8, PLACE)
    assert message.text.count("- web-1:") == 5
    assert "- and 3 more" in message.text
    assert message.facts["host_count"] == 8


def test_the_end_of_an_alarm_says_how_long_it_lasted() -> None:
    message = alarm_message(change(**OVER), [], PLACE)
    assert message.subject.startswith("OK CPU high is over after 2 d 12 h ")
    assert message.attributes["severity"] == "ok"
    assert message.facts["lasted_seconds"] == 216_301


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("OK", "ALARM", True),
        ("INSUFFICIENT_DATA", "ALARM", True),
        ("ALARM", "OK", True),
        ("INSUFFICIENT_DATA", "OK", False),  # every alarm that has just been made
        ("ALARM", "INSUFFICIENT_DATA", False),
    ],
)
def test_beginnings_and_ends_are_told_and_nothing_else(before: str, now: str, told: bool) -> None:
    assert change(state={"value": now}, before={"value": before}).is_told is told


def test_attributes_tell_machines_apart_what_they_want() -> None:
    assert alarm_message(change(), [WEB], PLACE).attributes == {
        "kind": "alarm",
        "severity": "alarm",
        "alarm": "InfraMonitoring-HighCPU",
        "state": "ALARM",
        "stage": "prod",
        "region": REGION,
    }


def test_the_mail_in_the_docs_is_the_one_that_is_sent() -> None:
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
    place = Place("prod", ACCOUNT, REGION, "docs/runbooks")
    found = suspects_of("cpu breach", records, 15.0, SETTINGS)
    mail = alarm_message(change(state={"reason": reason}), found, place)
    documented = (ROOT / "docs" / "messages.md").read_text().split("```")[1]
    assert documented == f"\n{mail.subject}\n\n{mail.text}"


@pytest.mark.parametrize("name", ALARMS)
@pytest.mark.parametrize("changes", [{}, OVER], ids=["begins", "ends"])
def test_only_the_composite_pages(name: str, changes: dict[str, Any]) -> None:
    message = alarm_message(change(f"InfraMonitoring-{name}", **changes), [], PLACE)
    assert message.is_page is (name == "Page")


def test_a_page_names_the_alarms_that_made_it() -> None:
    arns = [f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:InfraMonitoring-{n}" for n in ("A", "B")]
    data = json.dumps({"triggeringAlarms": [{"arn": arn} for arn in arns]})
    page = change("InfraMonitoring-Page", state={"reasonData": data})
    subject = alarm_message(page, [], PLACE).subject
    assert subject == "PAGE Somebody is needed now: A, B [prod eu-west-1]"


@pytest.mark.parametrize(
    ("name", "suffix", "ours"),
    [
        ("InfraMonitoring-HighCPU", "", True),
        ("InfraMonitoring-HighCPU-dev", "-dev", True),
        ("InfraMonitoring-HighCPU-dev", "", False),
        ("InfraMonitoring-HighCPU", "-dev", False),
        ("Somebodys-HighCPU", "", False),
    ],
)
def test_an_alarm_of_another_stage_is_none_of_ours(name: str, suffix: str, ours: bool) -> None:
    assert (change_of(alarm_event(name), suffix) is not None) is ours


def test_an_alarm_that_is_not_known_speaks_for_itself() -> None:
    alarm = alarm_of("BrandNew", "The coffee is out.")
    assert (alarm.title, alarm.meaning) == ("BrandNew", "The coffee is out.")


def test_an_alarm_for_each_function_is_the_alarm_of_all() -> None:
    assert alarm_of("LambdaDurationNotifier", "").name == "LambdaDuration"


def test_what_is_no_change_of_an_alarm_is_refused() -> None:
    with pytest.raises(InvalidEventError):
        change_of({"detail": {"alarmName": "InfraMonitoring-HighCPU"}}, "")


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


def test_a_run_that_succeeded_says_so_with_counts_and_links() -> None:
    message = run_message(run(*GOOD), [], PLACE)
    assert message.subject == "InfraMonitoring: run succeeded: 3 hosts [prod eu-west-1]"
    for each in GOOD:
        assert each["summary"] in message.text
    assert f"#/v2/executions/details/{RUN}" in message.text
    assert message.attributes["severity"] == "info"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ('{"errorMessage": "put item X: 5", "errorType": "StorageError"}', "put item X: 5"),
        ("The function is not there", "The function is not there"),
        ("[1]", "[1]"),
        ("{cut", "{cut"),
    ],
)
def test_a_branch_that_failed_is_named_with_its_reason(cause: str, words: str) -> None:
    message = run_message(run(*GOOD[:3], failed("network", cause)), [], PLACE)
    assert message.subject.startswith("InfraMonitoring: run FAILED: network ")
    assert f"network: FAILED after 3 retries: StorageError: {words}\n" in message.text
    assert "python -m infra redrive" in message.text
    assert message.attributes["severity"] == "alarm"


def test_a_large_fleets_branch_that_failed_in_part_says_what_is_stored() -> None:
    partly = result("cpu", status="FAILED", error="ChunksFailed", cause="1 of 3 chunks failed")
    text = run_message(run(partly, *GOOD[1:]), [], PLACE).text
    assert "ChunksFailed: 1 of 3 chunks failed\ncpu: 3 records from 3 hosts" in text


def test_the_digest_counts_the_day() -> None:
    runs = Runs(7, [WINDOW_END - 2 * WINDOW])
    message = run_message(run(*GOOD), [], PLACE, runs=runs)
    assert message.subject.startswith("InfraMonitoring: 7 of 8 runs of the last day succeeded")
    assert "7 succeeded, 1 failed." in message.text
    assert "- failed: 2026-11-22 12:00 UTC" in message.text
    assert message.attributes["kind"] == "digest"


@pytest.mark.parametrize(
    "event", [{}, {"detail": {}}, {"detail": {"results": [{}]}}, {"detail": 1}]
)
def test_what_is_no_run_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(InvalidEventError):
        run_of(event)


# --- SNS's limits --------------------------------------------------------------------------


@given(st.text(max_size=300), st.text(max_size=60))
def test_a_subject_is_what_sns_takes(what: str, where: str) -> None:
    subject = subject_line(f"x{what}", where)
    assert 0 < len(subject) <= 100
    assert all(" " <= letter <= "~" for letter in subject)


def test_a_long_subject_keeps_its_where() -> None:
    assert subject_line("x" * 300, "[prod]").endswith("... [prod]")


def test_the_structured_message_has_text_for_people_and_json_for_machines() -> None:
    message = alarm_message(change(), [WEB], PLACE)
    structured = json.loads(message.structured())
    assert structured["default"] == structured["email"] == message.text
    for protocol in ("sqs", "lambda", "http", "https"):
        assert json.loads(structured[protocol])["hosts"][0]["name"] == "web-1"


def test_a_message_about_a_thousand_hosts_fits_into_sns() -> None:
    many = [Suspect("h" * 500, ACCOUNT, REGION, "w" * 100, 1, WINDOW_END)] * 1_000
    assert len(alarm_message(change(), many, PLACE).structured()) < 262_144


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("eu-west-1", "console.aws.amazon.com"),
        ("cn-north-1", "console.amazonaws.cn"),
        ("us-gov-west-1", "console.amazonaws-us-gov.com"),
    ],
)
def test_links_lead_to_the_console_of_the_partition(region: str, domain: str) -> None:
    place = Place("dev", ACCOUNT, region, "docs/runbooks")
    assert place.dashboard == (
        f"https://{region}.{domain}/cloudwatch/home?region={region}"
        "#dashboards/dashboard/InfraMonitoring-dev"
    )


@pytest.mark.parametrize(
    ("minutes", "words"), [(45, "45 min"), (125, "2 h 5 min"), (60 * 76, "3 d 4 h")]
)
def test_a_span_is_told_in_two_units(minutes: int, words: str) -> None:
    assert span(timedelta(minutes=minutes)) == words


def messages() -> list[Message]:
    return [alarm_message(change(), [WEB], PLACE), run_message(run(*GOOD), [], PLACE)]


def test_facts_are_json_with_times_in_iso() -> None:
    for message in messages():
        facts = json.loads(json.dumps(message.facts))
        assert datetime.fromisoformat(facts["time"]).tzinfo is not None
