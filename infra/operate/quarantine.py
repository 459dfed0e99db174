"""`python -m infra quarantine`: list, export, fix and resubmit rejected entries.

The exported file has the original bytes of each entry below a header line with its origin. The
fixed entries become a new raw object, and an object next to the quarantined one lists their ids.
No object is moved or deleted, so `verify` finds no differences afterwards.
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

# Precedes each entry in the file; no record starts like this.
_HEADER = re.compile(rb"# (quarantine/\S+\.jsonl) ([0-9a-f]{12}): .*")

_MAX_EXAMPLE_BYTES = 60


@dataclass(frozen=True, slots=True)
class QuarantinedEntry:
    """A rejected entry in the quarantined object `key`; `line` is its line in the raw object."""

    key: str
    line: int
    reason: str
    source: str
    original: bytes

    @property
    def identity(self) -> str:
        """An id that is unique within the object and the same after a replay."""
        return hashlib.sha256(b"%d:%b" % (self.line, self.original)).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class FixedEntry:
    """An entry of the file; `body` replaces the quarantined entry and starts on line `line`."""

    key: str
    identity: str
    body: bytes
    line: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Show why entries were rejected, export them to a file, and resubmit the fixed file as"
        " raw objects. The originals stay in quarantine/, listed as fixed."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="print reasons, counts, and an example of each")
    export = actions.add_parser("fetch", help="export the entries that are not fixed to a file")
    for each in (listing, export):
        add_days(each)
    export.add_argument("file", metavar="FILE", help="the file to write; it must not exist")
    resubmit = actions.add_parser(
        "send",
        help="resubmit the fixed file as raw objects",
        description="Put the fixed records into raw-metrics/. Nothing is sent while one of them is"
        " still invalid: fix it, or remove it together with its header line.",
    )
    resubmit.add_argument("file", metavar="FILE", help="the file that fetch wrote, fixed")
    for each in (listing, export, resubmit):
        add_stores(each)


@aws_errors()
def run(options: argparse.Namespace) -> int:
    """List, export or resubmit; 0 if that succeeded."""
    stage, console = stage_of(options), Console(highlight=False, soft_wrap=True)
    if options.action == "send":
        return _resubmit(console, stage, Path(options.file))
    entries = list(quarantined_entries(stage, days_of(options)))
    if options.action == "fetch":
        return _export(console, Path(options.file), entries)
    _print(console, entries)
    return 0


def quarantined_entries(stage: Stage, days: Days) -> Iterator[QuarantinedEntry]:
    """The entries in quarantine that are not fixed."""
    s3 = stage.client("s3")
    for day in days:
        prefix = f"{QUARANTINE_PREFIX}{day:%Y/%m/%d}/"
        keys = [
            listed["Key"]
            for page in s3.get_paginator("list_objects_v2").paginate(
                Bucket=stage.bucket, Prefix=prefix
            )
            for listed in page.get("Contents", [])
        ]
        fixed = _fixed_entries(s3, stage.bucket, (key for key in keys if key.endswith(FIXED)))
        for key in keys:
            if key.endswith(FIXED):
                continue
            body = s3.get_object(Bucket=stage.bucket, Key=key)["Body"].read()
            for line in map(json.loads, body.splitlines()):
                entry = QuarantinedEntry(
                    key, line["line"], line["reason"], line["source_object"], original(line)
                )
                if (key, entry.identity) not in fixed:
                    yield entry


def _fixed_entries(s3: Any, bucket: str, keys: Iterable[str]) -> set[tuple[str, str]]:
    """Object key and id of the entries that the objects with these keys list as fixed."""
    found = set()
    for key in keys:
        fixed = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        found |= {(fixed["quarantine_object"], identity) for identity in fixed["pieces"]}
    return found


def format_export(entries: Iterable[QuarantinedEntry]) -> bytes:
    """The file with these entries: each below its header line."""
    return b"".join(
        f"# {each.key} {each.identity}: {' '.join(each.reason.split())}\n".encode()
        + each.original.rstrip(b"\n")
        + b"\n"
        for each in entries
    )


def parse_export(file: bytes) -> Iterator[FixedEntry]:
    """The entries of a file; a header line without text below it is skipped.

    Raises:
        CommandError: a line has no header above it.
    """
    header, start, body = None, 0, b""
    for number, line in enumerate([*file.splitlines(keepends=True), b""], start=1):
        match = _HEADER.fullmatch(line.rstrip(b"\r\n"))
        if match or not line:
            if header and body.strip():
                yield FixedEntry(header[1].decode(), header[2].decode(), body, start)
            header, start, body = match, number + 1, b""
        elif header:
            body += line
        elif line.strip():
            raise CommandError(f"line {number} has no header line above it")


def parse_records(entries: Sequence[FixedEntry]) -> Mapping[FixedEntry, list[Record]]:
    """The records of each entry.

    Raises:
        CommandError: lists every entry that is still invalid.
    """
    found: dict[FixedEntry, list[Record]] = {}
    problems = []
    for each in entries:
        parsed = list(parse([each.body]))
        found[each] = [entry for entry in parsed if isinstance(entry, Record)]
        problems += [
            f"line {each.line + entry.line - 1} is still invalid: {entry.reason}"
            for entry in parsed
            if not isinstance(entry, Record)
        ]
    if problems:
        raise CommandError("nothing was sent: " + "; ".join(problems))
    return found


def _export(console: Console, path: Path, entries: Sequence[QuarantinedEntry]) -> int:
    try:
        with path.open("xb") as file:
            file.write(format_export(entries))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    console.print(
        f"{len(entries)} entries written to {path}: fix or remove them, then run quarantine send",
        markup=False,
    )
    return 0


def _resubmit(console: Console, stage: Stage, path: Path) -> int:
    try:
        file = path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    found = parse_records(list(parse_export(file)))
    for key in sorted({each.key for each in found}):
        entries = [each for each in found if each.key == key]
        raw = _put(stage, key, entries, [record for each in entries for record in found[each]])
        console.print(f"{len(entries)} entries of {key} sent as {raw}", markup=False)
    if not found:
        console.print("the file has no entries")
    return 0


def _put(stage: Stage, key: str, fixed: Sequence[FixedEntry], found: Sequence[Record]) -> str:
    """Put the raw object, then the list of fixed entries; returns the raw object's key.

    Both keys are derived from the content, so a repeated call overwrites them.
    """
    body = b"".join(records.encode(record) + b"\n" for record in found)
    digest = hashlib.sha256(body).hexdigest()[:12]
    name = key.removeprefix(QUARANTINE_PREFIX).removesuffix(".jsonl")
    day, _, stem = name.rpartition("/")
    raw = f"{RAW_PREFIX}{day}/fixed-{stem}-{digest}.json"
    fixed_list = {
        "quarantine_object": key,
        "pieces": [each.identity for each in fixed],
        "raw_object": f"s3://{stage.bucket}/{raw}",
    }
    s3 = stage.client("s3")
    s3.put_object(Bucket=stage.bucket, Key=raw, Body=body, ContentType="application/x-ndjson")
    s3.put_object(
        Bucket=stage.bucket,
        Key=f"{key.removesuffix('.jsonl')}-{digest}{FIXED}",
        Body=json.dumps(fixed_list).encode(),
        ContentType="application/json",
    )
    return raw


def _print(console: Console, entries: Sequence[QuarantinedEntry]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("entries", justify="right")
    for name in ("reason", "example", "object"):
        table.add_column(name, overflow="fold")
    for reason, count in Counter(each.reason for each in entries).most_common():
        example = next(each for each in entries if each.reason == reason)
        text = example.original[:_MAX_EXAMPLE_BYTES].decode("utf-8", "backslashreplace")
        table.add_row(*map(escape, (f"{count:,}", reason, text, example.source)))
    console.print(table)
    console.print(f"{len(entries):,} entries in quarantine are not fixed")
