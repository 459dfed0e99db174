"""Shared by all commands: errors with an exit status, and argument types."""

import argparse
import math


class CommandError(Exception):
    """The command failed; the message is one line with the cause and a fix. Exit status 1."""

    exit_status = 1


class UsageError(CommandError):
    """The options contradict each other. Exit status 2."""

    exit_status = 2


def exit_statuses(zero: str, one: str) -> str:
    """The line of a command's help that lists its exit statuses."""
    return f"exit status: 0 if {zero}, 1 if {one}, 2 for a mistake in the options."


def add_assignments(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add `--set NAME=VALUE …`, a list of pairs in `settings`."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        dest="settings",
        help=help_text,
    )


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def positive_float(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value
