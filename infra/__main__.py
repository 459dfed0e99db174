"""Command line of the local cloud: `python -m infra run`, `up`, `lint`."""

import argparse
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console

DEFAULT_PORT = 4566


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    options = _parser().parse_args(arguments)
    _quiet(verbose=options.verbose)
    signal.signal(signal.SIGTERM, _interrupt)
    # What takes a second to import waits until --help has been answered.
    from .commands import LocalCloudError, lint, run, up

    console = Console(stderr=True, highlight=False)
    command = {"run": run, "up": up, "lint": lint}[options.command]
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
        prog="python -m infra", description="Run the whole pipeline on this machine, without AWS."
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
    return parser


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
        type=_assignment,
        metavar="NAME=VALUE",
        dest="settings",
        help="override settings of the stage, as in --set CPU_THRESHOLDS=50,60",
    )


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _quiet(*, verbose: bool) -> None:
    """Keep down moto, which speaks of every failed state; the report tells that better."""
    if verbose:
        logging.basicConfig(level=logging.INFO)
        return
    logging.basicConfig(level=logging.CRITICAL)
    warnings.simplefilter("ignore")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
