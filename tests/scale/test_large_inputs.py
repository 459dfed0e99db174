"""Inputs of a gigabyte, and the fuzzer."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.contract.process.test_inputs import BLOCKS, parsing_memory

pytestmark = pytest.mark.timeout(7200)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_gigabyte_is_parsed_in_a_few_megabytes(name: str) -> None:
    assert parsing_memory(name, megabytes=1024) < 16 << 20


def test_a_short_fuzzer_run_finds_no_error() -> None:
    pytest.importorskip("atheris", reason="pip install atheris (Linux on x86-64 only)")
    done = subprocess.run(
        [sys.executable, "benchmarks/fuzz_parsing.py", "--runs", "20000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The count can include one input that was not tried yet.
    assert re.search(r"inputs tried: 20,00[01]\b", done.stdout)
