"""The commands that operate a deployed stage, and what becomes of their errors."""

import argparse

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from .quarantine import quarantine
from .query import query
from .redrive import redrive
from .replay import replay
from .stage import OperationError, UsageError, failure
from .verify import verify

_COMMANDS = {
    "verify": verify,
    "redrive": redrive,
    "replay": replay,
    "quarantine": quarantine,
    "query": query,
}


def operate(options: argparse.Namespace) -> int:
    """Do what the command says; its exit status."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        return _COMMANDS[options.command](options)
    except (OperationError, ClientError, BotoCoreError) as error:
        console.print("[bold red]error:[/]", end=" ")
        console.print(failure(error), markup=False)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
