"""An answer as a chart: in the terminal by plotext, as a PNG by matplotlib; both optional."""

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

# More lines than this cannot be told apart; the chart says which it left out.
MAX_SERIES = 8
_TIMES = ("ts", "dt", "week")

# What tells one line or bar from another, where it differs.
_NAMES = ("resource_id", "label", "metric_type", "measurement", "region", "account_id")

Point = tuple[datetime, float]


@dataclass(frozen=True, slots=True)
class Lines:
    """One line for each series over time."""

    title: str
    series: Mapping[str, Sequence[Point]]
    left_out: int


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar for each row."""

    title: str
    labels: Sequence[str]
    values: Sequence[float]


def chart(answer: QueryResult, y: str = "") -> Lines | Bars:
    """Lines if a column is `ts`, `dt` or `week`, else bars; of column `y`, or the first number.

    Raises:
        UsageError: there is no such number.
        CommandError: there is nothing to draw.
    """
    if not answer.rows:
        raise CommandError("there are no rows, so there is nothing to draw")
    value = _value_column(answer.columns, y)
    when = next((n for n, each in enumerate(answer.columns) if each.name in _TIMES), None)
    names = _naming_columns(answer, when)
    name = answer.columns[value].name
    if when is None:
        rows = [row for row in answer.rows if row[value] is not None]
        labels = [_name(row, names) or str(n) for n, row in enumerate(rows, 1)]
        return Bars(name, labels, [float(row[value] or 0) for row in rows])
    series: dict[str, list[Point]] = {}
    for row in answer.rows:
        moment, text = row[when], row[value]
        if moment is not None and text is not None:
            key = _name(row, names) or name
            series.setdefault(key, []).append((datetime.fromisoformat(moment), float(text)))
    kept = {key: sorted(series[key]) for key in list(series)[:MAX_SERIES]}
    return Lines(name, kept, len(series) - len(kept))


def in_terminal(drawn: Lines | Bars) -> str:
    """The chart as text as wide as the terminal, in colours if it is one."""
    plt = _library("plotext")
    width, height = shutil.get_terminal_size((100, 30))
    plt.clear_figure()
    plt.theme("clear")
    if isinstance(drawn, Lines):
        plt.date_form("Y-m-d H:M")
        plt.plotsize(width, min(height - 3, 25))
        plt.title(_title(drawn))
        ends = {moment for points in drawn.series.values() for moment, _ in points}
        if len(ends) == 1:  # plotext would show a century
            day = [f"{max(ends) + timedelta(hours=hours):%Y-%m-%d %H:%M}" for hours in (-12, 12)]
            plt.xlim(*day)
        for name, points in drawn.series.items():
            moments = [f"{moment:%Y-%m-%d %H:%M}" for moment, _ in points]
            plt.plot(moments, [each for _, each in points], label=name)
    else:
        plt.simple_bar(list(drawn.labels), list(drawn.values), width=width, title=drawn.title)
    text: str = plt.build()
    return text if sys.stdout.isatty() else str(plt.uncolorize(text))


def write_png(drawn: Lines | Bars, file: str) -> None:
    """The chart as a picture.

    Raises:
        CommandError: matplotlib is not installed, or the file cannot be written.
    """
    figures, dates = _library("matplotlib.figure"), _library("matplotlib.dates")
    figure = figures.Figure(figsize=(10, 5), layout="constrained")
    axes = figure.add_subplot()
    if isinstance(drawn, Lines):
        for name, points in drawn.series.items():
            moments, values = zip(*points, strict=True)
            axes.plot(moments, values, label=name)
        locator = dates.AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        axes.set_title(_title(drawn))
        axes.legend()
    else:
        axes.barh(drawn.labels, drawn.values)
        axes.invert_yaxis()
        axes.set_title(drawn.title)
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
            raise UsageError(f"--y {name}: no such column of numbers; there are {known}")
    if not numbers:
        raise CommandError("no column of the answer is a number, so there is nothing to draw")
    # A count or a place says less than what was measured.
    return next((n for n in numbers if columns[n].kind == "double"), numbers[0])


def _naming_columns(answer: QueryResult, when: int | None) -> list[int]:
    """What tells rows apart: the first known column and others that differ, else a text."""
    places = {each.name: n for n, each in enumerate(answer.columns)}
    known = [places[name] for name in _NAMES if name in places]
    if not known:
        texts = [n for n, each in enumerate(answer.columns) if each.kind == "varchar"]
        return [n for n in texts if n != when][:1]
    first, *others = known
    return [first, *(n for n in others if len({row[n] for row in answer.rows}) > 1)]


def _name(row: Sequence[str | None], columns: Sequence[int]) -> str:
    return " ".join(row[n] or "-" for n in columns)


def _title(drawn: Lines) -> str:
    more = f" (the first {MAX_SERIES}; {drawn.left_out} more)" if drawn.left_out else ""
    return drawn.title + more


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise CommandError(
            f"charts need {package}, which is not installed: pip install {package}"
        ) from error
