"""`python -m infra quarantine` on a running local cloud: list, fetch, send."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import records
from infra.__main__ import main
from infra.operate.quarantine import FixedEntry, QuarantinedEntry, format_export, parse_export
from tests.conftest import BUCKET, RunningCloud, start_cloud, stop_cloud
from tests.local_cloud.test_reconciliation import Capture, CloudDay, Eventually, jsonl

_numbers = itertools.count(2)


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    running = start_cloud("--no-tick")
    yield running
    stop_cloud(running)


@pytest.fixture
def cloud_day(cloud: RunningCloud, capfd: Capture, eventually: Eventually) -> CloudDay:
    day = datetime.now(UTC).date() - timedelta(days=2 * next(_numbers))
    return CloudDay(cloud, day, capfd, eventually)


def quarantine(cloud_day: CloudDay, action: str, *more: str) -> tuple[int, str]:
    days = ("--from", str(cloud_day.day), "--to", str(cloud_day.day)) if action != "send" else ()
    cloud_day.capture.readouterr()
    endpoint = ("--endpoint", cloud_day.cloud.endpoint)
    status = main(["quarantine", action, *days, *more, *endpoint])
    return status, "".join(cloud_day.capture.readouterr())


@pytest.fixture
def rejected(cloud_day: CloudDay) -> CloudDay:
    """A day with a valid record, one with a misspelled field, and bytes that are not UTF-8."""
    misspelled = records.encode(cloud_day.record(resource_id="b")).replace(
        b"timestamp", b"timestmap"
    )
    cloud_day.drop(jsonl(cloud_day.record(resource_id="a")) + misspelled + b"\n\xff\xfe\n")
    return cloud_day


def test_the_list_has_reasons_counts_and_examples(rejected: CloudDay) -> None:
    status, output = quarantine(rejected, "list")
    text = " ".join(output.split())
    assert status == 0
    assert "timestamp" in text
    assert "\\xff\\xfe" in text
    assert "2 entries in quarantine are not fixed" in text


def test_fixed_entries_are_stored_and_the_others_stay_in_quarantine(
    rejected: CloudDay, tmp_path: Path
) -> None:
    path = tmp_path / "entries.txt"
    assert quarantine(rejected, "fetch", str(path))[0] == 0
    header, misspelled, *_ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + misspelled.replace(b"timestmap", b"timestamp"))
    before = rejected.body(rejected.quarantined)

    for _ in range(2):  # sending it a second time changes nothing
        status, output = quarantine(rejected, "send", str(path))
        assert (status, "1 entries of quarantine/" in output) == (0, True)
        result = rejected.eventually(lambda: (found := rejected.verify())["exact"] and found)
        counts = result["counts"]
        assert counts["raw"] == {"objects": 2, "records": 2, "distinct": 2, "rejected": 2}
        assert counts["dynamodb"]["distinct"] == counts["processed"]["records"] == 2
        assert counts["quarantine"]["rejected"] == 2

    (kept, fixed) = sorted(rejected.keys(f"quarantine/{rejected.day:%Y/%m/%d}/"), key=len)
    assert rejected.body(kept) == before
    raw = json.loads(rejected.body(fixed))["raw_object"]
    assert raw.startswith(f"s3://{BUCKET}/raw-metrics/{rejected.day:%Y/%m/%d}/fixed-drop-")
    assert "1 entries in quarantine are not fixed" in quarantine(rejected, "list")[1]


def test_nothing_is_sent_while_an_entry_is_invalid(rejected: CloudDay, tmp_path: Path) -> None:
    path = tmp_path / "entries.txt"
    quarantine(rejected, "fetch", str(path))
    path.write_bytes(path.read_bytes().replace(b"timestmap", b"timestamp"))
    before = rejected.keys("raw-metrics/")
    status, output = quarantine(rejected, "send", str(path))
    assert status == 1
    assert "error: nothing was sent: line 4 is still invalid: JSON is malformed" in output
    assert rejected.keys("raw-metrics/") == before


def test_an_existing_file_is_not_overwritten(rejected: CloudDay, tmp_path: Path) -> None:
    path = tmp_path / "entries.txt"
    path.write_text("fixed by hand")
    status, output = quarantine(rejected, "fetch", str(path))
    assert (status, path.read_text()) == (1, "fixed by hand")
    assert "File exists" in output


@given(st.lists(st.binary(min_size=1).filter(lambda each: each.strip() and b"# q" not in each)))
def test_the_original_bytes_survive_an_export(originals: list[bytes]) -> None:
    key = "quarantine/2026/11/22/any-00000.jsonl"
    entries = [
        QuarantinedEntry(key, n, "any\nreason", "s3://any", each)
        for n, each in enumerate(originals)
    ]
    parsed: list[FixedEntry] = list(parse_export(format_export(entries)))
    assert [(each.identity, each.body.rstrip(b"\n")) for each in parsed] == [
        (each.identity, each.original.rstrip(b"\n")) for each in entries
    ]


def test_equal_bytes_on_two_lines_have_different_ids() -> None:
    key = "quarantine/2026/11/22/any-00000.jsonl"
    first, second = (QuarantinedEntry(key, line, "any", "s3://any", b"x") for line in (1, 2))
    assert first.identity != second.identity
