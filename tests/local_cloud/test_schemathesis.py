"""schemathesis against the API: every response conforms to docs/openapi.yaml."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, RunningCloud
from tests.support.chalice_local import chalice_local

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_schemathesis_finds_no_failure(cloud: RunningCloud, tmp_path: Path) -> None:
    with chalice_local(cloud.endpoint, tmp_path) as address:
        command = [
            sys.executable,
            str(SCHEMATHESIS),
            "--config-file",
            "tests/schemathesis.toml",
            "run",
        ]
        options = ["docs/openapi.yaml", "--url", address, "--max-examples", "20", "--seed", "6"]
        done = subprocess.run(
            [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-1_000:]
    # Operations were really tested.
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested, done.stdout
    assert int(tested[1]) >= 10
