"""The fields added to a record: status, change, rates and lag."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.model.enrichment import Enriched, Previous, enrich
from chalicelib.model.records import Measurement, Record
from tests.conftest import SETTINGS, WINDOW_END, make_record, point

READ_AT = WINDOW_END + timedelta(seconds=90)


def enriched(record: Record, previous: Previous | None = None) -> Enriched:
    return enrich(
        record,
        previous,
        settings=SETTINGS,
        source_object="s3://data/raw-metrics/x.json",
        stored_at=WINDOW_END + timedelta(seconds=100),
        now=WINDOW_END + timedelta(seconds=120),
    )


def previous_window(measurements: dict[str, Measurement], *, seconds: float = 10_800) -> Previous:
    return Previous(
        timestamp=WINDOW_END - timedelta(seconds=10_800),
        collected_at=READ_AT - timedelta(seconds=seconds),
        measurements=measurements,
    )


def network(sent: float | None, **changes: Any) -> Record:
    return make_record(
        metric_type="network",
        collected_at=READ_AT,
        measurements={"bytes_sent": point("bytes", sent), "bytes_sent:eth0": point("bytes", sent)},
        **changes,
    )


@pytest.mark.parametrize(
    ("value", "status"),
    [(0, "ok"), (69.9, "ok"), (70, "warning"), (79.9, "warning"), (80, "critical")],
)
def test_status_follows_the_thresholds(value: float, status: str) -> None:
    record = make_record(measurements={"utilization": point("percent", value)})
    assert enriched(record).status == status


def test_the_status_follows_the_95th_percentile_not_average_or_maximum() -> None:
    windows = {
        "sustained": Measurement(
            unit="percent", last=20, avg=50, min=10, max=99, p95=95, samples=36
        ),
        "spike": Measurement(unit="percent", last=20, avg=15, min=10, max=99, p95=25, samples=36),
    }
    statuses = {
        name: enriched(make_record(measurements={"utilization": window})).status
        for name, window in windows.items()
    }
    assert statuses == {"sustained": "critical", "spike": "ok"}


def test_one_full_file_system_makes_the_record_critical() -> None:
    record = make_record(
        metric_type="disk",
        measurements={"percent": point("percent", 50), "percent:/var": point("percent", 97)},
    )
    result = enriched(record)
    assert result.status == "critical"
    assert result.statuses == {"percent": "ok", "percent:/var": "critical"}


def test_an_unknown_value_is_ok() -> None:
    record = make_record(measurements={"utilization": point("percent", None)})
    assert enriched(record).status == "ok"


def test_change_is_the_difference_from_the_previous_window() -> None:
    result = enriched(make_record(), previous_window({"utilization": point("percent", 40)}))
    assert result.change == {"utilization": 2.0}
    assert result.previous_timestamp == WINDOW_END - timedelta(hours=3)


def test_change_is_empty_without_a_previous_window() -> None:
    assert enriched(make_record()).change == {}


def test_a_rate_is_the_counter_growth_per_second_between_readings() -> None:
    previous = previous_window({"bytes_sent": point("bytes", 1_000)}, seconds=10_000)
    result = enriched(network(51_000), previous)
    assert result.record.measurements["bytes_sent_rate"].last == 5.0
    assert result.record.measurements["bytes_sent_rate"].unit == "bytes_per_second"
    assert not result.counter_reset


def test_a_decreased_counter_is_a_reset_and_has_no_rate() -> None:
    result = enriched(network(10), previous_window({"bytes_sent": point("bytes", 1_000)}))
    assert result.record.measurements["bytes_sent_rate"].last is None
    assert result.record.measurements["bytes_sent_rate"].samples == 0
    assert result.counter_reset


@pytest.mark.parametrize(
    "previous",
    [
        None,
        previous_window({}),
        previous_window({"bytes_sent": point("bytes", None)}),
        previous_window({"bytes_sent": point("bytes", 1)}, seconds=0),
        previous_window({"bytes_sent": point("bytes", 1)}, seconds=-5),
    ],
    ids=["first record", "new counter", "unknown value", "no time between", "clock moved back"],
)
def test_an_unknown_rate_is_null_and_not_a_reset(previous: Previous | None) -> None:
    result = enriched(network(1_000), previous)
    assert result.record.measurements["bytes_sent_rate"].last is None
    assert not result.counter_reset


def test_each_interface_has_its_own_rate() -> None:
    previous = previous_window({"bytes_sent:eth0": point("bytes", 0)}, seconds=10)
    rates = enriched(network(1_000), previous).record.measurements
    assert rates["bytes_sent_rate:eth0"].last == 100.0
    assert rates["bytes_sent_rate"].last is None


def test_cloudwatch_sums_are_not_counters() -> None:
    result = enriched(
        network(10, source="cloudwatch"), previous_window({"bytes_sent": point("bytes", 99)})
    )
    assert "bytes_sent_rate" not in result.record.measurements
    assert not result.counter_reset


def cpu(idle: float | None, total: float | None, **others: Measurement) -> dict[str, Measurement]:
    return {
        "cpu_seconds_idle": point("seconds", idle),
        "cpu_seconds_total": point("seconds", total),
        **others,
    }


def utilization_after(
    measurements: dict[str, Measurement], previous: Previous | None
) -> Measurement:
    record = make_record(collected_at=READ_AT, measurements=measurements)
    return enriched(record, previous).record.measurements["utilization"]


def test_utilization_is_the_share_of_cpu_seconds_that_are_not_idle() -> None:
    found = utilization_after(cpu(1_075, 2_100), previous_window(cpu(1_000, 2_000)))
    assert found == Measurement(unit="percent", last=25.0, samples=1)


@pytest.mark.parametrize(("idle", "percent"), [(1_000, 100), (1_100, 0), (1_100.001, 0)])
def test_utilization_stays_within_0_and_100(idle: float, percent: float) -> None:
    assert utilization_after(cpu(idle, 2_100), previous_window(cpu(1_000, 2_000))).last == percent


def test_utilization_from_counters_has_a_status() -> None:
    record = make_record(collected_at=READ_AT, measurements=cpu(1_010, 2_100))
    result = enriched(record, previous_window(cpu(1_000, 2_000)))
    assert result.statuses["utilization"] == result.status == "critical"


@pytest.mark.parametrize(
    "previous",
    [
        None,
        previous_window({}),
        previous_window(cpu(None, 2_000)),
        previous_window(cpu(1_000, 2_000), seconds=0),
        previous_window(cpu(1_000, 2_000), seconds=-5),
        previous_window(cpu(1_075, 2_100)),
        previous_window(cpu(1_000, 2_050)),
        previous_window(cpu(1_000, 2_200)),
        previous_window(cpu(1_100, 2_000)),
    ],
    ids=[
        "first record",
        "new counters",
        "unknown value",
        "no time between",
        "clock moved back",
        "no CPU seconds",
        "more idle than total",
        "total decreased",
        "idle decreased",
    ],
)
def test_unknown_utilization_is_null(previous: Previous | None) -> None:
    found = utilization_after(cpu(1_075, 2_100), previous)
    assert (found.last, found.samples, found.unit) == (None, 0, "percent")


def test_unknown_utilization_is_ok() -> None:
    assert enriched(make_record(measurements=cpu(0, 100))).status == "ok"


def test_cpu_seconds_have_no_rates() -> None:
    record = make_record(collected_at=READ_AT, measurements=cpu(1_075, 2_100))
    found = enriched(record, previous_window(cpu(1_000, 2_000))).record.measurements
    assert set(found) == {"cpu_seconds_idle", "cpu_seconds_total", "utilization"}


def test_measured_utilization_is_kept() -> None:
    measured = {"utilization": point("percent", 42)}
    found = utilization_after(cpu(1_075, 2_100) | measured, previous_window(cpu(1_000, 2_000)))
    assert found.last == 42


def booted(at: float) -> dict[str, Measurement]:
    return {"boot_time": point("seconds", at)}


@pytest.mark.parametrize(("seconds", "reset"), [(-61, True), (-60, False), (60, False), (61, True)])
def test_a_boot_time_changed_by_more_than_a_minute_is_a_reset(seconds: int, reset: bool) -> None:
    """Even if the counters are higher than before."""
    record = make_record(
        collected_at=READ_AT, measurements=cpu(1_075, 2_100, **booted(5_000 + seconds))
    )
    result = enriched(record, previous_window(cpu(1_000, 2_000, **booted(5_000))))
    assert result.counter_reset is reset
    assert (result.record.measurements["utilization"].last is None) is reset


def test_byte_counters_have_no_rate_across_a_boot() -> None:
    record = network(51_000)
    record = make_record(
        metric_type="network",
        collected_at=READ_AT,
        measurements=record.measurements | booted(9_000),
    )
    result = enriched(
        record, previous_window({"bytes_sent": point("bytes", 1_000)} | booted(5_000))
    )
    assert result.counter_reset
    assert result.record.measurements["bytes_sent_rate"].last is None


def test_utilization_is_unknown_if_the_number_of_cores_changed() -> None:
    counters = cpu(11_075, 12_100, cpu_count=point("count", 4))
    previous = previous_window(cpu(1_000, 2_000, cpu_count=point("count", 2)))
    assert utilization_after(counters, previous).last is None


def test_more_cores_without_counters_are_not_a_reset() -> None:
    record = make_record(measurements={"cpu_count": point("count", 4)})
    assert not enriched(record, previous_window({"cpu_count": point("count", 2)})).counter_reset


def test_lag_is_from_the_window_end_to_the_reading() -> None:
    assert enriched(make_record(collected_at=READ_AT)).collection_lag_seconds == 90


def test_lag_without_a_reading_time_ends_when_the_object_was_stored() -> None:
    assert enriched(make_record()).collection_lag_seconds == 100


def test_source_object_and_processing_time_are_set() -> None:
    result = enriched(make_record())
    assert result.source_object == "s3://data/raw-metrics/x.json"
    assert result.processed_at == datetime(2026, 11, 22, 18, 2, tzinfo=UTC)


def test_a_rate_sent_with_the_record_is_kept() -> None:
    record = make_record(
        metric_type="network",
        measurements={
            "bytes_sent": point("bytes", 5),
            "bytes_sent_rate": point("bytes_per_second", 77),
        },
    )
    assert enriched(record).record.measurements["bytes_sent_rate"].last == 77
