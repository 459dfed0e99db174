"""Quarantined lines on a running local cloud: listed, fetched, mended, sent, and still exact."""

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
from infra.operate.quarantine import (
    Mended,
    Piece,
    decode,
    encode,
)
from tests.conftest import (
    BUCKET,
    RunningCloud,
    start_cloud,
    stop_cloud,
)
from tests.local_cloud.test_reconciliation import (
    Capture,
    Eventually,
    CloudDay,
    jsonl,
)

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
def spoilt(cloud_day: CloudDay) -> CloudDay:
    """A record, one with a field misspelt, and bytes that are no text."""
    misspelt = records.encode(cloud_day.record(resource_id="b")).replace(b"timestamp", b"timestmap")
    cloud_day.drop(jsonl(cloud_day.record(resource_id="a")) + misspelt + b"\n\xff\xfe\n")
    return cloud_day


def test_reasons_are_listed_with_counts_and_an_example(spoilt: CloudDay) -> None:
    status, told = quarantine(spoilt, "list")
    words = " ".join(told.split())
    assert status == 0
    assert "there is no" in words
    assert "\\xff\\xfe" in words
    assert "2 pieces in quarantine that have not been mended" in words


def test_what_is_mended_is_a_record_what_is_not_stays_and_the_ledger_is_exact(
    spoilt: CloudDay, tmp_path: Path
) -> None:
    path = tmp_path / "pieces"
    assert quarantine(spoilt, "fetch", str(path))[0] == 0
    header, misspelt, *_ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + misspelt.replace(b"timestmap", b"timestamp"))
    before = spoilt.body(spoilt.quarantined)

    for _ in range(2):  # sending it twice changes nothing
        status, told = quarantine(spoilt, "send", str(path))
        assert (status, "1 pieces of quarantine/" in told) == (0, True)
        exact = spoilt.eventually(lambda: (told := spoilt.verify())["exact"] and told)
        counts = exact["counts"]
        assert counts["raw"] == {"objects": 2, "records": 2, "distinct": 2, "rejected": 2}
        assert counts["dynamodb"]["distinct"] == counts["processed"]["records"] == 2
        assert counts["quarantine"]["rejected"] == 2

    (kept, mark) = sorted(spoilt.keys(f"quarantine/{spoilt.day:%Y/%m/%d}/"), key=len)
    assert spoilt.body(kept) == before
    raw = json.loads(spoilt.body(mark))["raw_object"]
    assert raw.startswith(f"s3://{BUCKET}/raw-metrics/{spoilt.day:%Y/%m/%d}/fixed-drop-")
    assert "1 pieces in quarantine that have not been mended" in quarantine(spoilt, "list")[1]


def test_nothing_is_sent_while_a_piece_is_still_no_record(spoilt: CloudDay, tmp_path: Path) -> None:
    path = tmp_path / "pieces"
    quarantine(spoilt, "fetch", str(path))
    path.write_bytes(path.read_bytes().replace(b"timestmap", b"timestamp"))
    before = spoilt.keys("raw-metrics/")
    status, told = quarantine(spoilt, "send", str(path))
    assert status == 1
    assert "error: nothing was sent: line 4 is still no record: JSON is malformed" in told
    assert spoilt.keys("raw-metrics/") == before


def test_a_file_that_is_there_is_not_overwritten(spoilt: CloudDay, tmp_path: Path) -> None:
    path = tmp_path / "pieces"
    path.write_text("mended by hand")
    status, told = quarantine(spoilt, "fetch", str(path))
    assert (status, path.read_text()) == (1, "mended by hand")
    assert "File exists" in told


@given(st.lists(st.binary(min_size=1).filter(lambda each: each.strip() and b"# q" not in each)))
def test_what_is_fetched_is_read_as_it_was(originals: list[bytes]) -> None:
    key = "quarantine/2026/11/22/any-00000.jsonl"
    found = [Piece(key, n, "any\nreason", "s3://any", each) for n, each in enumerate(originals)]
    back: list[Mended] = list(decode(encode(found)))
    assert [(each.identity, each.body.rstrip(b"\n")) for each in back] == [
        (each.identity, each.original.rstrip(b"\n")) for each in found
    ]


def test_the_same_bytes_on_two_lines_are_two_pieces() -> None:
    key = "quarantine/2026/11/22/any-00000.jsonl"
    first, second = (Piece(key, line, "any", "s3://any", b"x") for line in (1, 2))
    assert first.identity != second.identity
