"""GET /hosts and /hosts/{resource_id}: over a table on moto."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.api import host_history, hosts
from chalicelib.aws.record_table import TableReader
from chalicelib.model.errors import InvalidRequestError, UnknownThingError
from chalicelib.model.metric_types import METRIC_TYPES
from chalicelib.model.windows import format_utc
from tests.conftest import (
    ACCOUNT,
    SETTINGS,
    make_record,
    point,
)
from tests.support.api import (
    TABLE,
    WINDOW,
    Table,
    assert_conforms,
    last_scheduled_time,
    moto_table,
    records_of,
    window_measurement,
)


@pytest.fixture
def table() -> Iterator[Table]:
    with moto_table() as made:
        yield made


@pytest.fixture
def reader(table: Table) -> TableReader:
    return TableReader(lambda _: table.dynamodb, TABLE)


def glance(reader: TableReader, at: datetime | None = None) -> Any:
    answer = hosts.list_hosts(
        {}, settings=SETTINGS, records=reader, now=at or last_scheduled_time()
    )
    assert_conforms(answer, "Fleet")
    return answer


def look(reader: TableReader, name: str = "web-1", **query: str) -> Any:
    given = {key.strip("_"): [value] for key, value in query.items()}
    answer = host_history.get_host(
        name, given, settings=SETTINGS, records=reader, now=last_scheduled_time()
    )
    assert_conforms(answer, "HostHistory")
    return answer


def ago(windows: int) -> datetime:
    return last_scheduled_time() - windows * WINDOW


# --- The fleet --------------------------------------------------------------------------------


def test_an_empty_table_is_an_empty_fleet(reader: TableReader) -> None:
    assert glance(reader) == {"window_end": None, "windows": [], "hosts": [], "missing": []}


def test_hosts_come_worst_first_and_missing_ones_before_warnings(
    table: Table, reader: TableReader
) -> None:
    for name, value in (("fine", 10.0), ("busy", 75.0), ("worst", 99.0), ("bad", 91.0)):
        table.put(records_of(name, ago(0), value))
    table.put(records_of("gone", ago(1)))
    answer = glance(reader)
    found = [(each["resource_id"], each["status"]) for each in answer["hosts"]]
    assert found == [
        ("worst", "critical"),
        ("bad", "critical"),
        ("gone", "missing"),
        ("busy", "warning"),
        ("fine", "ok"),
    ]
    assert answer["missing"] == ["gone"]


def test_a_series_has_a_value_or_null_for_each_window(table: Table, reader: TableReader) -> None:
    for windows, value in ((0, 30.0), (1, 20.0), (7, 10.0), (8, 99.0)):
        table.put(records_of("web-1", ago(windows), value))
    answer = glance(reader)
    (host,) = answer["hosts"]
    cpu = host["measurements"]["cpu"]
    assert cpu["series"] == [10.0, None, None, None, None, None, 20.0, 30.0]
    assert len(answer["windows"]) == len(cpu["series"])
    assert answer["windows"][-1] == answer["window_end"] == cpu["timestamp"] == format_utc(ago(0))


def test_network_is_both_ways_in_bytes_per_second(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    network = glance(reader)["hosts"][0]["measurements"]["network"]
    assert (network["measurement"], network["avg"], network["max"]) == ("traffic", 150.0, None)


def test_cloudwatchs_sums_over_a_period_become_bytes_per_second(
    table: Table, reader: TableReader
) -> None:
    sums = {
        "bytes_sent": window_measurement(3_000, "bytes"),
        "bytes_received": window_measurement(6_000, "bytes"),
    }
    table.put(
        [
            make_record(
                metric_type="network", timestamp=ago(0), source="cloudwatch", measurements=sums
            )
        ]
    )
    network = glance(reader)["hosts"][0]["measurements"]["network"]
    assert network["avg"] == 9_000 / SETTINGS.period_seconds


def test_hosts_of_one_name_in_two_accounts_are_two(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put([make_record(timestamp=ago(0), account_id="210987654321")])
    assert [each["account_id"] for each in glance(reader)["hosts"]] == [ACCOUNT, "210987654321"]


def test_a_host_on_another_pace_belongs_to_the_same_window(
    table: Table, reader: TableReader
) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put(records_of("agent-1", ago(0) - timedelta(minutes=65)))
    answer = glance(reader)
    assert answer["missing"] == []
    assert answer["hosts"][0]["measurements"]["cpu"]["series"][-1] is not None


def test_a_clock_that_is_ahead_makes_nobody_missing(table: Table, reader: TableReader) -> None:
    for name in ("web-1", "web-2"):
        table.put(records_of(name, ago(0)))
    table.put(records_of("ahead", last_scheduled_time() + timedelta(hours=5)))
    answer = glance(reader)
    assert answer["window_end"] == format_utc(ago(0))
    assert answer["missing"] == []
    assert {each["resource_id"] for each in answer["hosts"]} == {"web-1", "web-2", "ahead"}


def test_what_was_kept_of_older_windows_is_read_again_when_asked_for(
    table: Table, reader: TableReader
) -> None:
    table.put(records_of("web-1", ago(0)))
    before = glance(reader)
    table.put(records_of("web-2", ago(3)))
    assert glance(reader) == before
    fresh = hosts.list_hosts(
        {}, settings=SETTINGS, records=reader, now=last_scheduled_time(), fresh=True
    )
    assert fresh["missing"] == ["web-2"]


def test_an_expired_host_is_not_shown(table: Table, reader: TableReader) -> None:
    table.put(records_of("old-1", ago(0)), retention_days=0)
    assert glance(reader)["hosts"] == []


def test_a_record_that_the_processor_has_not_seen_is_judged_all_the_same(
    table: Table, reader: TableReader
) -> None:
    table.put(records_of("web-1", ago(0), 95.0, types=("cpu",)))
    (item,) = table.dynamodb.scan(TableName=TABLE)["Items"]
    del item["status"]
    table.dynamodb.put_item(TableName=TABLE, Item=item)
    assert glance(reader)["hosts"][0]["status"] == "critical"


# --- One host ---------------------------------------------------------------------------------


def test_a_history_has_a_column_for_each_statistic(table: Table, reader: TableReader) -> None:
    for windows in range(3):
        table.put(records_of("web-1", ago(windows), 50.0 + 20 * windows))
    answer = look(reader)
    cpu = answer["history"]["cpu"]
    assert cpu["timestamps"] == [format_utc(ago(windows)) for windows in (2, 1, 0)]
    assert cpu["status"] == ["critical", "warning", "ok"]
    utilization = cpu["measurements"]["utilization"]
    assert utilization["avg"] == [90.0, 70.0, 50.0]
    assert utilization["min"] == [45.0, 35.0, 25.0]
    assert utilization["breach_seconds"] == [600.0, 0.0, 0.0]
    assert utilization["thresholds"] == {"warning": 70.0, "critical": 80.0}
    assert set(answer["latest"]) == set(METRIC_TYPES)
    assert answer["latest"]["disk"]["source_object"]


def test_both_ways_of_the_network_have_their_rates(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    network = look(reader)["history"]["network"]["measurements"]
    assert {name: each["last"] for name, each in network.items()} == {
        "bytes_sent": [100.0],
        "bytes_received": [50.0],
    }
    assert network["bytes_sent"]["unit"] == "bytes_per_second"


def test_each_file_system_has_a_series(table: Table, reader: TableReader) -> None:
    measured = {"percent": point("percent", 40), "percent:/var": point("percent", 90)}
    table.put([make_record(metric_type="disk", timestamp=ago(0), measurements=measured)])
    disk = look(reader)["history"]["disk"]["measurements"]
    assert {name: each["last"] for name, each in disk.items()} == {
        "percent": [40.0],
        "percent:/var": [90.0],
    }


def test_a_name_in_two_accounts_has_to_be_made_clear(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put([make_record(timestamp=ago(0), account_id="210987654321")])
    with pytest.raises(InvalidRequestError, match=r"several hosts .* give account_id and region"):
        look(reader)
    assert look(reader, account_id=ACCOUNT)["account_id"] == ACCOUNT


def test_an_unknown_host_is_not_there(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    with pytest.raises(UnknownThingError, match="no record of 'web-9'"):
        look(reader, "web-9")


def test_a_host_that_sent_nothing_in_the_newest_window_is_missing(
    table: Table, reader: TableReader
) -> None:
    """As the fleet has it; of an older time it says what the host was then."""
    table.put(records_of("web-2", ago(0)))
    table.put(records_of("web-1", ago(1)))
    assert look(reader, from_=days_ago(1))["status"] == "missing"
    assert look(reader, from_=days_ago(1), to=format_utc(ago(1)))["status"] == "ok"
    assert look(reader, "web-2", from_=days_ago(1))["status"] == "ok"


def test_a_type_that_is_measured_no_more_does_not_judge_the_host(
    table: Table, reader: TableReader
) -> None:
    table.put(records_of("web-1", ago(1), 99.0, types=["disk"]))
    table.put(records_of("web-1", ago(0), types=["cpu", "memory"]))
    assert look(reader, from_=days_ago(1))["status"] == "ok"


def test_an_expired_record_is_in_no_history(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put(records_of("web-1", ago(1)), retention_days=0)
    assert look(reader)["history"]["cpu"]["timestamps"] == [format_utc(ago(0))]


# --- By computed keys ---------------------------------------------------------------------------


class ShortSighted(TableReader):
    """A reader to which a page is one item, as it is with a very large fleet."""

    def recent_of(self, *arguments: Any) -> Any:
        found, _ = super().recent_of(*arguments)
        newest = {name: items[:1] for name, items in found.items()}
        return newest, last_scheduled_time() - timedelta(seconds=1)


@pytest.fixture
def distant(table: Table) -> TableReader:
    return ShortSighted(lambda _: table.dynamodb, TABLE)


def days_ago(days: int) -> str:
    return format_utc(last_scheduled_time() - timedelta(days=days))


def test_by_keys_a_history_is_the_same(
    table: Table, reader: TableReader, distant: TableReader
) -> None:
    for windows in range(24):
        table.put(records_of("web-1", ago(windows), windows))
        table.put(records_of("web-2", ago(windows)))
    assert look(distant, from_=days_ago(4)) == look(reader, from_=days_ago(4))
    assert len(look(distant, from_=days_ago(4))["history"]["cpu"]["timestamps"]) == 24


def test_a_gap_is_no_end(table: Table, distant: TableReader) -> None:
    kept = [0, 1, 9, 10, 30]
    for windows in kept:
        table.put(records_of("web-1", ago(windows)))
    found = look(distant, from_=days_ago(5))["history"]["cpu"]["timestamps"]
    assert found == [format_utc(ago(windows)) for windows in reversed(kept)]


def test_a_clock_that_had_another_pace_is_followed(table: Table, distant: TableReader) -> None:
    """As after the clock's rule was made anew: ends are 40 minutes off before."""
    ends = [ago(windows) for windows in range(8)]
    ends += [ago(windows) - timedelta(minutes=40) for windows in range(8, 24)]
    for end in ends:
        table.put(records_of("web-1", end))
    found = look(distant, from_=days_ago(4))["history"]["cpu"]["timestamps"]
    assert found == sorted(map(format_utc, ends))


def test_a_host_that_went_silent_is_found_by_account_and_region(
    table: Table, reader: TableReader
) -> None:
    table.put(records_of("web-2", ago(0)))
    table.put(records_of("web-1", ago(16)))
    answer = look(reader, from_=days_ago(4), account_id=ACCOUNT, region="eu-west-1")
    assert answer["last_seen"] == format_utc(ago(16))
    assert answer["latest"]["cpu"]["version"]


def test_expired_records_are_not_found_by_keys(table: Table, distant: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put(records_of("web-1", ago(3)), retention_days=0)
    assert len(look(distant, from_=days_ago(2))["history"]["cpu"]["timestamps"]) == 1


def test_more_windows_than_can_be_answered_are_refused(table: Table, distant: TableReader) -> None:
    table.put([make_record(timestamp=ago(0), window_seconds=60)])
    assert look(distant, from_=days_ago(6))["window_seconds"] == 60
    with pytest.raises(InvalidRequestError, match=r"windows of 60 s: request at most 6\.2 days"):
        look(distant, from_=days_ago(7))


def test_one_short_record_does_not_make_all_windows_short(
    table: Table, distant: TableReader
) -> None:
    for windows in range(1, 17):
        table.put(records_of("web-1", ago(windows)))
    table.put([make_record(timestamp=ago(0), window_seconds=1)])
    found = look(distant, from_=days_ago(4))["history"]["memory"]["timestamps"]
    assert len(found) == 16


def test_records_of_a_moment_have_no_grid(table: Table, reader: TableReader) -> None:
    table.put([make_record(timestamp=ago(0), window_seconds=0)])
    answer = host_history.get_host(
        "web-1", {}, settings=replace(SETTINGS), records=reader, now=last_scheduled_time()
    )
    assert answer["window_seconds"] == 0
