"""Charts of query results: plotext draws in the terminal, matplotlib writes PNG; both optional."""

import importlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import ModuleType

from chalicelib.model.query_results import Column

from ..command_line import CommandError, UsageError
from .athena import QueryResult

# More lines cannot be distinguished; the title has the number of omitted ones.
MAX_SERIES = 8
_TIMES = ("ts", "dt", "week")

# Columns that name a line or a bar.
_NAMES = ("resource_id", "label", "metric_type", "measurement", "region", "account_id")

Point = tuple[datetime, float]


@dataclass(frozen=True, slots=True)
class LineChart:
    """A line for each chart series; `omitted` counts the series beyond MAX_SERIES."""

    title: str
    series: Mapping[str, Sequence[Point]]
    omitted: int


@dataclass(frozen=True, slots=True)
class BarChart:
    """A bar for each row."""

    title: str
    labels: Sequence[str]
    values: Sequence[float]


def chart(result: QueryResult, y: str = "") -> LineChart | BarChart:
    """A line chart if a column is `ts`, `dt` or `week`, otherwise a bar chart.

    It shows column `y`, which defaults to the first numeric column, `double` preferred.

    Raises:
        UsageError: the result has no numeric column `y`.
        CommandError: the result has no rows or no numeric column.
    """
    if not result.rows:
        raise CommandError("no rows to draw")
    value = _value_column(result.columns, y)
    time = next((n for n, each in enumerate(result.columns) if each.name in _TIMES), None)
    names = _naming_columns(result, time)
    name = result.columns[value].name
    if time is None:
        rows = [row for row in result.rows if row[value] is not None]
        labels = [_name(row, names) or str(n) for n, row in enumerate(rows, 1)]
        return BarChart(name, labels, [float(row[value] or 0) for row in rows])
    series: dict[str, list[Point]] = {}
    for row in result.rows:
        moment, text = row[time], row[value]
        if moment is not None and text is not None:
            key = _name(row, names) or name
            series.setdefault(key, []).append((datetime.fromisoformat(moment), float(text)))
    kept = {key: sorted(series[key]) for key in list(series)[:MAX_SERIES]}
    return LineChart(name, kept, len(series) - len(kept))


def in_terminal(chart_data: LineChart | BarChart) -> str:
    """The chart as text in the width of the terminal; in colours if stdout is a terminal."""
    plt = _library("plotext")
    width, height = shutil.get_terminal_size((100, 30))
    plt.clear_figure()
    plt.theme("clear")
    if isinstance(chart_data, LineChart):
        plt.date_form("Y-m-d H:M")
        plt.plotsize(width, min(height - 3, 25))
        plt.title(_title(chart_data))
        ends = {moment for points in chart_data.series.values() for moment, _ in points}
        if len(ends) == 1:  # plotext would show an axis of 100 years
            day = [f"{max(ends) + timedelta(hours=hours):%Y-%m-%d %H:%M}" for hours in (-12, 12)]
            plt.xlim(*day)
        for name, points in chart_data.series.items():
            moments = [f"{moment:%Y-%m-%d %H:%M}" for moment, _ in points]
            plt.plot(moments, [each for _, each in points], label=name)
    else:
        plt.simple_bar(
            list(chart_data.labels), list(chart_data.values), width=width, title=chart_data.title
        )
    text: str = plt.build()
    return text if sys.stdout.isatty() else str(plt.uncolorize(text))


def write_png(chart_data: LineChart | BarChart, file: str) -> None:
    """Write the chart as a PNG file.

    Raises:
        CommandError: matplotlib is not installed, or the file cannot be written.
    """
    figures, dates = _library("matplotlib.figure"), _library("matplotlib.dates")
    figure = figures.Figure(figsize=(10, 5), layout="constrained")
    axes = figure.add_subplot()
    if isinstance(chart_data, LineChart):
        for name, points in chart_data.series.items():
            moments, values = zip(*points, strict=True)
            axes.plot(moments, values, label=name)
        locator = dates.AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        axes.set_title(_title(chart_data))
        axes.legend()
    else:
        axes.barh(chart_data.labels, chart_data.values)
        axes.invert_yaxis()
        axes.set_title(chart_data.title)
    axes.grid(alpha=0.3)
    try:
        figure.savefig(file, format="png", dpi=120)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error


def _value_column(columns: Sequence[Column], name: str) -> int:
    numbers = [n for n, each in enumerate(columns) if each.numeric]
    if name:
        numbers = [n for n in numbers if columns[n].name == name]
        if not numbers:
            known = ", ".join(each.name for each in columns if each.numeric) or "none"
            raise UsageError(f"--y {name}: no such numeric column; the numeric columns are {known}")
    if not numbers:
        raise CommandError("the result has no numeric column to draw")
    # Prefer a measured value to a count or a rank.
    return next((n for n in numbers if columns[n].kind == "double"), numbers[0])


def _naming_columns(result: QueryResult, time: int | None) -> list[int]:
    """Columns that name a row: the first of _NAMES and others that vary, else a text column."""
    indices = {each.name: n for n, each in enumerate(result.columns)}
    known = [indices[name] for name in _NAMES if name in indices]
    if not known:
        texts = [n for n, each in enumerate(result.columns) if each.kind == "varchar"]
        return [n for n in texts if n != time][:1]
    first, *others = known
    return [first, *(n for n in others if len({row[n] for row in result.rows}) > 1)]


def _name(row: Sequence[str | None], columns: Sequence[int]) -> str:
    return " ".join(row[n] or "-" for n in columns)


def _title(chart_data: LineChart) -> str:
    more = f" (the first {MAX_SERIES}; {chart_data.omitted} more)" if chart_data.omitted else ""
    return chart_data.title + more


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise CommandError(
            f"charts need {package}, which is not installed: pip install {package}"
        ) from error
