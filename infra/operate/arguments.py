"""Arguments of the commands that operate a deployed stage."""

import argparse
from datetime import date


def add_days(parser: argparse.ArgumentParser) -> None:
    """Add a range of UTC days, both ends included."""
    parser.add_argument(
        "--from",
        dest="since",
        type=_day,
        required=True,
        metavar="DAY",
        help="first day, YYYY-MM-DD in UTC",
    )
    parser.add_argument(
        "--to", dest="until", type=_day, metavar="DAY", help="last day, inclusive (default: today)"
    )


def add_stage(parser: argparse.ArgumentParser) -> None:
    """Add the stage and the endpoint."""
    parser.add_argument(
        "--stage",
        help="default: local if --endpoint or AWS_ENDPOINT_URL is set, else prod",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="AWS endpoint (default: AWS_ENDPOINT_URL, else AWS itself)",
    )


def add_stores(parser: argparse.ArgumentParser) -> None:
    """Add the stage, and its bucket and table."""
    add_stage(parser)
    parser.add_argument("--bucket", help="default: export of the stage's storage stack")
    parser.add_argument("--table", help="default: export of the stage's storage stack")


def _day(text: str) -> date:
    return date.fromisoformat(text)
