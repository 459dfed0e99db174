"""Coverage-guided fuzzing of what reads objects: no input may make it raise, or come out otherwise
when it is read on from the middle.

    .venv/bin/python benchmarks/fuzz_parsing.py --seconds 300

starts from the files of tests/data/inputs/ and prints how many inputs were tried. An input that
breaks something is written to crash-…; give it as an argument to try it again.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # started as a file, its own folder is there instead

with atheris.instrument_imports(include=["chalicelib", "json", "codecs"]):
    from chalicelib.model import enrichment, items, records
    from chalicelib.process import parsing, processed_lines
    from tests.conftest import ACCOUNT, REGION, SETTINGS

SEEDS = ROOT / "tests" / "data" / "inputs"
NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def check(data: bytes) -> None:
    """Read an object whole, and again from its middle; make of each record all that is made."""
    reader = parsing.EntryReader([data])
    pieces, positions = [], []
    for piece in reader:
        pieces.append(piece)
        positions.append(reader.position)
    for piece in pieces:
        if isinstance(piece, parsing.RejectedEntry):
            assert piece.reason
            assert piece.line >= 1
        else:
            make(piece)
    if positions and positions[0].form:
        middle = len(positions) // 2
        start = positions[middle]
        rest = data if start.compressed else data[start.offset :]
        assert (
            list(parsing.EntryReader([rest], start=start))[: len(pieces)] == pieces[middle + 1 :]
        ), "read on from the middle, it is another object"


def make(record: records.Record) -> None:
    enriched = enrichment.enrich(
        record.identified(account_id=ACCOUNT, region=REGION),
        None,
        settings=SETTINGS,
        source_object="s3://bucket/key",
        stored_at=NOW,
        now=NOW,
    )
    assert list(processed_lines.lines(enriched))
    assert items.enriched_item(enriched, retention_days=90)
    assert items.largest_item(record)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--runs", type=int, default=-1, help="stop after so many inputs")
    parser.add_argument("--seconds", type=int, default=0, help="stop after so long (0: never)")
    parser.add_argument("inputs", nargs="*", help="try these files only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as corpus:
        command = [sys.executable, __file__, "--fuzz", f"-runs={arguments.runs}"]
        command += [f"-max_total_time={arguments.seconds}", "-print_final_stats=1"]
        command += ["-max_len=20000", "-timeout=20", "-rss_limit_mb=2048"]
        command += arguments.inputs or [corpus, str(SEEDS)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    tried = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)
    if done.returncode or tried is None:
        print(done.stderr, file=sys.stderr)
        return done.returncode or 1
    print(f"inputs tried: {int(tried[1]):,}")
    if covered:
        print(f"covered: {covered[-1][0]} edges, {covered[-1][1]} features")
    print("none of them raised or was read otherwise from its middle")
    return 0


if __name__ == "__main__":
    if "--fuzz" in sys.argv:
        sys.argv.remove("--fuzz")
        atheris.Setup(sys.argv, check)
        atheris.Fuzz()
    else:
        sys.exit(main())
