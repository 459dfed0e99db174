"""Measure how fast the page loads with a large and a small fleet.

    .venv/bin/python -m benchmarks.page

Each fleet runs in a separate local cloud. Records are put into its bucket, and `chalice local`
serves the page to Chromium with an empty cache. Hosts have one day of history, as shown by the
fleet view; the host of the host view has 90 days. Byte counts are uncompressed, as `chalice local`
sends them; the gzip column shows the size after compression by API Gateway.
"""

import argparse
import gzip
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from playwright.sync_api import Browser, Response
from rich import box
from rich.console import Console
from rich.table import Table

from tests.conftest import start_cloud, stop_cloud
from tests.support.browser import CHROMIUM, chromium, tab
from tests.support.chalice_local import chalice_local

from . import sample_fleet

DAYS = 90
_CONSOLE = Console(width=140, highlight=False)
_CHART = ".spark[role=img], canvas"
_FIRST_CHART = "performance.getEntriesByName('first-chart')[0]?.startTime"

_API_DURATION = """performance.getEntriesByType('resource')
    .find(each => new URL(each.name).pathname.startsWith('/hosts')).duration"""


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit.

    Attributes:
        milliseconds: time until the first chart is drawn.
        api_milliseconds: duration of the API request for the chart's data.
        sent: bytes of all responses.
        compressed: the same with gzip.
        data: bytes of the API responses.
    """

    milliseconds: float
    api_milliseconds: float
    sent: int
    compressed: int
    data: int


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hosts", type=int, nargs="+", default=[5, 500], help="fleet sizes")
    parser.add_argument(
        "--visits", type=int, default=7, help="visits per view; the median is printed"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the results and return the exit status."""
    options = parse(arguments)
    if CHROMIUM is None:
        _CONSOLE.print("Chromium is not installed: apt-get install chromium")
        return 1
    views = {
        "fleet": "/",
        f"one host, {DAYS} days": f"/#/host/{sample_fleet.name_of(0)}?range={DAYS}d",
        "one host, 24 h": f"/#/host/{sample_fleet.name_of(0)}?range=24h",
    }
    visits: dict[tuple[str, int], list[Visit]] = {}
    for hosts in options.hosts:
        with served(hosts) as address, chromium() as browser:
            for name, path in views.items():
                visit(browser, address, path)  # warm-up: the API creates its clients
                visits[name, hosts] = [visit(browser, address, path) for _ in range(options.visits)]
    _CONSOLE.print(_table(visits))
    return 0


@contextmanager
def served(hosts: int) -> Iterator[str]:
    """Serve the page for a fleet of `hosts` hosts and yield its URL."""
    last = sample_fleet.last_scheduled_time()
    cloud = start_cloud("--no-tick")
    try:
        records = chain.from_iterable(
            sample_fleet.records(number, sample_fleet.ends(8 * DAYS if number == 0 else 8, last))
            for number in range(hosts)
        )
        with _CONSOLE.status(f"Processing the records of {hosts} hosts"):
            sample_fleet.put(cloud.client("s3"), records)
            sample_fleet.wait_until_processed(cloud.endpoint, seconds=1800)
        with (
            tempfile.TemporaryDirectory() as folder,
            chalice_local(cloud.endpoint, Path(folder)) as address,
        ):
            yield address
    finally:
        stop_cloud(cloud)


def visit(browser: Browser, address: str, path: str) -> Visit:
    """Open the page with an empty cache."""
    responses: list[Response] = []
    with tab(browser, address) as page:
        # Playwright sets an attribute on each listener; built-in methods do not allow that.
        page.on("response", lambda response: responses.append(response))  # noqa: PLW0108
        page.goto(path)
        page.locator(_CHART).first.wait_for()
        page.wait_for_load_state("networkidle")
        milliseconds: float = page.evaluate(_FIRST_CHART)
        api_milliseconds: float = page.evaluate(_API_DURATION)
        bodies = [(each.url, each.body()) for each in responses]
    return Visit(
        milliseconds,
        api_milliseconds,
        sum(len(body) for _, body in bodies),
        sum(len(gzip.compress(body, 6)) for _, body in bodies),
        sum(len(body) for url, body in bodies if "/page/" not in url and url.strip("/") != address),
    )


def _table(visits_by_view: dict[tuple[str, int], list[Visit]]) -> Table:
    table = Table(box=box.SIMPLE, title="Page load with an empty browser cache")
    for name in (
        "view",
        "hosts",
        "first chart, ms",
        "range",
        "API, ms",
        "bytes",
        "with gzip",
        "API bytes",
    ):
        table.add_column(name, justify="left" if name == "view" else "right")
    for (name, hosts), visits in sorted(visits_by_view.items()):
        times = sorted(each.milliseconds for each in visits)
        last = visits[-1]
        table.add_row(
            name,
            f"{hosts:,}",
            f"{statistics.median(times):,.0f}",
            f"{times[0]:,.0f} to {times[-1]:,.0f}",
            f"{statistics.median(each.api_milliseconds for each in visits):,.0f}",
            f"{last.sent:,}",
            f"{last.compressed:,}",
            f"{last.data:,}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
