"""`python -m infra query`: a named query or SQL of one's own, as table, CSV, JSON or chart."""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

from chalicelib.model.named_queries import NamedQuery, ParameterError
from chalicelib.model.query_results import json_value, typed_rows

from ..command_line import CommandError, UsageError, assignment, exit_statuses
from .arguments import add_stage
from .athena import (
    QueryResult,
    format_bytes,
    named_queries,
    run_query,
)
from .aws_errors import aws_errors
from .charts import chart, in_terminal, write_png
from .deployment import Stage, stage_of

_WIDE = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Run a named query of the stage (--list shows them), or your own SQL, in Athena and print"
        " the result. Athena binds the values; they are not inserted into the SQL. Run time, bytes"
        " scanned and cost are printed on standard error. Ctrl-C stops the query."
    )
    parser.epilog = exit_statuses("the query succeeded", "it failed")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a named query")
    parser.add_argument("--list", action="store_true", help="show the named queries")
    parser.add_argument("--sql", help="your own SQL instead of a name; - reads standard input")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        type=assignment,
        metavar="NAME=VALUE",
        dest="settings",
        help="parameters of the named query, for example --set days=30 resource=web-%%",
    )
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json", "plot"),
        help="plot draws a chart in the terminal (default: table)",
    )
    parser.add_argument("--png", metavar="FILE", help="write a chart as a picture")
    parser.add_argument(
        "--y", default="", metavar="COLUMN", help="the charted column (default: the first number)"
    )
    add_stage(parser)


@aws_errors()
def run(options: argparse.Namespace) -> int:
    """List the queries, or ask one and print its answer; 0."""
    _check(options)
    stage = stage_of(options)
    if options.list:
        _print_list(named_queries(stage))
        return 0
    sql, literals = _asked(stage, options)
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    with progress.status("asking Athena") as status:
        answer = run_query(stage, sql, literals, progress=status.update)
    noun = "row" if len(answer.rows) == 1 else "rows"
    progress.print(
        f"{len(answer.rows)} {noun} in {answer.seconds:.1f} s;"
        f" {format_bytes(answer.scanned_bytes)} scanned, ${answer.dollars:.6f} on AWS"
        " (at least 10 MB are billed)"
    )
    if options.png:
        write_png(chart(answer, options.y), options.png)
        progress.print(f"written: {options.png}", markup=False)
    if options.format or not options.png:
        _FORMATS[options.format or "table"](answer, options)
    return 0


def _check(options: argparse.Namespace) -> None:
    """The options that do not go together, before anything is asked."""
    ways = [bool(options.name), options.sql is not None, options.list]
    if ways.count(True) != 1:
        raise UsageError("give the name of a query, or --sql, or --list")
    if options.settings and not options.name:
        raise UsageError("--set is for named queries")
    if options.y and not (options.png or options.format == "plot"):
        raise UsageError("--y is for --format plot and --png")


def _asked(stage: Stage, options: argparse.Namespace) -> tuple[str, Sequence[str]]:
    if options.sql is not None:
        return (sys.stdin.read() if options.sql == "-" else options.sql), ()
    known = named_queries(stage)
    found = next((each for each in known if each.name == options.name), None)
    if found is None:
        if not known:
            raise CommandError(
                f"work group {stage.work_group} has no named queries: is infra/queries.yaml"
                f" of stage {stage.name} deployed?"
            )
        names = ", ".join(each.name for each in known)
        raise UsageError(f"there is no query {options.name}; there are {names}")
    try:
        return found.sql, found.literals(dict(options.settings))
    except ParameterError as error:
        raise UsageError(str(error)) from error


def _print_list(queries: Sequence[NamedQuery]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("query", no_wrap=True)
    table.add_column("what it tells")
    table.add_column("parameters and their defaults")
    for each in queries:
        parameters = [
            p.name if p.default is None else f"{p.name}={p.default}" for p in each.parameters
        ]
        table.add_row(each.name, each.summary, "\n".join(parameters))
    Console(highlight=False).print(table)


def _print_table(answer: QueryResult, _: argparse.Namespace) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in answer.columns:
        side: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(column.name, justify=side, overflow="fold")
    for row in typed_rows(answer.columns, answer.rows):
        table.add_row(*map(_shown, row))
    # Whoever reads it through a pipe has no width that it must fit.
    width = None if sys.stdout.isatty() else _WIDE
    Console(highlight=False, markup=False, width=width).print(table)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 0.01 or not value else f"{value:.3g}"
    return "" if value is None else str(value).removesuffix(".000")


def _print_csv(answer: QueryResult, _: argparse.Namespace) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.name for column in answer.columns])
    writer.writerows(answer.rows)


def _print_json(answer: QueryResult, _: argparse.Namespace) -> None:
    rows = [{name: json_value(value) for name, value in row.items()} for row in answer.values()]
    json.dump(rows, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def _print_plot(answer: QueryResult, options: argparse.Namespace) -> None:
    sys.stdout.write(in_terminal(chart(answer, options.y)) + "\n")


_FORMATS: dict[str, Callable[[QueryResult, argparse.Namespace], None]] = {
    "table": _print_table,
    "csv": _print_csv,
    "json": _print_json,
    "plot": _print_plot,
}
