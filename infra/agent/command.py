"""`python -m infra agent`: measure this host and push the records to S3."""

import argparse
import json
import os
import select
import signal
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from chalicelib.collect.sources.host import HostSource

from ..command_line import exit_statuses, positive_float
from .agent import Agent, AgentError, HostIdentity, Schedule, encode, measure
from .spool import Spool, SpooledObject, SpoolError, default_folder
from .upload import Bucket

_MAX_INTERVAL_SECONDS = 7 * 86_400  # the longest window of a record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Measure this host's CPU, memory, disk and network once per --interval, and put the"
        " records into raw-metrics/ of the bucket as one object. Objects that S3 does not accept"
        " stay in the spool and are sent before newer ones. Credentials, region and endpoint come"
        " from the AWS environment."
    )
    parser.epilog = exit_statuses(
        "everything was sent (or, without --once, after Ctrl-C)",
        "an object stays in the spool or the command failed",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="measure, send and exit")
    mode.add_argument(
        "--dry-run",
        nargs="?",
        choices=("lines", "pretty"),
        const="lines",
        help="print the object instead of sending it, as lines or indented; needs no bucket",
    )
    parser.add_argument("--bucket", help="the data bucket (default: BUCKET_NAME)")
    _add_schedule(parser)
    _add_identity(parser)
    _add_spool(parser)


def run(options: argparse.Namespace) -> int:
    """Print the object, or measure and send it; 0 if everything was sent."""
    try:
        return _print_object(options) if options.dry_run else _push(options)
    except (AgentError, SpoolError, OSError) as error:
        _log(f"error: {error}")
        return 1


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval",
        type=_interval,
        default=10_800,
        metavar="SECONDS",
        help="seconds between measurements, and the length of a record's window"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--align",
        type=_interval,
        default=300,
        metavar="SECONDS",
        help="windows end on multiples of this (default: %(default)s)",
    )
    parser.add_argument(
        "--cpu-seconds",
        type=positive_float,
        default=1.0,
        metavar="SECONDS",
        help="how long to sample CPU utilization (default: %(default)g)",
    )


def _add_identity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="name in the records (default: the host name)")
    parser.add_argument(
        "--account-id", default="", help="account in the records (default: the bucket's)"
    )
    parser.add_argument(
        "--region-label",
        default="",
        metavar="REGION",
        help="region in the records (default: the bucket's)",
    )


def _add_spool(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spool",
        metavar="DIR",
        help="directory that holds the objects until they are sent (default:"
        " ~/.local/state/infra-monitoring/spool, or under XDG_STATE_HOME)",
    )
    parser.add_argument(
        "--max-spool-mb",
        type=positive_float,
        default=100.0,
        metavar="MB",
        help="size above which the oldest objects are dropped (default: %(default)g)",
    )


def _interval(text: str) -> int:
    seconds = int(text)
    if not 1 <= seconds <= _MAX_INTERVAL_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is not within 1 to {_MAX_INTERVAL_SECONDS} s")
    return seconds


class _StopSignal:
    """SIGINT and SIGTERM as a state that the loop polls; a second signal raises at once.

    An exception raised in a signal handler is lost where Python ignores exceptions, for example
    in a finalizer.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._handle)

    def _handle(self, *_: object) -> None:
        if self.wait(0):
            raise KeyboardInterrupt
        os.write(self._write, b".")

    def wait(self, seconds: float) -> bool:
        """Wait for a signal; False if none came within `seconds`."""
        return bool(select.select([self._read], [], [], seconds)[0])


def _push(options: argparse.Namespace) -> int:
    bucket = options.bucket or os.environ.get("BUCKET_NAME")
    if not bucket:
        raise AgentError("no bucket: give --bucket, or set BUCKET_NAME")
    identity, schedule = _identity(options), _schedule(options)
    folder = Path(options.spool) if options.spool else default_folder()
    with Spool(folder, max_bytes=int(options.max_spool_mb * 1_000_000), log=_log) as spool:
        agent = Agent(spool, Bucket(bucket).put, _source(options), identity, schedule, log=_log)
        if options.once:
            return 0 if agent.run_once() else 1
        agent.run_until(_StopSignal().wait)
    _log("stopped")
    return 0


def _print_object(options: argparse.Namespace) -> int:
    """Print the object that would be sent."""
    identity, schedule, now = _identity(options), _schedule(options), datetime.now(UTC)
    body = encode(measure(_source(options), identity, schedule, now, log=_log))
    _log(f"would put {SpooledObject.of(body, host=identity.host, time=now).key}")
    text = body.decode()
    if options.dry_run == "pretty":
        text = "".join(json.dumps(json.loads(line), indent=2) + "\n" for line in text.splitlines())
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` closed the pipe; Python's flush at exit would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _source(options: argparse.Namespace) -> HostSource:
    return HostSource(cpu_interval=options.cpu_seconds)


def _identity(options: argparse.Namespace) -> HostIdentity:
    return HostIdentity(
        options.host or socket.gethostname(), options.account_id, options.region_label
    )


def _schedule(options: argparse.Namespace) -> Schedule:
    if options.interval % options.align:
        raise AgentError(
            f"--interval {options.interval} is not a multiple of --align {options.align}:"
            " two measurements would have the same window"
        )
    return Schedule(options.interval, options.align)


def _log(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
