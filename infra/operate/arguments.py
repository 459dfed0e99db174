"""Arguments of the commands that operate a deployed stage."""

import argparse
from datetime import date


def add_days(parser: argparse.ArgumentParser) -> None:
    """Add a range of UTC days, both ends included."""
    parser.add_argument(
        "--from", dest="since", type=_day, required=True, metavar="DAY", help="YYYY-MM-DD, UTC"
    )
    parser.add_argument(
        "--to", dest="until", type=_day, metavar="DAY", help="last day, included (default: today)"
    )


def add_stage(parser: argparse.ArgumentParser) -> None:
    """Add the stage and its endpoint."""
    parser.add_argument(
        "--stage",
        help="default: local if an endpoint is set, here or in AWS_ENDPOINT_URL; else prod",
    )
    parser.add_argument("--endpoint", metavar="URL", help="default: AWS_ENDPOINT_URL, or AWS")


def add_stores(parser: argparse.ArgumentParser) -> None:
    """Add the stage with its bucket and its table."""
    add_stage(parser)
    parser.add_argument("--bucket", help="default: exported by the stage's storage stack")
    parser.add_argument("--table", help="default: exported by the stage's storage stack")


def _day(text: str) -> date:
    return date.fromisoformat(text)
