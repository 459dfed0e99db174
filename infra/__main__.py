"""Command line: the local cloud (`run`, `up`, `lint`, `audit`), the `agent`, operation."""

import argparse
import logging
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from .options import DEFAULT_PORT, OPERATIONS, Commands, add_operations, assignment, exits

MAX_INTERVAL = 7 * 86_400  # seconds; a record's longest window


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    options = _parser().parse_args(arguments)
    _quiet(verbose=options.verbose)
    signal.signal(signal.SIGTERM, _interrupt)
    if options.command == "agent":
        # A host that pushes has what ships and boto3, and nothing of the local cloud's packages.
        from .agent import agent

        return agent(options)
    if options.command in OPERATIONS:
        from .operations import operate

        return operate(options)
    # What takes a second to import waits until --help has been answered.
    from rich.console import Console

    from .commands import LocalCloudError, audit, lint, run, up

    console = Console(stderr=True, highlight=False)
    command = {"run": run, "up": up, "lint": lint, "audit": audit}[options.command]
    try:
        return command(options)
    except LocalCloudError as error:
        console.print(f"[bold red]error:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 0 if options.command == "up" else 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra",
        description="Run the whole pipeline on this machine, without AWS; push this machine's"
        " metrics into one; or verify a stage and repair it.",
    )
    parser.add_argument("--verbose", action="store_true", help="show the log of the local cloud")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="start, deploy, fire the clock once, print a report",
        description="Start the local cloud, deploy the app into it, fire the clock once, wait"
        " until every object is processed, and print what happened. Exits 0 if all is well.",
    )
    _add_common(run, port=0, port_help="port on 127.0.0.1 (default: any free one)")

    run.add_argument("--svg", metavar="FILE", help="also write the report as a picture")

    up = commands.add_parser(
        "up",
        help="keep the local cloud up until Ctrl-C",
        description="Start the local cloud, deploy the app, fire the clock once, and stay up:"
        " point any AWS client at the endpoint (region eu-west-1, any credentials).",
    )
    _add_common(
        up, port=DEFAULT_PORT, port_help=f"port on 127.0.0.1 (default: {DEFAULT_PORT}; 0: any)"
    )
    up.add_argument("--no-tick", action="store_true", help="do not fire the clock at the start")

    lint = commands.add_parser(
        "lint",
        help="cfn-lint on every template",
        description="Package a stage and run cfn-lint on infra/storage.yaml, on the template with"
        " the overlay merged in, and on what the SAM transform makes of it.",
    )
    lint.add_argument("--stage", default="prod", help="default: %(default)s")

    audit = commands.add_parser(
        "audit",
        help="checkov, bandit and pip-audit",
        description="Look for weaknesses: checkov in the templates, bandit in the code, pip-audit"
        " in the locks. Needs `.local/audit`, which `make audit` makes.",
        epilog="exit status: 0 if all of them ran and found nothing, else 1",
    )
    audit.add_argument("--stage", default="prod", help="default: %(default)s")
    audit.add_argument(
        "--if-reachable",
        action="store_true",
        help="exit 0 also where pip-audit's service cannot be asked; it is said all the same",
    )

    _add_agent(commands)
    add_operations(commands)
    return parser


def _add_agent(commands: Commands) -> None:
    agent = commands.add_parser(
        "agent",
        help="measure this machine and push the records to S3",
        description="Measure this machine's CPU, memory, disk and network at every --interval of"
        " the clock, and put the records into raw-metrics/ of the bucket, as one object. What"
        " S3 does not take stays in the spool and is sent before anything newer."
        " Credentials, region and endpoint are the AWS environment's.",
        epilog=exits(
            "everything was sent (or, without --once, after Ctrl-C)",
            "something stays in the spool or went wrong",
        ),
    )
    mode = agent.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="measure, send and exit")
    mode.add_argument(
        "--dry-run",
        nargs="?",
        choices=("lines", "pretty"),
        const="lines",
        help="print the object instead of sending it, as it is or pretty; needs no bucket",
    )
    agent.add_argument("--bucket", help="where to (default: the environment's BUCKET_NAME)")
    _add_measuring(agent)
    _add_names(agent)
    _add_spool(agent)


def _add_spool(agent: argparse.ArgumentParser) -> None:
    agent.add_argument(
        "--spool",
        metavar="DIR",
        help="what is not sent yet (default: ~/.local/state/infra-monitoring/spool, or under"
        " XDG_STATE_HOME)",
    )
    agent.add_argument(
        "--max-spool-mb",
        type=_positive_float,
        default=100.0,
        metavar="MB",
        help="beyond it the oldest objects are dropped (default: %(default)g)",
    )


def _add_measuring(agent: argparse.ArgumentParser) -> None:
    agent.add_argument(
        "--interval",
        type=_interval,
        default=10_800,
        metavar="SECONDS",
        help="between measurements, and the length of a record's window (default: %(default)s)",
    )
    agent.add_argument(
        "--align",
        type=_interval,
        default=300,
        metavar="SECONDS",
        help="windows end on multiples of it (default: %(default)s)",
    )
    agent.add_argument(
        "--cpu-seconds",
        type=_positive_float,
        default=1.0,
        metavar="SECONDS",
        help="how long CPU utilization is watched (default: %(default)g)",
    )


def _add_names(agent: argparse.ArgumentParser) -> None:
    agent.add_argument("--host", help="name in the records (default: this machine's host name)")
    agent.add_argument(
        "--account-id", default="", help="in the records (default: the bucket's, by the processor)"
    )
    agent.add_argument(
        "--region-label",
        default="",
        metavar="REGION",
        help="in the records (default: the bucket's, by the processor)",
    )


def _add_common(parser: argparse.ArgumentParser, *, port: int, port_help: str) -> None:
    parser.add_argument("--port", type=int, default=port, help=port_help)
    parser.add_argument(
        "--email", default="you@example.com", help="who would be told (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        type=assignment,
        metavar="NAME=VALUE",
        dest="settings",
        help="override settings of the stage, as in --set CPU_THRESHOLDS=50,60",
    )


def _interval(text: str) -> int:
    seconds = int(text)
    if not 1 <= seconds <= MAX_INTERVAL:
        raise argparse.ArgumentTypeError(f"{text} is not within 1 to {MAX_INTERVAL} seconds")
    return seconds


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _quiet(*, verbose: bool) -> None:
    """Keep down moto, which speaks of every failed state; the report tells that better."""
    if verbose:
        logging.basicConfig(level=logging.INFO)
        return
    logging.basicConfig(level=logging.CRITICAL)
    warnings.simplefilter("ignore")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _leave(status: int) -> NoReturn:
    """End the process, whatever moto's threads still do: one may sleep in a retry for a minute.

    Over them the interpreter's own end trips: DuckDB then lists all its types as leaked.
    """
    if threading.active_count() > 1:
        with suppress(BrokenPipeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    _leave(main())
