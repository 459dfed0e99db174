"""The metrics of records and runs, and their lines in embedded metric format."""

import json
import math
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.collect.collector import respond
from chalicelib.model.enrichment import Enriched, enrich
from chalicelib.model.items import previous_from_record
from chalicelib.model.records import Measurement, Record
from chalicelib.model.results import Result, report
from chalicelib.telemetry.instrumentation import emit, instrumented
from chalicelib.telemetry.metrics import MAX_HOURS, Metric, record_metrics, run_metrics
from infra.local.cloudwatch.embedded_metrics import EmbeddedMetric, parse_line
from tests.conftest import ROOT, SETTINGS, WINDOW_END, make_record, point

NOW = WINDOW_END + timedelta(minutes=1)
WINDOW = timedelta(hours=3)


def measured(unit: Any, average: float, maximum: float, breach: float | None) -> Measurement:
    return Measurement(
        unit=unit, last=average, avg=average, max=maximum, samples=36, breach_seconds=breach
    )


def enriched(record: Record, earlier: Record | None = None) -> Enriched:
    previous = None if earlier is None else previous_from_record(earlier)
    return enrich(record, previous, settings=SETTINGS, source_object="", stored_at=NOW, now=NOW)


def values(*records: Enriched, now: datetime = NOW, period: int = 300) -> dict[str, Any]:
    settings = replace(SETTINGS, period_seconds=period)
    found = list(record_metrics(records, settings=settings, now=now))
    return {each.name: each.values for each in found}


def cpu(host: str, average: float, breach: float | None = None) -> Enriched:
    measurement = measured("percent", average, average + 10, breach)
    return enriched(make_record(resource_id=host, measurements={"utilization": measurement}))


# --- Metrics ----------------------------------------------------------------------------------


def test_each_host_is_one_value_of_the_fleet_metric() -> None:
    assert values(cpu("web-1", 40, 0), cpu("web-2", 80, 900)) == {
        "CPUUtilization": [40, 80],
        "CPUUtilizationMaximum": [50, 90],
        "CPUBreachMinutes": [0, 15],
    }


def test_an_unknown_value_is_left_out() -> None:
    unknown = Measurement(unit="percent", last=None, samples=0)
    assert values(enriched(make_record(measurements={"utilization": unknown}))) == {}
    assert "CPUBreachMinutes" not in values(cpu("web-1", 40, None))


@pytest.mark.parametrize(
    ("before", "now", "minutes"), [(81, 90, 180), (80, 90, 0), (90, 80, 0), (10, 20, 0)]
)
def test_two_consecutive_values_above_the_threshold_are_a_window_of_breach(
    before: float, now: float, minutes: float
) -> None:
    first, second = (
        make_record(timestamp=end, measurements={"utilization": point("percent", float(value))})
        for end, value in ((WINDOW_END - WINDOW, before), (WINDOW_END, now))
    )
    assert values(enriched(second, first))["CPUBreachMinutes"] == [minutes]


def test_a_hosts_fullest_file_system_is_its_maximum() -> None:
    disk = make_record(
        metric_type="disk",
        measurements={
            "percent": point("percent", 40.0),
            "percent:/": point("percent", 30.0),
            "percent:/var": point("percent", 95.0),
        },
    )
    assert values(enriched(disk)) == {"DiskUsage": [40], "DiskUsageMaximum": [95]}


def test_swap_does_not_count_as_memory() -> None:
    memory = {"percent": point("percent", 40.0), "swap_percent": point("percent", 90.0)}
    record = make_record(metric_type="memory", measurements=memory)
    assert values(enriched(record)) == {"MemoryUsage": [40], "MemoryUsageMaximum": [40]}


def test_traffic_from_counters_is_their_growth_per_second() -> None:
    def network(end: datetime, sent: float, received: float) -> Record:
        counters = {"bytes_sent": point("bytes", sent), "bytes_received": point("bytes", received)}
        return make_record(metric_type="network", timestamp=end, measurements=counters)

    before = network(WINDOW_END - WINDOW, 1_000, 2_000)
    after = network(WINDOW_END, 1_000 + 10_800, 2_000 + 21_600)
    assert values(enriched(after, before)) == {"NetworkTraffic": [3]}
    assert values(enriched(after)) == {}


def test_traffic_from_cloudwatch_is_the_sum_divided_by_the_period() -> None:
    sums = {
        "bytes_sent": measured("bytes", 300, 900, None),
        "bytes_received": measured("bytes", 600, 900, None),
    }
    record = make_record(metric_type="network", source="cloudwatch", measurements=sums)
    assert values(enriched(record), period=300) == {"NetworkTraffic": [3]}


def disk(end: datetime, **used: float) -> Record:
    """Usage of file systems of 100 bytes each."""
    measurements = {}
    for name, bytes_used in used.items():
        measurements[f"used:/{name}"] = point("bytes", bytes_used)
        measurements[f"free:/{name}"] = point("bytes", 100 - bytes_used)
        measurements[f"percent:/{name}"] = point("percent", bytes_used)
    return make_record(metric_type="disk", timestamp=end, measurements=measurements)


def hours(before: dict[str, float], after: dict[str, float]) -> Any:
    grown = enriched(disk(WINDOW_END, **after), disk(WINDOW_END - WINDOW, **before))
    return values(grown).get("DiskHoursToFull")


def test_hours_to_full_are_free_space_divided_by_growth() -> None:
    assert hours({"var": 45}, {"var": 50}) == [30]


def test_the_first_file_system_to_fill_counts() -> None:
    assert hours({"var": 45, "tmp": 79}, {"var": 50, "tmp": 80}) == [30]


def test_a_disk_that_does_not_grow_has_no_forecast() -> None:
    assert hours({"var": 50}, {"var": 50}) is None
    assert hours({"var": 50}, {"var": 40}) is None


def test_a_forecast_is_at_most_a_year() -> None:
    assert hours({"var": 1}, {"var": 1.000001}) == [MAX_HOURS]


def test_a_first_window_has_no_forecast() -> None:
    assert "DiskHoursToFull" not in values(enriched(disk(WINDOW_END, var=50)))


def test_a_disk_with_percentages_only_has_a_forecast() -> None:
    def percent(end: datetime, value: float) -> Record:
        known = {"percent:/var": point("percent", value)}
        return make_record(metric_type="disk", timestamp=end, measurements=known)

    grown = enriched(percent(WINDOW_END, 50), percent(WINDOW_END - WINDOW, 45))
    assert values(grown)["DiskHoursToFull"] == [30]


@pytest.mark.parametrize("now", [WINDOW_END + timedelta(days=15), WINDOW_END - timedelta(hours=3)])
def test_a_record_is_left_out_if_cloudwatch_rejects_its_timestamp(now: datetime) -> None:
    assert values(cpu("web-1", 40), now=now) == {}


def test_the_timestamp_of_a_metric_is_the_window_end() -> None:
    (first, *_) = record_metrics([cpu("web-1", 40)], settings=SETTINGS, now=NOW)
    assert first.at == WINDOW_END


def test_a_plan_has_no_metrics() -> None:
    assert run_metrics(report(Result(metric_type="cpu", status="PLANNED", expected=400))) == []


def test_a_result_has_host_counts_billed_metrics_and_duration() -> None:
    result = Result(
        metric_type="cpu",
        status="SUCCEEDED",
        expected=5,
        reporting=3,
        missing_count=2,
        series=15,
        duration_ms=900,
    )
    assert [
        (each.name, list(each.values), each.dimensions) for each in run_metrics(report(result))
    ] == [
        ("HostsExpected", [5], {}),
        ("HostsReporting", [3], {}),
        ("HostsMissing", [2], {}),
        ("SeriesBilled", [15], {}),
        ("RunDuration", [900], {"metric_type": "cpu"}),
    ]


def test_merging_emits_the_metrics_of_planned_results_only() -> None:
    """The branches of the other results have already emitted theirs."""
    emitted: list[Metric] = []
    planned = report(Result(metric_type="cpu", status="PLANNED", expected=4))
    done = report(Result(metric_type="disk", status="SUCCEEDED", expected=7))
    chunk = report(Result(metric_type="cpu", status="SUCCEEDED", reporting=4))
    respond(
        {"detail": {"merge": [planned | {"chunk_results": [chunk]}, done]}},
        settings=SETTINGS,
        store=None,  # type: ignore[arg-type]  # merging stores nothing
        sources=[],
        emit=emitted.extend,
    )
    assert [list(each.values) for each in emitted if each.name == "HostsExpected"] == [[4]]


# --- Lines ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Test")


def printed(capsys: pytest.CaptureFixture[str], metrics: Iterable[Metric]) -> list[str]:
    emit(metrics)
    return capsys.readouterr().out.splitlines()


def read(line: str) -> list[EmbeddedMetric]:
    return parse_line(line, datetime.now(UTC))


def test_more_than_100_values_are_split_into_several_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = [float(number) for number in range(250)]
    lines = printed(capsys, [Metric("A", "Percent", many), Metric("B", "Percent", many[:120])])
    found = [each for line in lines for each in read(line)]
    assert [(each.name, len(each.values)) for each in found] == [
        ("A", 100),
        ("B", 100),
        ("A", 100),
        ("B", 20),
        ("A", 50),
    ]
    assert [value for each in found if each.name == "A" for value in each.values] == many


def test_nan_and_infinity_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    mixed = [math.nan, 1.0, math.inf]
    (line,) = printed(capsys, [Metric("A", "None", mixed), Metric("B", "None", [math.nan])])
    assert [(each.name, each.values) for each in read(line)] == [("A", [1.0])]


def test_no_values_print_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, []) == []
    assert printed(capsys, [Metric("A", "None", [])]) == []


def test_metrics_with_other_dimensions_or_times_have_separate_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    lines = printed(
        capsys,
        [
            Metric("A", "Count", [1], {"service": "x"}, at=now),
            Metric("B", "Count", [2], {"service": "x"}, at=now),
            Metric("A", "Count", [3], {"service": "y"}, at=now),
            Metric("A", "Count", [4], at=now - WINDOW),
        ],
    )
    assert [[(each.name, each.dimensions, each.at) for each in read(line)] for line in lines] == [
        [("A", {"service": "x"}, now), ("B", {"service": "x"}, now)],
        [("A", {"service": "y"}, now)],
        [("A", {}, now - WINDOW)],
    ]


def test_an_exception_is_counted_as_an_error_and_passed_on(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    context = SimpleNamespace(function_name="log-processor", aws_request_id="r-1")
    secret = "content-of-the-payload"
    with pytest.raises(KeyError), instrumented({"id": "e-1"}, context):
        raise KeyError(secret)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    found = {each.name: (each.values, each.dimensions) for each in read(line)}
    assert found["LambdaErrors"] == ([1], {"service": "log-processor"})
    (logged,) = [record for record in caplog.records if record.msg == "failed"]
    assert vars(logged)["error"] == "KeyError"
    assert secret not in json.dumps(vars(logged), default=repr)


def test_peak_memory_excludes_the_parent_process() -> None:
    """A small interpreter, started by one that uses half a gigabyte."""
    code = """
import subprocess, sys
ballast = bytearray(500_000_000)
code = "from chalicelib.telemetry.instrumentation import peak_megabytes; print(peak_megabytes())"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 10 < float(done.stdout) < 200
