"""Options of the commands, mostly of those that operate a deployed stage; imports nothing heavy."""

import argparse
from datetime import date
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

# Of the local cloud: where stage local of .chalice/config.json looks for it.
DEFAULT_PORT = 4566

OPERATIONS = ("verify", "redrive", "replay", "quarantine", "query")


def add_operations(commands: Commands) -> None:
    """Add the commands' parsers."""
    _add_verify(commands)
    _add_redrive(commands)
    _add_replay(commands)
    _add_quarantine(commands)
    _add_query(commands)


def _add_verify(commands: Commands) -> None:
    verify = commands.add_parser(
        "verify",
        help="hold DynamoDB, processed/ and quarantine/ against the raw objects",
        description="Count the records of the raw objects of these days (by the date in their"
        " keys, or else by when they were stored), hold DynamoDB, processed/ and quarantine/"
        " against them, and name every difference. Changes nothing. What is being processed"
        " at this moment shows as a difference.",
        epilog=exits(
            "everything is there once and nothing else",
            "there are differences or something went wrong",
        ),
    )
    add_days(verify)
    verify.add_argument("--json", action="store_true", help="print counts and differences as JSON")
    add_stage(verify)


def _add_redrive(commands: Commands) -> None:
    redrive = commands.add_parser(
        "redrive",
        help="send again what has failed for good",
        description="Send the events of the dead-letter queue to their targets again, and start"
        " failed executions of the state machines again for the same tick. A message is deleted"
        " only after it was sent; one that nobody here can have sent is left. What fails again"
        " comes back. Doing it twice changes no count.",
        epilog=exits("everything was sent", "something is left"),
    )
    redrive.add_argument(
        "--list",
        "--dry-run",
        action="store_true",
        help="only show what failed, why and since when",
    )
    redrive.add_argument(
        "--hours",
        type=float,
        default=24,
        help="how far back to look for executions that failed without a dead letter; 0: not at all"
        " (default: %(default)g)",
    )
    add_stage(redrive)


def _add_replay(commands: Commands) -> None:
    replay = commands.add_parser(
        "replay",
        help="process raw objects again, after a change of the transform",
        description="Let a state machine send every raw object of these days through"
        " log-processor again. The same items and lines are written again under the same keys.",
        epilog=exits("every object was processed (with --no-wait: if it was started)", "not"),
    )
    add_days(replay)
    replay.add_argument(
        "--prefix", default="", help="only objects whose names begin so, as in --prefix cpu"
    )
    replay.add_argument("--dry-run", action="store_true", help="only show what would be replayed")
    replay.add_argument("--no-wait", action="store_true", help="only start it")
    replay.add_argument(
        "--resume",
        action="store_true",
        help="go on with the days that the last replay of the same days has left",
    )
    add_stage(replay)


def _add_quarantine(commands: Commands) -> None:
    quarantine = commands.add_parser(
        "quarantine",
        help="what is no record: list it, fetch it to be mended, send it again",
        description="Lines that are no records: see why, fetch them into a file, mend them there,"
        " and send them as a new raw object. The quarantined ones stay, marked as mended.",
    )
    actions = quarantine.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="reasons, counts, and an example of each")
    fetched = actions.add_parser("fetch", help="write the lines that are not mended into a file")
    for each in (listed, fetched):
        add_days(each)
    fetched.add_argument("file", metavar="FILE", help="where to; it must not be there yet")
    sent = actions.add_parser(
        "send",
        help="put the mended lines into raw-metrics/",
        description="Put the mended lines into raw-metrics/. Nothing is sent as long as one of"
        " them is still no record: mend it, or take it out with the line above it.",
    )
    sent.add_argument("file", metavar="FILE", help="as fetch wrote it, mended")
    for each in (listed, fetched, sent):
        add_stage(each)


def _add_query(commands: Commands) -> None:
    query = commands.add_parser(
        "query",
        help="ask Athena: a named query, or SQL of one's own",
        description="Ask Athena a named query of the stage (--list has them), or SQL of your own,"
        " and print the answer. Values are bound by Athena, not pasted into the SQL. How long it"
        " took, how much was read and what that costs is told on standard error; Ctrl-C stops the"
        " query.",
        epilog=exits("it was answered", "it was not"),
    )
    query.add_argument("name", nargs="?", metavar="NAME", help="of a named query")
    query.add_argument("--list", action="store_true", help="show the named queries")
    query.add_argument("--sql", help="SQL of your own in place of a name; - reads standard input")
    query.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        type=assignment,
        metavar="NAME=VALUE",
        dest="settings",
        help="parameters of the named query, as in --set days=30 resource=web-%%",
    )
    query.add_argument(
        "--format",
        choices=("table", "csv", "json", "plot"),
        help="of the answer; plot is a chart in the terminal (default: table)",
    )
    query.add_argument("--png", metavar="FILE", help="write a chart as a picture")
    query.add_argument(
        "--y", default="", metavar="COLUMN", help="what a chart shows (default: the first number)"
    )
    add_place(query)


def assignment(text: str) -> tuple[str, str]:
    """NAME=VALUE as its two parts."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def exits(zero: str, one: str) -> str:
    """What a command's help says of its exit status."""
    return f"exit status: 0 if {zero}, 1 if {one}, 2 for a mistake in the options."


def add_days(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="since", type=_day, required=True, metavar="DAY", help="YYYY-MM-DD, UTC"
    )
    parser.add_argument(
        "--to", dest="until", type=_day, metavar="DAY", help="this day too (default: today)"
    )


def add_place(parser: argparse.ArgumentParser) -> None:
    """Which stage, and where it is."""
    parser.add_argument(
        "--stage",
        help="default: local if there is an endpoint, here or in AWS_ENDPOINT_URL; else prod",
    )
    parser.add_argument("--endpoint", metavar="URL", help="default: AWS_ENDPOINT_URL, or AWS")


def add_stage(parser: argparse.ArgumentParser) -> None:
    """The stage, its bucket and its table."""
    add_place(parser)
    parser.add_argument("--bucket", help="default: what the stage's storage stack exports")
    parser.add_argument("--table", help="default: what the stage's storage stack exports")


def _day(text: str) -> date:
    return date.fromisoformat(text)
