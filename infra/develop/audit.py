"""`python -m infra audit`: scan the templates, the code and the lock files."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..command_line import CommandError
from ..local.package import ROOT
from .templates import STANDALONE, build_app_template

# Made by `make audit` from requirements-audit.txt.
_BIN = ROOT / ".local" / "audit" / "bin"

LOCKS = ("requirements.txt", "requirements-dev.txt", "infra/local/requirements-lambda.txt")

# pip-audit also reports no findings if its service has no data at all. This release has had
# advisories since 2019.
CANARY = "jinja2==2.4.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Scan for known weaknesses: the templates with checkov, the code with bandit, the lock"
        " files with pip-audit. Needs `.local/audit`, which `make audit` creates."
    )
    parser.epilog = "exit status: 0 if every scanner ran and found nothing, else 1."
    parser.add_argument("--stage", default="prod", help="default: %(default)s")
    parser.add_argument(
        "--if-reachable",
        action="store_true",
        help="exit with 0 even if pip-audit's service cannot be reached; the output reports it",
    )


def run(options: argparse.Namespace) -> int:
    """Run the scanners and print their output; 0 if every one ran and found nothing."""
    with tempfile.TemporaryDirectory() as folder:
        _, transformed = build_app_template(options.stage, Path(folder))
        return audit([*STANDALONE, transformed], if_reachable=options.if_reachable)


def audit(templates: Sequence[Path], *, if_reachable: bool) -> int:
    """Run all three scanners; 0 if every one ran and found nothing."""
    if not _BIN.is_dir():
        raise CommandError(f"the scanners of {_BIN} are missing: run `make audit`")
    found = [_checkov(templates), _bandit()]
    if _reports_canary():
        found += [_pip_audit(lock) for lock in LOCKS]
    else:
        _heading(f"pip-audit: NOT RUN: its service has no data on {CANARY}; lock files not audited")
        found.append(not if_reachable)
    return int(any(found))


def _checkov(templates: Sequence[Path]) -> bool:
    _heading(f"checkov: {', '.join(each.name for each in templates)}")
    command = ["checkov", "--config-file", str(ROOT / "infra" / "checkov.yaml")]
    return _scan([*command, *(part for each in templates for part in ("--file", str(each)))])


def _bandit() -> bool:
    # Tests and benchmarks are not deployed.
    _heading("bandit: app.py, chalicelib, infra")
    paths = ["app.py", "chalicelib", "infra"]
    return _scan(["bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", *paths])


def _pip_audit(lock: str) -> bool:
    _heading(f"pip-audit: {lock}")
    return _scan(["pip-audit", "--strict", "--disable-pip", "--require-hashes", "-r", lock])


def _reports_canary() -> bool:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
        lock.write(CANARY)
        lock.flush()
        command = ["pip-audit", "--disable-pip", "--no-deps", "--format", "json", "-r", lock.name]
        done = _run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return False
    return any(each.get("vulns") for each in dependencies)


def _scan(command: Sequence[str]) -> bool:
    """Run a scanner; True if it found something or could not run."""
    return _run(command).returncode != 0


def _run(command: Sequence[str], **streams: Any) -> "subprocess.CompletedProcess[Any]":
    program = str(_BIN / command[0])
    return subprocess.run(  # nosec B603 # noqa: S603 - from the audit lock file
        [program, *command[1:]], cwd=ROOT, check=False, **streams
    )


def _heading(line: str) -> None:
    sys.stdout.write(f"== {line}\n")
    sys.stdout.flush()
