"""How quick the page is over a large fleet, beside a small one.

    .venv/bin/python -m benchmarks.page

Every fleet has a local cloud of its own, into which records are dropped as anybody may drop them;
`chalice local` serves the page from there to a real Chromium without a cache. Hosts have the day
that the fleet's charts show; the one that is looked at has all 90 days. Bytes are those on the
wire: `chalice local` does not compress, API Gateway does, so what gzip makes of them is beside it.
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

from . import fleet

DAYS = 90
_CONSOLE = Console(width=140, highlight=False)
_CHART = ".spark[role=img], canvas"
_FIRST_CHART = "performance.getEntriesByName('first-chart')[0]?.startTime"

_HOSTS = """performance.getEntriesByType('resource')
    .find(each => new URL(each.name).pathname.startsWith('/hosts')).duration"""


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit: milliseconds until the first chart is drawn, and bytes of all answers.

    `waited` is how much of it the API took for what the chart shows.
    """

    milliseconds: float
    waited: float
    sent: int
    compressed: int
    data: int


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hosts", type=int, nargs="+", default=[5, 500], help="fleets' sizes")
    parser.add_argument("--visits", type=int, default=7, help="of each view; the median counts")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and return the exit status."""
    wanted = parse(arguments)
    if CHROMIUM is None:
        _CONSOLE.print("there is no browser: apt-get install chromium")
        return 1
    views = {
        "fleet": "/",
        f"one host, {DAYS} days": f"/#/host/{fleet.name_of(0)}?range={DAYS}d",
        "one host, 24 h": f"/#/host/{fleet.name_of(0)}?range=24h",
    }
    found: dict[tuple[str, int], list[Visit]] = {}
    for hosts in wanted.hosts:
        with served(hosts) as address, chromium() as browser:
            for name, path in views.items():
                visit(browser, address, path)  # the API's first answers pay for its clients
                found[name, hosts] = [visit(browser, address, path) for _ in range(wanted.visits)]
    _CONSOLE.print(_table(found))
    return 0


@contextmanager
def served(hosts: int) -> Iterator[str]:
    """The page's address over a fleet of so many hosts."""
    last = fleet.last_tick()
    cloud = start_cloud("--no-tick")
    try:
        made = chain.from_iterable(
            fleet.records(number, fleet.ends(8 * DAYS if number == 0 else 8, last))
            for number in range(hosts)
        )
        with _CONSOLE.status(f"{hosts} hosts: their records are processed"):
            fleet.put(cloud.client("s3"), made)
            fleet.settle(cloud.endpoint, seconds=1800)
        with (
            tempfile.TemporaryDirectory() as folder,
            chalice_local(cloud.endpoint, Path(folder)) as address,
        ):
            yield address
    finally:
        stop_cloud(cloud)


def visit(browser: Browser, address: str, path: str) -> Visit:
    """Open the page as somebody who was never there."""
    answers: list[Response] = []
    with tab(browser, address) as page:
        # Playwright keeps a note on each listener, which a built-in method does not take.
        page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108
        page.goto(path)
        page.locator(_CHART).first.wait_for()
        page.wait_for_load_state("networkidle")
        milliseconds: float = page.evaluate(_FIRST_CHART)
        waited: float = page.evaluate(_HOSTS)
        bodies = [(each.url, each.body()) for each in answers]
    return Visit(
        milliseconds,
        waited,
        sum(len(body) for _, body in bodies),
        sum(len(gzip.compress(body, 6)) for _, body in bodies),
        sum(len(body) for url, body in bodies if "/page/" not in url and url.strip("/") != address),
    )


def _table(found: dict[tuple[str, int], list[Visit]]) -> Table:
    table = Table(box=box.SIMPLE, title="The page, to a browser without a cache")
    for name in (
        "view",
        "hosts",
        "first chart, ms",
        "of",
        "API, ms",
        "bytes",
        "with gzip",
        "of it data",
    ):
        table.add_column(name, justify="left" if name == "view" else "right")
    for (name, hosts), visits in sorted(found.items()):
        times = sorted(each.milliseconds for each in visits)
        one = visits[-1]
        table.add_row(
            name,
            f"{hosts:,}",
            f"{statistics.median(times):,.0f}",
            f"{times[0]:,.0f} to {times[-1]:,.0f}",
            f"{statistics.median(each.waited for each in visits):,.0f}",
            f"{one.sent:,}",
            f"{one.compressed:,}",
            f"{one.data:,}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
