"""`python -m infra verify`: compare a stage's stores with its raw objects."""

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

from chalicelib.model import dynamodb
from chalicelib.model.object_keys import PROCESSED_PREFIX, QUARANTINE_PREFIX
from chalicelib.model.windows import parse_utc
from chalicelib.process.output_keys import OutputKeys

from ..command_line import exit_statuses
from .arguments import add_days, add_stores
from .aws_errors import aws_errors, describe_error
from .deployment import Days, Stage, day_of, days_of, stage_of
from .raw_objects import RawObject, list_raw
from .reconciliation import (
    Difference,
    ExpectedRecord,
    RawContent,
    RecordKey,
    StoredItem,
    Summary,
    compare_items,
    compare_lines,
    compare_quarantine,
    fingerprint,
    read_item,
    read_quarantined,
)
from .stored_records import Stores

_THREADS = 8


@dataclass(frozen=True, slots=True)
class ObjectResult:
    """The comparison of one raw object: the data read for it, and the differences.

    `keys` are the processed and quarantined objects; `line_records` counts records with a line.
    """

    content: RawContent
    items: Mapping[RecordKey, StoredItem]
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
    """Print the counts and every difference; 0 if there are no differences, else 1."""
    stage, days = stage_of(options), days_of(options)
    reconciliation = Reconciliation(stage, days)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        found = reconciliation.differences(progress)
        differences = sorted(found, key=lambda each: (each.store, each.object))
    if options.json:
        json.dump(_as_json(stage, days, reconciliation.summary, differences), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        _print(Console(highlight=False), stage, days, reconciliation.summary, differences)
    return 1 if differences else 0


class Reconciliation:
    """Compares the days of a stage, object by object; `summary` has the counts so far."""

    def __init__(self, stage: Stage, days: Days) -> None:
        self._stage = stage
        self._days = days
        self._stores = Stores(stage)
        self._bucket = stage.bucket
        self._compared: set[str] = set()
        self._days_to_check = set(days)
        self._read = lru_cache(maxsize=64)(self._stores.content)
        self.summary = Summary()

    def differences(self, progress: Progress) -> Iterator[Difference]:
        """All differences, in no particular order; also updates `summary`."""
        raw = sorted(list_raw(self._stage, self._days), key=lambda each: (each.day, each.key))
        self._raw_keys = {each.key for each in raw}
        task = progress.add_task("raw objects", total=len(raw))
        pool = ThreadPoolExecutor(max_workers=_THREADS)
        try:
            for result in pool.map(self._compare, raw):
                self._count(result)
                yield from result.differences
                progress.advance(task)
        finally:
            pool.shutdown(cancel_futures=True)
        task = progress.add_task("other objects and items", total=len(self._days_to_check))
        for day in sorted(self._days_to_check):
            yield from self._unexpected(day)
            progress.advance(task)

    # --- Raw objects and the data written for them ----------------------------------------

    def _compare(self, raw: RawObject) -> ObjectResult:
        empty = _empty(raw.key, self._bucket)
        try:
            content = self._read(raw.key) or empty
        except ClientError as error:  # for example, an archived object
            unread = empty.difference("raw", f"cannot be read: {describe_error(error)}")
            return ObjectResult(empty, {}, 0, 0, (), 0, 0, (unread,))
        items = dict(self._stores.items(content.expected))
        outputs = OutputKeys(raw.key, raw.stored_at)
        days = sorted({timestamp[:10] for _, timestamp in content.expected})
        keys = [
            key
            for day in days
            for key in self._stores.keys(f"{PROCESSED_PREFIX}dt={day}/{outputs.stem}-")
        ]
        lines = [line for key in keys for line in self._stores.lines(key)]
        quarantine_keys = list(
            self._stores.keys(f"{QUARANTINE_PREFIX}{outputs.date}{outputs.stem}-")
        )
        quarantined = [
            read_quarantined(text)
            for key in quarantine_keys
            for text in self._stores.body(key).splitlines()
        ]
        differences = (
            *compare_items(
                content,
                items,
                expected_in=self._expected_in,
                expired=self._expired,
            ),
            *compare_lines(content, lines, items),
            *compare_quarantine(content, quarantined),
        )
        return ObjectResult(
            content=content,
            items=items,
            lines=len(lines),
            line_records=len({line.record for line in lines}),
            keys=(*keys, *quarantine_keys),
            quarantined=len(quarantined),
            expired=sum(self._expired(each[1]) for each in content.expected.keys() - items.keys()),
            differences=differences,
        )

    def _count(self, result: ObjectResult) -> None:
        summary, content = self.summary, result.content
        summary.raw_objects += 1
        summary.raw_records += content.records
        summary.raw_repeated += content.records - len(content.expected)
        summary.raw_rejected += content.rejected.total()
        summary.processed_objects += sum(key.startswith(PROCESSED_PREFIX) for key in result.keys)
        summary.processed_records += result.line_records
        summary.processed_lines += result.lines
        summary.quarantine_objects += sum(key.startswith(QUARANTINE_PREFIX) for key in result.keys)
        summary.quarantine_lines += result.quarantined
        summary.expired += result.expired
        for key in content.expected:
            summary.distinct.add(fingerprint(*key))
            summary.sources.add(fingerprint(content.uri, *key))
            self._days_to_check.add(date.fromisoformat(key[1][:10]))
        summary.items |= {fingerprint(*key) for key, item in result.items.items() if item.source}
        self._compared.update(result.keys)

    def _expired(self, timestamp: str) -> bool:
        return parse_utc(timestamp) + self._stage.retention < datetime.now(UTC)

    def _expected_in(self, uri: str) -> Mapping[RecordKey, ExpectedRecord]:
        content = self._read(uri.removeprefix(f"s3://{self._bucket}/"))
        return content.expected if content else {}

    # --- Data without a raw object --------------------------------------------------------

    def _unexpected(self, day: date) -> Iterator[Difference]:
        yield from self._unexpected_objects("processed", f"{PROCESSED_PREFIX}dt={day}/")
        if day in self._days:
            prefix = f"{QUARANTINE_PREFIX}{day:%Y/%m/%d}/"
            yield from self._unexpected_objects("quarantine", prefix)
        yield from self._unexpected_items(day)

    def _unexpected_objects(self, store: str, prefix: str) -> Iterator[Difference]:
        for key in self._stores.keys(prefix):
            if key in self._compared:
                continue
            lines = self._stores.body(key).splitlines()
            if not lines or self._is_in_days(json.loads(lines[0])["source_object"]):
                yield Difference(store, f"{len(lines)} lines without a raw object", key)

    def _unexpected_items(self, day: date) -> Iterator[Difference]:
        for item in self._stores.items_of(day):
            record_key, stored = read_item(item)
            source = stored.source
            if fingerprint(source, *record_key) in self.summary.sources:
                continue
            if not source and fingerprint(*record_key) in self.summary.distinct:
                continue  # already reported as not enriched
            if (day in self._days) if not source else self._is_in_days(source):
                yield Difference(
                    "dynamodb",
                    "item without a raw object",
                    source.removeprefix(f"s3://{self._bucket}/"),
                    dynamodb.text(item, "metric_type"),
                    dynamodb.text(item, "resource_id"),
                    record_key[1],
                )

    def _is_in_days(self, uri: str) -> bool:
        """Whether this raw object, existing or not, belongs to the days being verified."""
        key = uri.removeprefix(f"s3://{self._bucket}/")
        if key in self._raw_keys:
            return True
        day = day_of(key)
        return self._read(key) is None if day is None else day in self._days


def _empty(key: str, bucket: str) -> RawContent:
    """The content of an object that was deleted after the listing."""
    return RawContent(key, f"s3://{bucket}/{key}", {}, Counter(), 0)


def _as_json(
    stage: Stage, days: Days, summary: Summary, differences: Sequence[Difference]
) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "from": str(days.first),
        "to": str(days.last),
        "exact": not differences,
        "counts": counts(summary),
        "differences": [asdict(each) for each in differences],
    }


def counts(summary: Summary) -> dict[str, dict[str, int]]:
    """The counts by store, as in `verify --json`."""
    return {
        "raw": {
            "objects": summary.raw_objects,
            "records": summary.raw_records - summary.raw_repeated,
            "distinct": len(summary.distinct),
            "rejected": summary.raw_rejected,
        },
        "dynamodb": {"distinct": len(summary.items)},
        "processed": {
            "objects": summary.processed_objects,
            "records": summary.processed_records,
            "lines": summary.processed_lines,
        },
        "quarantine": {
            "objects": summary.quarantine_objects,
            "rejected": summary.quarantine_lines,
        },
    }


def _print(
    console: Console, stage: Stage, days: Days, summary: Summary, differences: Sequence[Difference]
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"{days}, stage {stage.name}")
    columns = ("objects", "records", "distinct", "lines", "rejected")
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for store, found in counts(summary).items():
        table.add_row(store, *(f"{found[name]:,}" if name in found else "" for name in columns))
    console.print(table)
    if summary.raw_repeated:
        console.print(
            f"{summary.raw_repeated:,} duplicate records within one object; the last is stored"
        )
    if summary.expired:
        console.print(
            f"{summary.expired:,} records older than the retention time are no longer in DynamoDB"
        )
    for each in differences:
        console.print(f"[red]{each.store}[/] {describe(each)}", soft_wrap=True)
    if differences:
        console.print(f"[bold red]{len(differences):,} differences[/]")
    else:
        console.print(
            "[bold green]exact: every record is stored once, and nothing else is stored[/]"
        )


def describe(difference: Difference) -> str:
    """A difference in one line, escaped for rich."""
    fields = (difference.metric_type, difference.resource, difference.timestamp)
    record = " ".join(field for field in fields if field)
    parts = (difference.object, record, difference.what)
    return escape(": ".join(part for part in parts if part))
