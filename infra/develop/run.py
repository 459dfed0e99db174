"""`python -m infra run`: start a local cloud, run the pipeline once, print the report."""

import argparse
import re
from pathlib import Path

from rich.console import Console

from ..local.cloud import LocalCloud
from ..report.observation import observe, redeliver, wait_until_settled
from ..report.report import print_report
from .local_cloud_arguments import Steps, add_local_cloud


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Start a local cloud, deploy the app into it, trigger one run, wait until every object is"
        " processed, and print a report."
    )
    parser.epilog = "exit status: 0 if the run succeeded and every record is stored, else 1."
    add_local_cloud(parser, port=0, port_help="port on 127.0.0.1 (default: any free port)")
    parser.add_argument("--svg", metavar="FILE", help="also write the report as an SVG picture")


def run(options: argparse.Namespace) -> int:
    """Run the pipeline once; 0 if all checks of the report passed."""
    console = Console(highlight=False, record=bool(options.svg))
    progress = Console(stderr=True, highlight=False)
    with progress.status("starting") as status:
        step = Steps(progress, status)
        with LocalCloud(
            port=options.port,
            email=options.email,
            settings=dict(options.settings),
            progress=step,
        ) as cloud:
            step("triggering one run")
            cloud.wiring.trigger_all()
            step("waiting until every object is processed")
            wait_until_settled(cloud)
            step("delivering the same events again, to warm functions")
            redeliver(cloud)
            step("querying Athena")
            cloud.alarms.evaluate()
            observation = observe(cloud)
            status.stop()
            print_report(console, observation)
    if options.svg:
        Path(options.svg).write_text(_svg(console))
    return 0 if observation.passed else 1


def _svg(console: Console) -> str:
    """The printed report as SVG, without the web font that rich refers to."""
    svg = console.export_svg(title="make run")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
