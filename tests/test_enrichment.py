"""Status, change, rates and lag: what is added to a record."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.enrichment import Enriched, Previous, enrich
from chalicelib.records import Measurement, Record

from .conftest import SETTINGS, WINDOW_END, make_record, point

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


def before(measurements: dict[str, Measurement], *, seconds: float = 10_800) -> Previous:
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


def test_the_95th_percentile_is_judged_not_the_average_nor_a_spike() -> None:
    windows = {
        "sustained": Measurement(
            unit="percent", last=20, avg=50, min=10, max=99, p95=95, samples=36
        ),
        "spike": Measurement(unit="percent", last=20, avg=15, min=10, max=99, p95=25, samples=36),
    }
    judged = {
        name: enriched(make_record(measurements={"utilization": window})).status
        for name, window in windows.items()
    }
    assert judged == {"sustained": "critical", "spike": "ok"}


def test_one_full_file_system_makes_the_record_critical() -> None:
    record = make_record(
        metric_type="disk",
        measurements={"percent": point("percent", 50), "percent:/var": point("percent", 97)},
    )
    result = enriched(record)
    assert result.status == "critical"
    assert result.statuses == {"percent": "ok", "percent:/var": "critical"}


def test_an_unknown_value_is_no_breach() -> None:
    record = make_record(measurements={"utilization": point("percent", None)})
    assert enriched(record).status == "ok"


def test_change_is_the_difference_to_the_window_before() -> None:
    result = enriched(make_record(), before({"utilization": point("percent", 40)}))
    assert result.change == {"utilization": 2.0}
    assert result.previous_timestamp == WINDOW_END - timedelta(hours=3)


def test_there_is_no_change_without_a_window_before() -> None:
    assert enriched(make_record()).change == {}


def test_a_rate_is_the_counters_growth_over_the_time_between_the_readings() -> None:
    previous = before({"bytes_sent": point("bytes", 1_000)}, seconds=10_000)
    result = enriched(network(51_000), previous)
    assert result.record.measurements["bytes_sent_rate"].last == 5.0
    assert result.record.measurements["bytes_sent_rate"].unit == "bytes_per_second"
    assert not result.counter_reset


def test_a_counter_that_went_backwards_gives_null_and_says_so() -> None:
    result = enriched(network(10), before({"bytes_sent": point("bytes", 1_000)}))
    assert result.record.measurements["bytes_sent_rate"].last is None
    assert result.record.measurements["bytes_sent_rate"].samples == 0
    assert result.counter_reset


@pytest.mark.parametrize(
    "previous",
    [
        None,
        before({}),
        before({"bytes_sent": point("bytes", None)}),
        before({"bytes_sent": point("bytes", 1)}, seconds=0),
        before({"bytes_sent": point("bytes", 1)}, seconds=-5),
    ],
    ids=["first sight", "new counter", "unknown before", "no time between", "clock went back"],
)
def test_a_rate_that_cannot_be_known_is_null_and_no_reset(previous: Previous | None) -> None:
    result = enriched(network(1_000), previous)
    assert result.record.measurements["bytes_sent_rate"].last is None
    assert not result.counter_reset


def test_each_interface_has_its_own_rate() -> None:
    previous = before({"bytes_sent:eth0": point("bytes", 0)}, seconds=10)
    rates = enriched(network(1_000), previous).record.measurements
    assert rates["bytes_sent_rate:eth0"].last == 100.0
    assert rates["bytes_sent_rate"].last is None


def test_cloudwatchs_sums_are_no_counters() -> None:
    result = enriched(network(10, source="cloudwatch"), before({"bytes_sent": point("bytes", 99)}))
    assert "bytes_sent_rate" not in result.record.measurements
    assert not result.counter_reset


def test_lag_is_from_the_windows_end_to_the_reading() -> None:
    assert enriched(make_record(collected_at=READ_AT)).collection_lag_seconds == 90


def test_lag_of_a_record_that_does_not_say_is_to_the_objects_arrival() -> None:
    assert enriched(make_record()).collection_lag_seconds == 100


def test_origin_and_time_of_processing_are_noted() -> None:
    result = enriched(make_record())
    assert result.source_object == "s3://data/raw-metrics/x.json"
    assert result.processed_at == datetime(2026, 11, 22, 18, 2, tzinfo=UTC)


def test_a_rate_that_the_writer_sent_is_kept() -> None:
    record = make_record(
        metric_type="network",
        measurements={
            "bytes_sent": point("bytes", 5),
            "bytes_sent_rate": point("bytes_per_second", 77),
        },
    )
    assert enriched(record).record.measurements["bytes_sent_rate"].last == 77
