"""`python -m infra query`: run a named query or SQL in Athena; print a table, CSV, JSON, chart."""

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

from ..command_line import CommandError, UsageError, add_assignments, exit_statuses
from .arguments import add_stage
from .athena import QueryResult, format_bytes, named_queries, run_query
from .aws_errors import aws_errors
from .charts import chart, in_terminal, write_png
from .deployment import Stage, stage_of

# Columns of a table that is not written to a terminal.
_WIDTH = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Run a named query of the stage (--list shows them), or your own SQL, in Athena and print"
        " the result. Athena binds the values; they are not inserted into the SQL. Run time, bytes"
        " scanned and cost are printed on standard error. Ctrl-C stops the query."
    )
    parser.epilog = exit_statuses("the query succeeded", "it failed")
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of a named query")
    parser.add_argument("--list", action="store_true", help="show the named queries")
    parser.add_argument("--sql", help="your own SQL instead of a name; - reads standard input")
    add_assignments(
        parser, "parameters of the named query, for example --set days=30 resource=web-%%"
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
    """List the named queries, or run a query and print its result; 0 if it succeeded."""
    _check(options)
    stage = stage_of(options)
    if options.list:
        _print_list(named_queries(stage))
        return 0
    sql, literals = _select_query(stage, options)
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    with progress.status("starting the query") as status:
        result = run_query(stage, sql, literals, progress=status.update)
    noun = "row" if len(result.rows) == 1 else "rows"
    progress.print(
        f"{len(result.rows)} {noun} in {result.seconds:.1f} s;"
        f" {format_bytes(result.scanned_bytes)} scanned, ${result.dollars:.6f} on AWS"
        " (at least 10 MB are billed)"
    )
    if options.png:
        write_png(chart(result, options.y), options.png)
        progress.print(f"written: {options.png}", markup=False)
    if options.format or not options.png:
        _FORMATS[options.format or "table"](result, options)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raise UsageError for options that exclude each other."""
    choices = [bool(options.name), options.sql is not None, options.list]
    if choices.count(True) != 1:
        raise UsageError("give one of: the name of a query, --sql, --list")
    if options.settings and not options.name:
        raise UsageError("--set requires a named query")
    if options.y and not (options.png or options.format == "plot"):
        raise UsageError("--y requires --format plot or --png")


def _select_query(stage: Stage, options: argparse.Namespace) -> tuple[str, Sequence[str]]:
    if options.sql is not None:
        return (sys.stdin.read() if options.sql == "-" else options.sql), ()
    known = named_queries(stage)
    named = next((each for each in known if each.name == options.name), None)
    if named is None:
        if not known:
            raise CommandError(
                f"work group {stage.work_group} has no named queries: is infra/queries.yaml"
                f" of stage {stage.name} deployed?"
            )
        names = ", ".join(each.name for each in known)
        raise UsageError(f"no query {options.name}; the named queries are {names}")
    try:
        return named.sql, named.literals(dict(options.settings))
    except ParameterError as error:
        raise UsageError(str(error)) from error


def _print_list(queries: Sequence[NamedQuery]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("query", no_wrap=True)
    table.add_column("description")
    table.add_column("parameters with defaults")
    for each in queries:
        parameters = [
            p.name if p.default is None else f"{p.name}={p.default}" for p in each.parameters
        ]
        table.add_row(each.name, each.summary, "\n".join(parameters))
    Console(highlight=False).print(table)


def _print_table(result: QueryResult, _: argparse.Namespace) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in result.columns:
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(column.name, justify=justify, overflow="fold")
    for row in typed_rows(result.columns, result.rows):
        table.add_row(*map(_format, row))
    width = None if sys.stdout.isatty() else _WIDTH
    Console(highlight=False, markup=False, width=width).print(table)


def _format(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 0.01 or not value else f"{value:.3g}"
    return "" if value is None else str(value).removesuffix(".000")


def _print_csv(result: QueryResult, _: argparse.Namespace) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.name for column in result.columns])
    writer.writerows(result.rows)


def _print_json(result: QueryResult, _: argparse.Namespace) -> None:
    rows = [{name: json_value(value) for name, value in row.items()} for row in result.values()]
    json.dump(rows, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def _print_plot(result: QueryResult, options: argparse.Namespace) -> None:
    sys.stdout.write(in_terminal(chart(result, options.y)) + "\n")


_FORMATS: dict[str, Callable[[QueryResult, argparse.Namespace], None]] = {
    "table": _print_table,
    "csv": _print_csv,
    "json": _print_json,
    "plot": _print_plot,
}
