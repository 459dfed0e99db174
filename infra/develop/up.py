"""`python -m infra up`: keep a local cloud running until Ctrl-C."""

import argparse
import sys
import time
from datetime import UTC, datetime

from rich.console import Console

from ..local.cloud import DEFAULT_PORT, LocalCloud
from ..local.wiring import Mail
from ..report.observation import wait_until_settled
from .local_cloud_arguments import Steps, add_local_cloud


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Start a local cloud, deploy the app, trigger one run, and keep running. Point any AWS"
        " client at the endpoint (region eu-west-1, any credentials)."
    )
    add_local_cloud(
        parser, port=DEFAULT_PORT, port_help=f"port on 127.0.0.1 (default: {DEFAULT_PORT}; 0: any)"
    )
    parser.add_argument("--no-tick", action="store_true", help="do not trigger a run at the start")


def run(options: argparse.Namespace) -> int:
    """Keep the local cloud running; returns after Ctrl-C."""
    try:
        _run_until_interrupted(options)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
    return 0


def _run_until_interrupted(options: argparse.Namespace) -> None:
    console = Console(highlight=False, soft_wrap=True)
    with Console(stderr=True, highlight=False).status("starting") as status:
        step = Steps(console, status)
        cloud = LocalCloud(
            port=options.port,
            email=options.email,
            settings=dict(options.settings),
            progress=step,
            on_mail=lambda mail: _print_mail(console, mail),
        )
        with cloud:
            if not options.no_tick:
                step("triggering one run")
                cloud.wiring.trigger_all()
                wait_until_settled(cloud)
            status.stop()
            console.print(
                f"ready: {cloud.endpoint} (region eu-west-1, any credentials; Ctrl-C stops it)"
            )
            if options.port == DEFAULT_PORT:
                console.print(
                    "the page, from another terminal: .venv/bin/chalice local --stage local"
                )
            # Short sleeps: a signal that another thread receives does not end a long one.
            while True:
                time.sleep(1)


def _print_mail(console: Console, mail: Mail) -> None:
    now = datetime.now(UTC)
    console.print(f"[dim]{now:%H:%M:%S}[/]  mail to {mail.to}: {mail.subject}", markup=True)
