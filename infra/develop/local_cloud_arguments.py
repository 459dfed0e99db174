"""Arguments and progress lines of the commands that start a local cloud."""

import argparse
import time

from rich.console import Console
from rich.status import Status

from ..command_line import add_assignments


def add_local_cloud(parser: argparse.ArgumentParser, *, port: int, port_help: str) -> None:
    """Add the port, the e-mail address and overrides of the stage's settings."""
    parser.add_argument("--port", type=int, default=port, help=port_help)
    parser.add_argument(
        "--email",
        default="you@example.com",
        help="subscriber of the notifications; nothing leaves this machine (default: %(default)s)",
    )
    add_assignments(
        parser, "override settings of the stage, for example --set CPU_THRESHOLDS=50,60"
    )


class Steps:
    """Prints each step with the seconds since the start."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._started = time.monotonic()

    def __call__(self, step: str) -> None:
        self._status.update(step)
        self._console.print(f"[dim]{time.monotonic() - self._started:5.1f} s[/]  {step}")
