"""What the commands do."""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.status import Status

from .audit import audit as run_audit
from .local.cloud import REGION, LocalCloud
from .local.errors import LocalCloudError
from .local.joints import Mail
from .local.package import OBSERVABILITY, QUERIES, STORAGE, package, transform
from .observe import observe, redeliver, wait_until_settled
from .options import DEFAULT_PORT
from .report import print_report

CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"

__all__ = ["LocalCloudError", "audit", "lint", "run", "up"]


def run(options: argparse.Namespace) -> int:
    """Start, deploy, fire the clock once, report; 0 if the run is well."""
    console = Console(highlight=False, record=bool(options.svg))
    progress = Console(stderr=True, highlight=False)
    started = time.monotonic()
    with (
        progress.status("starting") as status,
        LocalCloud(
            port=options.port,
            email=options.email,
            settings=dict(options.settings),
            progress=lambda step: _step(progress, status, step, started),
        ) as cloud,
    ):
        _step(progress, status, "firing the clock once", started)
        cloud.joints.fire_all()
        _step(progress, status, "waiting until every object is processed", started)
        wait_until_settled(cloud)
        _step(progress, status, "delivering the same events once more, to warm functions", started)
        redeliver(cloud)
        _step(progress, status, "asking Athena", started)
        cloud.alarms.evaluate()
        observation = observe(cloud)
        status.stop()
        print_report(console, observation)
    if options.svg:
        Path(options.svg).write_text(_picture(console))
    return 0 if observation.well else 1


def _picture(console: Console) -> str:
    """What was printed, as SVG, without the web font that rich would have it fetch."""
    svg = console.export_svg(title="make run")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def up(options: argparse.Namespace) -> int:
    """Start, deploy and stay; never returns by itself."""
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    with Console(stderr=True, highlight=False).status("starting") as status:
        cloud = LocalCloud(
            port=options.port,
            email=options.email,
            settings=dict(options.settings),
            progress=lambda step: _step(console, status, step, started),
            on_mail=lambda mail: _print_mail(console, mail),
        )
        with cloud:
            if not options.no_tick:
                _step(console, status, "firing the clock once", started)
                cloud.joints.fire_all()
                wait_until_settled(cloud)
            status.stop()
            console.print(
                f"ready: {cloud.endpoint} (region eu-west-1, any credentials; Ctrl-C stops it)"
            )
            if options.port == DEFAULT_PORT:
                console.print(
                    "the page, from another terminal: .venv/bin/chalice local --stage local"
                )
            # In short naps: a signal that another thread got wakes nobody.
            while True:
                time.sleep(1)


def lint(options: argparse.Namespace) -> int:
    """cfn-lint on every template, with its own words and exit status."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        templates = [STORAGE, QUERIES, OBSERVABILITY, *_built(options.stage, out)]
        return subprocess.run(  # nosec B603 # noqa: S603 - our own interpreter
            [sys.executable, "-c", CFN_LINT, *map(str, templates)], check=False
        ).returncode


def audit(options: argparse.Namespace) -> int:
    """checkov, bandit and pip-audit; 0 if all of them ran and found nothing."""
    with tempfile.TemporaryDirectory() as folder:
        _, transformed = _built(options.stage, Path(folder))
        return run_audit(
            [STORAGE, QUERIES, OBSERVABILITY, transformed], if_reachable=options.if_reachable
        )


def _built(stage: str, out: Path) -> tuple[Path, Path]:
    """The template with the overlay merged in, and what the SAM transform makes of it."""
    template = package(stage, out, region=REGION).template
    code = {"Bucket": "artifacts", "Key": "deployment.zip"}
    transformed = transform(template, code=code, parameters={"Suffix": ""}, region=REGION)
    (out / "transformed.json").write_text(json.dumps(transformed))
    return out / "sam.yaml", out / "transformed.json"


def _step(console: Console, status: Status, step: str, started: float) -> None:
    status.update(step)
    console.print(f"[dim]{time.monotonic() - started:5.1f} s[/]  {step}")


def _print_mail(console: Console, mail: Mail) -> None:
    now = datetime.now(UTC)
    console.print(f"[dim]{now:%H:%M:%S}[/]  mail to {mail.to}: {mail.subject}", markup=True)
