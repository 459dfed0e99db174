"""Coverage-guided fuzzing of object parsing.

    .venv/bin/python benchmarks/fuzz_parsing.py --seconds 300

No input may raise an error, or yield other entries when reading continues from the middle. Starts
from the files in tests/data/inputs/ and prints the number of inputs tried. An input that fails is
written to crash-…; pass it as an argument to try it again.
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
sys.path.insert(0, str(ROOT))  # run as a script: the path contains benchmarks/ instead

with atheris.instrument_imports(include=["chalicelib", "json", "codecs"]):
    from chalicelib.model import enrichment, items, records
    from chalicelib.process import parsing, processed_lines
    from tests.conftest import ACCOUNT, REGION, SETTINGS

SEEDS = ROOT / "tests" / "data" / "inputs"
NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def check(data: bytes) -> None:
    """Read an object, then again from its middle; process each record."""
    reader = parsing.EntryReader([data])
    entries, positions = [], []
    for entry in reader:
        entries.append(entry)
        positions.append(reader.position)
    for entry in entries:
        if isinstance(entry, parsing.RejectedEntry):
            assert entry.reason
            assert entry.line >= 1
        else:
            process(entry)
    if positions and positions[0].form:
        middle = len(positions) // 2
        start = positions[middle]
        rest = data if start.compressed else data[start.offset :]
        assert (
            list(parsing.EntryReader([rest], start=start))[: len(entries)] == entries[middle + 1 :]
        ), "other entries when read from the middle"


def process(record: records.Record) -> None:
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=-1, help="number of inputs (-1: no limit)")
    parser.add_argument("--seconds", type=int, default=0, help="maximum duration (0: no limit)")
    parser.add_argument("inputs", nargs="*", help="try these files only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as corpus:
        command = [sys.executable, __file__, "--fuzz", f"-runs={arguments.runs}"]
        command += [f"-max_total_time={arguments.seconds}", "-print_final_stats=1"]
        command += ["-max_len=20000", "-timeout=20", "-rss_limit_mb=2048"]
        command += arguments.inputs or [corpus, str(SEEDS)]
        completed = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    tried = re.search(r"stat::number_of_executed_units:\s+(\d+)", completed.stderr)
    covered = re.findall(r"cov: (\d+) ft: (\d+)", completed.stderr)
    if completed.returncode or tried is None:
        print(completed.stderr, file=sys.stderr)
        return completed.returncode or 1
    print(f"inputs tried: {int(tried[1]):,}")
    if covered:
        print(f"covered: {covered[-1][0]} edges, {covered[-1][1]} features")
    print("no input raised an error or was read differently from its middle")
    return 0


if __name__ == "__main__":
    if "--fuzz" in sys.argv:
        sys.argv.remove("--fuzz")
        atheris.Setup(sys.argv, check)
        atheris.Fuzz()
    else:
        sys.exit(main())
