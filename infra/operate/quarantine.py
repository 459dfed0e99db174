"""`python -m infra quarantine`: lines that were no records, mended and sent again.

The file that goes to and fro has the original lines as they were, each under a line that says
where it is from. What is sent becomes a raw object of its own, and an object beside the
quarantined one says which of its lines that raw object mends: nothing is moved or removed, so
the ledger stays exact.
"""

import argparse
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chalicelib.model import records
from chalicelib.model.object_keys import QUARANTINE_PREFIX, RAW_PREFIX
from chalicelib.model.records import Record
from chalicelib.process.parsing import parse

from ..command_line import CommandError
from .arguments import add_days, add_stores
from .aws_errors import aws_errors
from .deployment import Days, Stage, days_of, stage_of
from .reconciliation import FIXED, original

# Stands over each piece in the file; no record begins so.
_HEADER = re.compile(rb"# (quarantine/\S+\.jsonl) ([0-9a-f]{12}): .*")

_EXAMPLE = 60


@dataclass(frozen=True, slots=True)
class Piece:
    """A quarantined piece: a line of the object `key`; `line` is that of the raw object."""

    key: str
    line: int
    reason: str
    source: str
    original: bytes

    @property
    def identity(self) -> str:
        """Tells it from the others of its object; the same after a replay."""
        return hashlib.sha256(b"%d:%b" % (self.line, self.original)).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Mended:
    """A piece of the file: what it is to replace, and the line of the file that it begins on."""

    key: str
    identity: str
    body: bytes
    line: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Show why records were rejected, export them to a file, and resubmit the fixed file as a"
        " new raw object. The originals stay in quarantine/, marked as fixed."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="print reasons, counts, and an example of each")
    export = actions.add_parser("fetch", help="write the records that are not fixed to a file")
    for each in (listing, export):
        add_days(each)
    export.add_argument("file", metavar="FILE", help="the file to write; it must not exist")
    submit = actions.add_parser(
        "send",
        help="put the fixed records into raw-metrics/",
        description="Put the fixed records into raw-metrics/. Nothing is sent while one of them is"
        " still invalid: fix it, or remove it together with the line above it.",
    )
    submit.add_argument("file", metavar="FILE", help="the file that fetch wrote, fixed")
    for each in (listing, export, submit):
        add_stores(each)


@aws_errors()
def run(options: argparse.Namespace) -> int:
    """List, fetch or send, as the options say."""
    stage, console = stage_of(options), Console(highlight=False, soft_wrap=True)
    if options.action == "send":
        return _send(console, stage, Path(options.file))
    found = list(pieces(stage, days_of(options)))
    if options.action == "fetch":
        return _fetch(console, Path(options.file), found)
    _print(console, found)
    return 0


def pieces(stage: Stage, days: Days) -> Iterator[Piece]:
    """What is in quarantine and has not been mended."""
    s3 = stage.client("s3")
    for day in days:
        prefix = f"{QUARANTINE_PREFIX}{day:%Y/%m/%d}/"
        keys = [
            entry["Key"]
            for page in s3.get_paginator("list_objects_v2").paginate(
                Bucket=stage.bucket, Prefix=prefix
            )
            for entry in page.get("Contents", [])
        ]
        mended = _mended(s3, stage.bucket, (key for key in keys if key.endswith(FIXED)))
        for key in keys:
            if key.endswith(FIXED):
                continue
            body = s3.get_object(Bucket=stage.bucket, Key=key)["Body"].read()
            for line in map(json.loads, body.splitlines()):
                piece = Piece(
                    key, line["line"], line["reason"], line["source_object"], original(line)
                )
                if (key, piece.identity) not in mended:
                    yield piece


def _mended(s3: Any, bucket: str, marks: Iterable[str]) -> set[tuple[str, str]]:
    found = set()
    for mark in marks:
        told = json.loads(s3.get_object(Bucket=bucket, Key=mark)["Body"].read())
        found |= {(told["quarantine_object"], identity) for identity in told["pieces"]}
    return found


def encode(found: Iterable[Piece]) -> bytes:
    """The file of these pieces."""
    return b"".join(
        f"# {each.key} {each.identity}: {' '.join(each.reason.split())}\n".encode()
        + each.original.rstrip(b"\n")
        + b"\n"
        for each in found
    )


def decode(file: bytes) -> Iterator[Mended]:
    """The pieces of a file; a header that nothing follows was taken out."""
    header, start, body = None, 0, b""
    for number, line in enumerate([*file.splitlines(keepends=True), b""], start=1):
        match = _HEADER.fullmatch(line.rstrip(b"\r\n"))
        if match or not line:
            if header and body.strip():
                yield Mended(header[1].decode(), header[2].decode(), body, start)
            header, start, body = match, number + 1, b""
        elif header:
            body += line
        elif line.strip():
            raise CommandError(f"line {number} stands under no line that says where it is from")


def check(mended: Sequence[Mended]) -> Mapping[Mended, list[Record]]:
    """The records that the pieces have become.

    Raises:
        CommandError: names every one that is still none.
    """
    found: dict[Mended, list[Record]] = {}
    problems = []
    for each in mended:
        parsed = list(parse([each.body]))
        found[each] = [piece for piece in parsed if isinstance(piece, Record)]
        problems += [
            f"line {each.line + piece.line - 1} is still no record: {piece.reason}"
            for piece in parsed
            if not isinstance(piece, Record)
        ]
    if problems:
        raise CommandError("nothing was sent: " + "; ".join(problems))
    return found


def _fetch(console: Console, path: Path, found: Sequence[Piece]) -> int:
    try:
        with path.open("xb") as file:
            file.write(encode(found))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    console.print(f"{len(found)} pieces are in {path}: mend them, or take them out, then send it")
    return 0


def _send(console: Console, stage: Stage, path: Path) -> int:
    try:
        file = path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    found = check(list(decode(file)))
    for key in sorted({each.key for each in found}):
        here = [each for each in found if each.key == key]
        raw = _put(stage, key, here, [record for each in here for record in found[each]])
        console.print(f"{len(here)} pieces of {key} are sent as {raw}", markup=False)
    if not found:
        console.print("there is nothing in the file to send")
    return 0


def _put(stage: Stage, key: str, mended: Sequence[Mended], found: Sequence[Record]) -> str:
    """The raw object, then the mark; both are named after the content, so they repeat."""
    body = b"".join(records.encode(record) + b"\n" for record in found)
    digest = hashlib.sha256(body).hexdigest()[:12]
    name = key.removeprefix(QUARANTINE_PREFIX).removesuffix(".jsonl")
    day, _, stem = name.rpartition("/")
    raw = f"{RAW_PREFIX}{day}/fixed-{stem}-{digest}.json"
    mark = {
        "quarantine_object": key,
        "pieces": [each.identity for each in mended],
        "raw_object": f"s3://{stage.bucket}/{raw}",
    }
    s3 = stage.client("s3")
    s3.put_object(Bucket=stage.bucket, Key=raw, Body=body, ContentType="application/x-ndjson")
    s3.put_object(
        Bucket=stage.bucket,
        Key=f"{key.removesuffix('.jsonl')}-{digest}{FIXED}",
        Body=json.dumps(mark).encode(),
        ContentType="application/json",
    )
    return raw


def _print(console: Console, found: Sequence[Piece]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("pieces", justify="right")
    for name in ("reason", "example", "of"):
        table.add_column(name, overflow="fold")
    for reason, count in Counter(each.reason for each in found).most_common():
        example = next(each for each in found if each.reason == reason)
        text = example.original[:_EXAMPLE].decode("utf-8", "backslashreplace")
        table.add_row(*map(escape, (f"{count:,}", reason, text, example.source)))
    console.print(table)
    console.print(f"{len(found):,} pieces in quarantine that have not been mended")
