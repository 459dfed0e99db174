"""GET /hosts and /hosts/{resource_id} with a table on moto."""

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
from tests.conftest import ACCOUNT, SETTINGS, make_record, point
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
    with moto_table() as created:
        yield created


@pytest.fixture
def reader(table: Table) -> TableReader:
    return TableReader(lambda _: table.dynamodb, TABLE)


def get_fleet(reader: TableReader) -> Any:
    response = hosts.list_hosts({}, settings=SETTINGS, records=reader, now=last_scheduled_time())
    assert_conforms(response, "Fleet")
    return response


def get_host(reader: TableReader, name: str = "web-1", **values: str) -> Any:
    query_params = {key.strip("_"): [value] for key, value in values.items()}
    response = host_history.get_host(
        name, query_params, settings=SETTINGS, records=reader, now=last_scheduled_time()
    )
    assert_conforms(response, "HostHistory")
    return response


def ago(windows: int) -> datetime:
    return last_scheduled_time() - windows * WINDOW


# --- The fleet --------------------------------------------------------------------------------


def test_an_empty_table_gives_an_empty_fleet(reader: TableReader) -> None:
    assert get_fleet(reader) == {"window_end": None, "windows": [], "hosts": [], "missing": []}


def test_hosts_are_sorted_worst_first_with_missing_before_warning(
    table: Table, reader: TableReader
) -> None:
    for name, value in (("fine", 10.0), ("busy", 75.0), ("worst", 99.0), ("bad", 91.0)):
        table.put(records_of(name, ago(0), value))
    table.put(records_of("gone", ago(1)))
    response = get_fleet(reader)
    found = [(each["resource_id"], each["status"]) for each in response["hosts"]]
    assert found == [
        ("worst", "critical"),
        ("bad", "critical"),
        ("gone", "missing"),
        ("busy", "warning"),
        ("fine", "ok"),
    ]
    assert response["missing"] == ["gone"]


def test_a_chart_series_has_a_value_or_null_for_each_window(
    table: Table, reader: TableReader
) -> None:
    for windows, value in ((0, 30.0), (1, 20.0), (7, 10.0), (8, 99.0)):
        table.put(records_of("web-1", ago(windows), value))
    response = get_fleet(reader)
    (host,) = response["hosts"]
    cpu = host["measurements"]["cpu"]
    assert cpu["series"] == [10.0, None, None, None, None, None, 20.0, 30.0]
    assert len(response["windows"]) == len(cpu["series"])
    assert (
        response["windows"][-1] == response["window_end"] == cpu["timestamp"] == format_utc(ago(0))
    )


def test_network_is_the_sum_of_both_directions_in_bytes_per_second(
    table: Table, reader: TableReader
) -> None:
    table.put(records_of("web-1", ago(0)))
    network = get_fleet(reader)["hosts"][0]["measurements"]["network"]
    assert (network["measurement"], network["avg"], network["max"]) == ("traffic", 150.0, None)


def test_cloudwatch_sums_become_bytes_per_second(table: Table, reader: TableReader) -> None:
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
    network = get_fleet(reader)["hosts"][0]["measurements"]["network"]
    assert network["avg"] == 9_000 / SETTINGS.period_seconds


def test_equal_names_in_two_accounts_are_two_hosts(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put([make_record(timestamp=ago(0), account_id="210987654321")])
    assert [each["account_id"] for each in get_fleet(reader)["hosts"]] == [ACCOUNT, "210987654321"]


def test_a_host_with_another_phase_is_in_the_same_window(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put(records_of("agent-1", ago(0) - timedelta(minutes=65)))
    response = get_fleet(reader)
    assert response["missing"] == []
    assert response["hosts"][0]["measurements"]["cpu"]["series"][-1] is not None


def test_a_record_from_the_future_makes_no_host_missing(table: Table, reader: TableReader) -> None:
    for name in ("web-1", "web-2"):
        table.put(records_of(name, ago(0)))
    table.put(records_of("ahead", last_scheduled_time() + timedelta(hours=5)))
    response = get_fleet(reader)
    assert response["window_end"] == format_utc(ago(0))
    assert response["missing"] == []
    assert {each["resource_id"] for each in response["hosts"]} == {"web-1", "web-2", "ahead"}


def test_fresh_reads_cached_windows_again(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    before = get_fleet(reader)
    table.put(records_of("web-2", ago(3)))
    assert get_fleet(reader) == before
    fresh = hosts.list_hosts(
        {}, settings=SETTINGS, records=reader, now=last_scheduled_time(), fresh=True
    )
    assert fresh["missing"] == ["web-2"]


def test_an_expired_host_is_left_out(table: Table, reader: TableReader) -> None:
    table.put(records_of("old-1", ago(0)), retention_days=0)
    assert get_fleet(reader)["hosts"] == []


def test_an_unprocessed_record_has_a_computed_status(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0), 95.0, types=("cpu",)))
    (item,) = table.dynamodb.scan(TableName=TABLE)["Items"]
    del item["status"]
    table.dynamodb.put_item(TableName=TABLE, Item=item)
    assert get_fleet(reader)["hosts"][0]["status"] == "critical"


# --- One host ---------------------------------------------------------------------------------


def test_a_history_has_a_column_for_each_statistic(table: Table, reader: TableReader) -> None:
    for windows in range(3):
        table.put(records_of("web-1", ago(windows), 50.0 + 20 * windows))
    response = get_host(reader)
    cpu = response["history"]["cpu"]
    assert cpu["timestamps"] == [format_utc(ago(windows)) for windows in (2, 1, 0)]
    assert cpu["status"] == ["critical", "warning", "ok"]
    utilization = cpu["measurements"]["utilization"]
    assert utilization["avg"] == [90.0, 70.0, 50.0]
    assert utilization["min"] == [45.0, 35.0, 25.0]
    assert utilization["breach_seconds"] == [600.0, 0.0, 0.0]
    assert utilization["thresholds"] == {"warning": 70.0, "critical": 80.0}
    assert set(response["latest"]) == set(METRIC_TYPES)
    assert response["latest"]["disk"]["source_object"]


def test_both_network_directions_have_rates(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    network = get_host(reader)["history"]["network"]["measurements"]
    assert {name: each["last"] for name, each in network.items()} == {
        "bytes_sent": [100.0],
        "bytes_received": [50.0],
    }
    assert network["bytes_sent"]["unit"] == "bytes_per_second"


def test_each_file_system_has_a_chart_series(table: Table, reader: TableReader) -> None:
    measured = {"percent": point("percent", 40), "percent:/var": point("percent", 90)}
    table.put([make_record(metric_type="disk", timestamp=ago(0), measurements=measured)])
    disk = get_host(reader)["history"]["disk"]["measurements"]
    assert {name: each["last"] for name, each in disk.items()} == {
        "percent": [40.0],
        "percent:/var": [90.0],
    }


def test_an_ambiguous_name_requires_account_and_region(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put([make_record(timestamp=ago(0), account_id="210987654321")])
    with pytest.raises(InvalidRequestError, match=r"several hosts .* give account_id and region"):
        get_host(reader)
    assert get_host(reader, account_id=ACCOUNT)["account_id"] == ACCOUNT


def test_an_unknown_host_is_an_error(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    with pytest.raises(UnknownThingError, match="no record of 'web-9'"):
        get_host(reader, "web-9")


def test_a_host_without_a_record_of_the_newest_window_is_missing(
    table: Table, reader: TableReader
) -> None:
    """As in the fleet; an older time range has the status of that time."""
    table.put(records_of("web-2", ago(0)))
    table.put(records_of("web-1", ago(1)))
    assert get_host(reader, from_=days_ago(1))["status"] == "missing"
    assert get_host(reader, from_=days_ago(1), to=format_utc(ago(1)))["status"] == "ok"
    assert get_host(reader, "web-2", from_=days_ago(1))["status"] == "ok"


def test_a_metric_type_without_new_records_does_not_affect_the_status(
    table: Table, reader: TableReader
) -> None:
    table.put(records_of("web-1", ago(1), 99.0, types=["disk"]))
    table.put(records_of("web-1", ago(0), types=["cpu", "memory"]))
    assert get_host(reader, from_=days_ago(1))["status"] == "ok"


def test_an_expired_record_is_not_in_the_history(table: Table, reader: TableReader) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put(records_of("web-1", ago(1)), retention_days=0)
    assert get_host(reader)["history"]["cpu"]["timestamps"] == [format_utc(ago(0))]


# --- By computed keys ---------------------------------------------------------------------------


class OneItemReader(TableReader):
    """A reader that finds one item of each type in the index, as with a very large fleet."""

    def recent_of(self, *arguments: Any) -> Any:
        found, _ = super().recent_of(*arguments)
        newest = {name: items[:1] for name, items in found.items()}
        return newest, last_scheduled_time() - timedelta(seconds=1)


@pytest.fixture
def one_item_reader(table: Table) -> TableReader:
    return OneItemReader(lambda _: table.dynamodb, TABLE)


def days_ago(days: int) -> str:
    return format_utc(last_scheduled_time() - timedelta(days=days))


def test_computed_keys_give_the_same_history(
    table: Table, reader: TableReader, one_item_reader: TableReader
) -> None:
    for windows in range(24):
        table.put(records_of("web-1", ago(windows), windows))
        table.put(records_of("web-2", ago(windows)))
    assert get_host(one_item_reader, from_=days_ago(4)) == get_host(reader, from_=days_ago(4))
    assert len(get_host(one_item_reader, from_=days_ago(4))["history"]["cpu"]["timestamps"]) == 24


def test_a_gap_does_not_end_a_history(table: Table, one_item_reader: TableReader) -> None:
    reported = [0, 1, 9, 10, 30]
    for windows in reported:
        table.put(records_of("web-1", ago(windows)))
    found = get_host(one_item_reader, from_=days_ago(5))["history"]["cpu"]["timestamps"]
    assert found == [format_utc(ago(windows)) for windows in reversed(reported)]


def test_windows_with_an_earlier_phase_are_found(
    table: Table, one_item_reader: TableReader
) -> None:
    """As after the schedule rule was created again: older windows end 40 minutes earlier."""
    ends = [ago(windows) for windows in range(8)]
    ends += [ago(windows) - timedelta(minutes=40) for windows in range(8, 24)]
    for end in ends:
        table.put(records_of("web-1", end))
    found = get_host(one_item_reader, from_=days_ago(4))["history"]["cpu"]["timestamps"]
    assert found == sorted(map(format_utc, ends))


def test_a_host_that_stopped_reporting_is_found_by_account_and_region(
    table: Table, reader: TableReader
) -> None:
    table.put(records_of("web-2", ago(0)))
    table.put(records_of("web-1", ago(16)))
    response = get_host(reader, from_=days_ago(4), account_id=ACCOUNT, region="eu-west-1")
    assert response["last_seen"] == format_utc(ago(16))
    assert response["latest"]["cpu"]["version"]


def test_computed_keys_do_not_find_expired_records(
    table: Table, one_item_reader: TableReader
) -> None:
    table.put(records_of("web-1", ago(0)))
    table.put(records_of("web-1", ago(3)), retention_days=0)
    assert len(get_host(one_item_reader, from_=days_ago(2))["history"]["cpu"]["timestamps"]) == 1


def test_a_range_with_too_many_windows_is_rejected(
    table: Table, one_item_reader: TableReader
) -> None:
    table.put([make_record(timestamp=ago(0), window_seconds=60)])
    assert get_host(one_item_reader, from_=days_ago(6))["window_seconds"] == 60
    with pytest.raises(InvalidRequestError, match=r"windows of 60 s: request at most 6\.2 days"):
        get_host(one_item_reader, from_=days_ago(7))


def test_one_short_window_does_not_change_the_step(
    table: Table, one_item_reader: TableReader
) -> None:
    for windows in range(1, 17):
        table.put(records_of("web-1", ago(windows)))
    table.put([make_record(timestamp=ago(0), window_seconds=1)])
    found = get_host(one_item_reader, from_=days_ago(4))["history"]["memory"]["timestamps"]
    assert len(found) == 16


def test_a_point_in_time_record_has_a_window_of_zero_seconds(
    table: Table, reader: TableReader
) -> None:
    table.put([make_record(timestamp=ago(0), window_seconds=0)])
    response = host_history.get_host(
        "web-1", {}, settings=replace(SETTINGS), records=reader, now=last_scheduled_time()
    )
    assert response["window_seconds"] == 0
