"""The options of the commands that operate a deployed stage; imports nothing heavy."""

import argparse
from datetime import date
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

OPERATIONS = ("verify",)


def add_operations(commands: Commands) -> None:
    """Add the commands' parsers."""
    _add_verify(commands)


def _add_verify(commands: Commands) -> None:
    verify = commands.add_parser(
        "verify",
        help="hold DynamoDB, processed/ and quarantine/ against the raw objects",
        description="Count the records of the raw objects of these days (by the date in their"
        " keys, or else by when they were stored), hold DynamoDB, processed/ and quarantine/"
        " against them, and name every difference. Changes nothing. What is being processed"
        " at this moment shows as a difference.",
        epilog="exit status: 0 if everything is there once and nothing else, 1 if there are"
        " differences or something went wrong, 2 for a mistake in the options.",
    )
    add_days(verify)
    verify.add_argument("--json", action="store_true", help="print counts and differences as JSON")
    add_stage(verify)


def add_days(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="since", type=_day, required=True, metavar="DAY", help="YYYY-MM-DD, UTC"
    )
    parser.add_argument(
        "--to", dest="until", type=_day, metavar="DAY", help="this day too (default: today)"
    )


def add_stage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stage",
        help="default: local if there is an endpoint, here or in AWS_ENDPOINT_URL; else prod",
    )
    parser.add_argument("--endpoint", metavar="URL", help="default: AWS_ENDPOINT_URL, or AWS")
    parser.add_argument("--bucket", help="default: what the stage's storage stack exports")
    parser.add_argument("--table", help="default: what the stage's storage stack exports")


def _day(text: str) -> date:
    return date.fromisoformat(text)
