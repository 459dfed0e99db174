"""Command line of the project: `python -m infra COMMAND`.

Each command is a module with `add_arguments(parser)` and `run(options)`, which returns the exit
status. Only the module of the command in use is imported: `--help` stays fast, and a host that
runs the agent needs the agent's packages only.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from .command_line import CommandError


class Command(NamedTuple):
    """The module of a command, relative to this package, and its line in `--help`."""

    module: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "run": Command(".develop.run", "run the whole pipeline once in a local cloud, print a report"),
    "up": Command(".develop.up", "keep a local cloud running until Ctrl-C"),
    "lint": Command(".develop.lint", "run cfn-lint on every template"),
    "audit": Command(".develop.audit", "run checkov, bandit and pip-audit"),
    "agent": Command(".agent.command", "measure this host and push the records to S3"),
    "verify": Command(".operate.verify", "compare the stored data with the raw objects"),
    "redrive": Command(".operate.redrive", "send failed events and runs again"),
    "replay": Command(".operate.replay", "process raw objects again"),
    "quarantine": Command(".operate.quarantine", "list, export, fix and resubmit rejected entries"),
    "query": Command(".operate.query", "run a named query or SQL in Athena"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = _parser(sys.argv[1:] if arguments is None else arguments).parse_args(arguments)
    _configure_logging(verbose=options.verbose)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status: int = options.run(options)
    except CommandError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    return status


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; of the commands, only the one in `arguments` gets its own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m infra",
        description="Run the pipeline on this machine without an AWS account, push this host's"
        " metrics into a deployed pipeline, or operate a deployed stage.",
    )
    parser.add_argument("--verbose", action="store_true", help="show the local cloud's log")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((each for each in arguments if not each.startswith("-")), "")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.help)
        if name == chosen:
            module: Any = import_module(command.module, __package__)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def _configure_logging(*, verbose: bool) -> None:
    """Hide moto's log, which has an entry for every failed state, unless `verbose`."""
    if verbose:
        logging.basicConfig(level=logging.INFO)
        return
    logging.basicConfig(level=logging.CRITICAL)
    warnings.simplefilter("ignore")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _exit(status: int) -> NoReturn:
    """End the process even while moto's threads run; one can sleep in a retry for a minute.

    A normal interpreter exit with these threads alive makes DuckDB report leaked types.
    """
    if threading.active_count() > 1:
        with suppress(BrokenPipeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    _exit(main())
