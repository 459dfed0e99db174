"""The worked changes of docs/changes.md: each patch applies, changes the listed files, and works.

A patch is applied to a copy of this tree. The checks of the change then run in the copy: its own
tests, and the tests of the contracts that it extends.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ENVIRONMENT, ROOT

DOCUMENT = ROOT / "docs" / "changes.md"
PATCHES = ROOT / "docs" / "changes"

# Without plugins pytest starts in a third of the time; the configuration requires this one.
SUBPROCESS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PYTEST_OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "pytest_timeout")

# The tests that run with a change: pytest's arguments.
TESTS = {
    "source": (
        "tests/unit/collect/test_procfs.py",
        "tests/unit/model/test_records.py",
    ),
    "alarm": (
        "tests/contract/templates/test_observability.py::test_the_set_all_has_every_alarm_and_the_page_alarm",
        "tests/contract/templates/test_observability.py::test_the_dashboard_shows_every_deployed_alarm[All]",
        "tests/local_cloud/test_runbooks.py::test_there_is_one_runbook_for_each_alarm",
        "tests/local_cloud/test_runbooks.py::test_a_runbook_has_a_title_and_three_sections",
        "tests/local_cloud/test_runbooks.py::test_the_index_links_every_runbook",
    ),
    "route": (
        "tests/contract/api/test_sources.py",
        "tests/contract/api/test_openapi.py",
    ),
    "metric-type": ("tests/contract/templates/test_metric_types.py",),
    "retention": ("tests/contract/templates/test_retention.py",),
}

COLLECT_FROM_PROCFS = """
import os
from datetime import UTC, datetime
from chalicelib.collect.sources import create_sources
from chalicelib.collect.sources.protocol import Scope
from chalicelib.model.settings import Settings
from chalicelib.model.windows import Window
(source,) = create_sources(Settings.from_environ(os.environ | {"METRIC_SOURCES": "procfs"}))
window = Window(datetime(2026, 11, 22, 18, tzinfo=UTC), 10_800)
scope = Scope("memory", window, "123456789012", "eu-west-1", "run-1")
(record,) = source.collect(scope, source.targets(scope).targets).records
assert record.source == "procfs" and record.measurements["percent"].last > 0, record
"""

FIND_ALARM = """
from pathlib import Path
from chalicelib.model.alarm_catalog import ALARMS, find_alarm
assert find_alarm("HighTraffic", "").severity == "warning"
documented = Path("docs/alarms.md").read_text()
assert all(f"\\n## {name}\\n" in documented for name in ALARMS)
"""

COLLECT_SWAP = """
from datetime import UTC, datetime
from chalicelib.collect.sources.host import HostSource
from chalicelib.collect.sources.protocol import Scope, Target
from chalicelib.model.metric_types import CHECKED_TYPES, METRIC_TYPES
from chalicelib.model.windows import Window
assert "swap" in METRIC_TYPES and "swap" in CHECKED_TYPES
window = Window(datetime(2026, 11, 22, 18, tzinfo=UTC), 10_800)
scope = Scope("swap", window, "123456789012", "eu-west-1", "run-1")
(record,) = HostSource(cpu_interval=0.1).collect(scope, [Target("web-1")]).records
assert set(record.measurements) == {"used", "percent"}, record
"""

SCRIPTS = {
    "source": COLLECT_FROM_PROCFS,
    "alarm": FIND_ALARM,
    "metric-type": COLLECT_SWAP,
}


def sections() -> dict[str, str]:
    """The text of each worked change, by the name of its patch."""
    parts = DOCUMENT.read_text().split("\n## ")[1:]
    return {
        patch[1]: part
        for part in parts
        if (patch := re.search(r"\(changes/([\w-]+)\.patch\)", part))
    }


def listed_files(section: str) -> list[str]:
    """The files in the list of a section."""
    return re.findall(r"^- `([^`]+)`", section, re.MULTILINE)


def changed_files(patch: Path) -> list[str]:
    """The files that a patch changes or adds."""
    return re.findall(r"^\+\+\+ b/(.+)$", patch.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree without ignored files."""
    folder = tmp_path_factory.mktemp("copy")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/data/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=os.environ | ENVIRONMENT | SUBPROCESS | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def applied(patch: Path, folder: Path) -> Iterator[None]:
    run(folder, "git", "apply", str(patch))
    try:
        yield
    finally:
        run(folder, "git", "apply", "--reverse", str(patch))


def test_every_patch_has_a_section() -> None:
    assert set(sections()) == {path.stem for path in PATCHES.glob("*.patch")} == set(TESTS)


@pytest.mark.parametrize("name", TESTS)
def test_a_section_lists_exactly_the_files_of_its_patch(name: str) -> None:
    files = listed_files(sections()[name])
    assert sorted(files) == sorted(changed_files(PATCHES / f"{name}.patch"))
    assert len(files) == len(set(files))


@pytest.mark.parametrize("name", TESTS)
def test_a_section_has_three_to_six_steps(name: str) -> None:
    assert 3 <= len(re.findall(r"^\d\. ", sections()[name], re.MULTILINE)) <= 6


@pytest.mark.parametrize("name", TESTS)
def test_a_worked_change_applies_and_works(name: str, copy: Path) -> None:
    """If a patch does not apply, update it as docs/changes.md describes at its end."""
    with applied(PATCHES / f"{name}.patch", copy):
        run(
            copy,
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--no-cache",
            "app.py",
            "chalicelib",
            "tests",
        )
        if name in SCRIPTS:
            run(copy, sys.executable, "-c", SCRIPTS[name])
        run(copy, sys.executable, "-m", "pytest", *PYTEST_OPTIONS, *TESTS[name])
