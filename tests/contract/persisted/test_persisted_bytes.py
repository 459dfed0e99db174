"""Every record, item, line and mail of one fixed input, byte for byte.

tests/support/persisted_driver.py runs the input and describes the files. Stored data outlives each
release: records keep their identities, and queries, alarms and older releases read them. If a
change is intended, write the expected files again and review the difference in git:

    python -m tests.support.persisted_driver --update
"""

import os
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXPECTED = ROOT / "tests" / "data" / "persisted" / "expected"

# What is compared together; each name is a file or a folder of files.
STORES = {
    "raw objects": "raw-metrics",
    "items as collected": "items_collected.json",
    "items as processed": "items.json",
    "processed lines": "processed",
    "quarantined lines": "quarantine",
    "plans of chunks": "plans",
    "content types": "objects.json",
    "metrics": "emf.txt",
    "log lines": "logs.jsonl",
    "answers of functions": "answers.json",
    "answers of the API": "api.json",
    "messages to machines": "messages.json",
    "mails": "mails.txt",
}


def read_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that a new process writes; this one has caches and clients of other tests."""
    folder = tmp_path_factory.mktemp("persisted")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.persisted_driver", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return read_files(folder)


def differences(written: dict[str, bytes], expected: dict[str, bytes]) -> str:
    lines: list[str] = []
    for name in sorted(written.keys() | expected.keys()):
        before, after = expected.get(name, b""), written.get(name, b"")
        if before != after or (name in written) != (name in expected):
            old, new = (
                each.decode("utf-8", "backslashreplace").splitlines() for each in (before, after)
            )
            lines += unified_diff(old, new, f"expected/{name}", f"written/{name}", n=0, lineterm="")
    return "\n".join(lines)


@pytest.mark.parametrize("store", STORES.values(), ids=STORES.keys())
def test_the_output_equals_the_expected_bytes(store: str, written: dict[str, bytes]) -> None:
    def of_store(files: dict[str, bytes]) -> dict[str, bytes]:
        return {
            name: body
            for name, body in files.items()
            if name == store or name.startswith(f"{store}/")
        }

    expected = of_store(read_files(EXPECTED))
    assert expected
    assert of_store(written) == expected, differences(of_store(written), expected)


def test_every_output_file_belongs_to_a_store(written: dict[str, bytes]) -> None:
    assert {name.partition("/")[0] for name in written} == set(STORES.values())
