"""`python -m infra verify`: holds a stage's stores against the raw objects, and tells of it."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from chalicelib.model.object_keys import PROCESSED_PREFIX, QUARANTINE_PREFIX
from chalicelib.model.windows import parse_utc
from chalicelib.process.output_keys import OutputKeys

from ..command_line import exit_statuses
from .arguments import add_days, add_stores
from .aws_errors import aws_errors, describe_error
from .deployment import Days, Stage, day_of, days_of, stage_of
from .raw_objects import RawObject, list_raw
from .reconciliation import (
    Claim,
    Content,
    Difference,
    Identity,
    Stored,
    Tally,
    fingerprint,
    judge_items,
    judge_lines,
    judge_quarantine,
    read_item,
    read_quarantined,
)
from .stored_records import Stores

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one raw object: what was read for it, and the differences."""

    content: Content
    items: Mapping[Identity, Stored]
    lines: int
    line_records: int
    keys: tuple[str, ...]
    quarantined: int
    expired: int
    differences: tuple[Difference, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Count the records of the raw objects of these days (by the date in the key, or else by"
        " the time of storage), compare DynamoDB, processed/ and quarantine/ with them, and print"
        " every difference. Changes nothing. Objects that are being processed at this moment show"
        " up as differences."
    )
    parser.epilog = exit_statuses(
        "every record is stored exactly once and nothing else is stored",
        "there are differences or the command failed",
    )
    add_days(parser)
    parser.add_argument("--json", action="store_true", help="print counts and differences as JSON")
    add_stores(parser)


@aws_errors()
def run(options: argparse.Namespace) -> int:
    """Print the counts and every difference; 0 if there is none, else 1."""
    stage, days = stage_of(options), days_of(options)
    ledger = Ledger(stage, days)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        found = ledger.differences(progress)
        differences = sorted(found, key=lambda each: (each.store, each.object))
    if options.json:
        json.dump(_as_json(stage, days, ledger.tally, differences), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        _print(Console(highlight=False), stage, days, ledger.tally, differences)
    return 1 if differences else 0


class Ledger:
    """Goes through the days of a stage, object by object."""

    def __init__(self, stage: Stage, days: Days) -> None:
        self._stage = stage
        self._days = days
        self._stores = Stores(stage)
        self._bucket = stage.bucket
        self._judged: set[str] = set()
        self._touched = set(days)
        self._read = lru_cache(maxsize=64)(self._stores.content)
        self.tally = Tally()

    def differences(self, progress: Progress) -> Iterator[Difference]:
        """Every difference, in the order in which it is come by; counts on the way."""
        raw = sorted(list_raw(self._stage, self._days), key=lambda each: (each.day, each.key))
        self._raw_keys = {each.key for each in raw}
        task = progress.add_task("raw objects", total=len(raw))
        pool = ThreadPoolExecutor(max_workers=_THREADS)
        try:
            for judged in pool.map(self._judge, raw):
                self._count(judged)
                yield from judged.differences
                progress.advance(task)
        finally:
            pool.shutdown(cancel_futures=True)
        task = progress.add_task("what is left", total=len(self._touched))
        for day in sorted(self._touched):
            yield from self._left(day)
            progress.advance(task)

    # --- What raw objects explain ---------------------------------------------------------

    def _judge(self, raw: RawObject) -> Judged:
        empty = _empty(raw.key, self._bucket)
        try:
            content = self._read(raw.key) or empty
        except ClientError as error:  # archived, say: the others can still be judged
            unread = empty.difference("raw", f"cannot be read: {describe_error(error)}")
            return Judged(empty, {}, 0, 0, (), 0, 0, (unread,))
        items = dict(self._stores.items(content.claims))
        names = OutputKeys(raw.key, raw.stored_at)
        days = sorted({timestamp[:10] for _, timestamp in content.claims})
        keys = [
            key
            for day in days
            for key in self._stores.keys(f"{PROCESSED_PREFIX}dt={day}/{names.stem}-")
        ]
        lines = [line for key in keys for line in self._stores.lines(key)]
        bad = list(self._stores.keys(f"{QUARANTINE_PREFIX}{names.date}{names.stem}-"))
        quarantined = [
            read_quarantined(text) for key in bad for text in self._stores.body(key).splitlines()
        ]
        differences = (
            *judge_items(
                content,
                items,
                claims_of=self._claims_of,
                expired=self._expired,
            ),
            *judge_lines(content, lines, items),
            *judge_quarantine(content, quarantined),
        )
        return Judged(
            content=content,
            items=items,
            lines=len(lines),
            line_records=len({line.identity for line in lines}),
            keys=(*keys, *bad),
            quarantined=len(quarantined),
            expired=sum(self._expired(each[1]) for each in content.claims.keys() - items.keys()),
            differences=differences,
        )

    def _count(self, judged: Judged) -> None:
        tally, content = self.tally, judged.content
        tally.raw_objects += 1
        tally.raw_records += content.records
        tally.raw_repeated += content.records - len(content.claims)
        tally.raw_rejected += content.rejected.total()
        tally.processed_objects += sum(key.startswith(PROCESSED_PREFIX) for key in judged.keys)
        tally.processed_records += judged.line_records
        tally.processed_lines += judged.lines
        tally.quarantine_objects += sum(key.startswith(QUARANTINE_PREFIX) for key in judged.keys)
        tally.quarantine_lines += judged.quarantined
        tally.expired += judged.expired
        for identity in content.claims:
            tally.identities.add(fingerprint(*identity))
            tally.explained.add(fingerprint(content.uri, *identity))
            self._touched.add(date.fromisoformat(identity[1][:10]))
        tally.items |= {fingerprint(*each) for each, item in judged.items.items() if item.source}
        self._judged.update(judged.keys)

    def _expired(self, timestamp: str) -> bool:
        return parse_utc(timestamp) + self._stage.retention < datetime.now(UTC)

    def _claims_of(self, uri: str) -> Mapping[Identity, Claim]:
        content = self._read(uri.removeprefix(f"s3://{self._bucket}/"))
        return content.claims if content else {}

    # --- What nothing explains ------------------------------------------------------------

    def _left(self, day: date) -> Iterator[Difference]:
        yield from self._left_objects("processed", f"{PROCESSED_PREFIX}dt={day}/")
        if day in self._days:
            prefix = f"{QUARANTINE_PREFIX}{day:%Y/%m/%d}/"
            yield from self._left_objects("quarantine", prefix)
        yield from self._left_items(day)

    def _left_objects(self, store: str, prefix: str) -> Iterator[Difference]:
        for key in self._stores.keys(prefix):
            if key in self._judged:
                continue
            lines = self._stores.body(key).splitlines()
            if not lines or self._is_ours(json.loads(lines[0])["source_object"]):
                yield Difference(store, f"{len(lines)} lines that no raw object explains", key)

    def _left_items(self, day: date) -> Iterator[Difference]:
        for item in self._stores.items_of(day):
            identity, source = read_item(item)[0], item.get("source_object", {}).get("S", "")
            if fingerprint(source, *identity) in self.tally.explained:
                continue
            if not source and fingerprint(*identity) in self.tally.identities:
                continue  # named already: it is not enriched
            if (day in self._days) if not source else self._is_ours(source):
                yield Difference(
                    "dynamodb",
                    "an item that no raw object explains",
                    source.removeprefix(f"s3://{self._bucket}/"),
                    item["metric_type"]["S"],
                    item.get("resource_id", {}).get("S", ""),
                    identity[1],
                )

    def _is_ours(self, uri: str) -> bool:
        """Whether this raw object is, or would be if it were there, of the days verified."""
        key = uri.removeprefix(f"s3://{self._bucket}/")
        if key in self._raw_keys:
            return True
        day = day_of(key)
        return self._read(key) is None if day is None else day in self._days


def _empty(key: str, bucket: str) -> Content:
    """An object that was deleted after it was listed."""
    return Content(key, f"s3://{bucket}/{key}", {}, Counter(), 0)


def _as_json(
    stage: Stage, days: Days, tally: Tally, differences: Sequence[Difference]
) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "from": str(days.first),
        "to": str(days.last),
        "exact": not differences,
        "counts": counts(tally),
        "differences": [asdict(each) for each in differences],
    }


def counts(tally: Tally) -> dict[str, dict[str, int]]:
    """What there is of everything, by store."""
    return {
        "raw": {
            "objects": tally.raw_objects,
            "records": tally.raw_records - tally.raw_repeated,
            "distinct": len(tally.identities),
            "rejected": tally.raw_rejected,
        },
        "dynamodb": {"distinct": len(tally.items)},
        "processed": {
            "objects": tally.processed_objects,
            "records": tally.processed_records,
            "lines": tally.processed_lines,
        },
        "quarantine": {
            "objects": tally.quarantine_objects,
            "rejected": tally.quarantine_lines,
        },
    }


def _print(
    console: Console, stage: Stage, days: Days, tally: Tally, differences: Sequence[Difference]
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"{days}, stage {stage.name}")
    columns = ("objects", "records", "distinct", "lines", "rejected")
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for store, found in counts(tally).items():
        table.add_row(store, *(f"{found[name]:,}" if name in found else "" for name in columns))
    console.print(table)
    if tally.raw_repeated:
        console.print(f"{tally.raw_repeated:,} records come twice in one object; the last counts")
    if tally.expired:
        console.print(f"{tally.expired:,} records are so old that DynamoDB has forgotten them")
    for each in differences:
        console.print(f"[red]{each.store}[/] {describe(each)}", soft_wrap=True)
    if differences:
        console.print(f"[bold red]{len(differences):,} differences[/]")
    else:
        console.print("[bold green]exact: everything is there once, and nothing else[/]")


def describe(difference: Difference) -> str:
    """A difference in one line of plain text."""
    words = (difference.metric_type, difference.resource, difference.timestamp)
    named = " ".join(word for word in words if word)
    return escape(": ".join(word for word in (difference.object, named, difference.what) if word))
