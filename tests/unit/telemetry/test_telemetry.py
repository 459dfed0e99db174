"""What is measured becomes metrics, and metrics become lines that CloudWatch takes."""

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
from chalicelib.telemetry.metrics import (
    MAX_HOURS,
    Metric,
    record_metrics,
    run_metrics,
)
from infra.local.cloudwatch.embedded_metrics import EmbeddedMetric, parse_line
from tests.conftest import (
    ROOT,
    SETTINGS,
    WINDOW_END,
    make_record,
    point,
)

NOW = WINDOW_END + timedelta(minutes=1)
WINDOW = timedelta(hours=3)


def measured(unit: Any, average: float, maximum: float, breach: float | None) -> Measurement:
    return Measurement(
        unit=unit, last=average, avg=average, max=maximum, samples=36, breach_seconds=breach
    )


def enriched(record: Record, before: Record | None = None) -> Enriched:
    previous = None if before is None else previous_from_record(before)
    return enrich(record, previous, settings=SETTINGS, source_object="", stored_at=NOW, now=NOW)


def values(*records: Enriched, now: datetime = NOW, period: int = 300) -> dict[str, Any]:
    settings = replace(SETTINGS, period_seconds=period)
    found = list(record_metrics(records, settings=settings, now=now))
    return {each.name: each.values for each in found}


def cpu(host: str, average: float, breach: float | None = None) -> Enriched:
    measurement = measured("percent", average, average + 10, breach)
    return enriched(make_record(resource_id=host, measurements={"utilization": measurement}))


# --- What is in which metric ------------------------------------------------------------------


def test_each_host_is_one_value_of_the_fleets_metric() -> None:
    assert values(cpu("web-1", 40, 0), cpu("web-2", 80, 900)) == {
        "CPUUtilization": [40, 80],
        "CPUUtilizationMaximum": [50, 90],
        "CPUBreachMinutes": [0, 15],
    }


def test_what_a_source_could_not_tell_is_no_value() -> None:
    unknown = Measurement(unit="percent", last=None, samples=0)
    assert values(enriched(make_record(measurements={"utilization": unknown}))) == {}
    assert "CPUBreachMinutes" not in values(cpu("web-1", 40, None))


@pytest.mark.parametrize(
    ("before", "now", "minutes"), [(81, 90, 180), (80, 90, 0), (90, 80, 0), (10, 20, 0)]
)
def test_two_values_in_a_row_above_the_threshold_are_a_window_of_breach(
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


def test_swap_is_not_memory() -> None:
    memory = {"percent": point("percent", 40.0), "swap_percent": point("percent", 90.0)}
    record = make_record(metric_type="memory", measurements=memory)
    assert values(enriched(record)) == {"MemoryUsage": [40], "MemoryUsageMaximum": [40]}


def test_traffic_of_counters_is_their_growth_in_a_second() -> None:
    def network(end: datetime, sent: float, received: float) -> Record:
        counted = {"bytes_sent": point("bytes", sent), "bytes_received": point("bytes", received)}
        return make_record(metric_type="network", timestamp=end, measurements=counted)

    before = network(WINDOW_END - WINDOW, 1_000, 2_000)
    after = network(WINDOW_END, 1_000 + 10_800, 2_000 + 21_600)
    assert values(enriched(after, before)) == {"NetworkTraffic": [3]}
    assert values(enriched(after)) == {}


def test_traffic_of_cloudwatch_is_its_sums_by_its_period() -> None:
    sums = {
        "bytes_sent": measured("bytes", 300, 900, None),
        "bytes_received": measured("bytes", 600, 900, None),
    }
    record = make_record(metric_type="network", source="cloudwatch", measurements=sums)
    assert values(enriched(record), period=300) == {"NetworkTraffic": [3]}


def disk(end: datetime, **used: float) -> Record:
    """File systems of 100 bytes each."""
    measurements = {}
    for part, bytes_used in used.items():
        measurements[f"used:/{part}"] = point("bytes", bytes_used)
        measurements[f"free:/{part}"] = point("bytes", 100 - bytes_used)
        measurements[f"percent:/{part}"] = point("percent", bytes_used)
    return make_record(metric_type="disk", timestamp=end, measurements=measurements)


def hours(before: dict[str, float], after: dict[str, float]) -> Any:
    grown = enriched(disk(WINDOW_END, **after), disk(WINDOW_END - WINDOW, **before))
    return values(grown).get("DiskHoursToFull")


def test_a_disk_that_grows_by_a_tenth_of_what_is_left_each_window_is_full_in_ten() -> None:
    assert hours({"var": 45}, {"var": 50}) == [30]


def test_the_file_system_that_is_full_first_counts() -> None:
    assert hours({"var": 45, "tmp": 79}, {"var": 50, "tmp": 80}) == [30]


def test_a_disk_that_does_not_grow_fills_never() -> None:
    assert hours({"var": 50}, {"var": 50}) is None
    assert hours({"var": 50}, {"var": 40}) is None


def test_a_disk_that_hardly_grows_is_full_in_a_year() -> None:
    assert hours({"var": 1}, {"var": 1.000001}) == [MAX_HOURS]


def test_a_first_window_foretells_nothing() -> None:
    assert "DiskHoursToFull" not in values(enriched(disk(WINDOW_END, var=50)))


def test_a_disk_known_in_percent_only_is_foretold_too() -> None:
    def percent(end: datetime, value: float) -> Record:
        known = {"percent:/var": point("percent", value)}
        return make_record(metric_type="disk", timestamp=end, measurements=known)

    grown = enriched(percent(WINDOW_END, 50), percent(WINDOW_END - WINDOW, 45))
    assert values(grown)["DiskHoursToFull"] == [30]


@pytest.mark.parametrize("now", [WINDOW_END + timedelta(days=15), WINDOW_END - timedelta(hours=3)])
def test_what_cloudwatch_would_not_take_for_its_time_is_left_out(now: datetime) -> None:
    assert values(cpu("web-1", 40), now=now) == {}


def test_a_metric_is_of_its_windows_end() -> None:
    (first, *_) = record_metrics([cpu("web-1", 40)], settings=SETTINGS, now=NOW)
    assert first.at == WINDOW_END


def test_a_plan_tells_nothing() -> None:
    assert run_metrics(report(Result(metric_type="cpu", status="PLANNED", expected=400))) == []


def test_a_result_tells_of_hosts_series_and_time() -> None:
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


def test_of_merged_results_those_that_were_planned_are_told() -> None:
    """The others' own branch has told of them."""
    told: list[Metric] = []
    planned = report(Result(metric_type="cpu", status="PLANNED", expected=4))
    done = report(Result(metric_type="disk", status="SUCCEEDED", expected=7))
    chunk = report(Result(metric_type="cpu", status="SUCCEEDED", reporting=4))
    respond(
        {"detail": {"merge": [planned | {"chunk_results": [chunk]}, done]}},
        settings=SETTINGS,
        store=None,  # type: ignore[arg-type]  # merging stores nothing
        sources=[],
        emit=told.extend,
    )
    assert [list(each.values) for each in told if each.name == "HostsExpected"] == [[4]]


# --- Lines ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Test")


def printed(capsys: pytest.CaptureFixture[str], metrics: Iterable[Metric]) -> list[str]:
    emit(metrics)
    return capsys.readouterr().out.splitlines()


def read(line: str) -> list[EmbeddedMetric]:
    return parse_line(line, datetime.now(UTC))


def test_more_values_than_a_line_takes_are_several_lines(
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


def test_what_is_no_number_is_never_printed(capsys: pytest.CaptureFixture[str]) -> None:
    odd = [math.nan, 1.0, math.inf]
    (line,) = printed(capsys, [Metric("A", "None", odd), Metric("B", "None", [math.nan])])
    assert [(each.name, each.values) for each in read(line)] == [("A", [1.0])]


def test_nothing_to_tell_is_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, []) == []
    assert printed(capsys, [Metric("A", "None", [])]) == []


def test_other_dimensions_and_other_moments_are_other_lines(
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


def test_an_invocation_that_raises_is_counted_and_raises(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    context = SimpleNamespace(function_name="log-processor", aws_request_id="r-1")
    secret = "what-the-payload-held"
    with pytest.raises(KeyError), instrumented({"id": "e-1"}, context):
        raise KeyError(secret)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    found = {each.name: (each.values, each.dimensions) for each in read(line)}
    assert found["LambdaErrors"] == ([1], {"service": "log-processor"})
    (logged,) = [record for record in caplog.records if record.msg == "failed"]
    assert vars(logged)["error"] == "KeyError"
    assert secret not in json.dumps(vars(logged), default=repr)


def test_memory_is_what_the_process_had_and_not_its_parent() -> None:
    """A small interpreter, started by one that has half a gigabyte."""
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
