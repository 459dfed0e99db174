"""The README's pictures, made of a real run.

    .venv/bin/python -m benchmarks.pictures

`docs/report.svg` is what `make run` prints. For the page a local cloud measures this machine,
processes the records of a small fleet (see `benchmarks.page.fleet`) that are dropped into its
bucket, and answers through `chalice local`; a real Chromium takes the pictures. They are redrawn
with a palette, which makes them a quarter of the size.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser

from tests.conftest import RunningCloud, start_cloud, stop_cloud
from tests.support.browser import (
    CHROMIUM,
    PHONE,
    Scheme,
    chromium,
    tab,
)
from tests.support.chalice_local import chalice_local

from .page import fleet

DOCS = Path(__file__).resolve().parents[1] / "docs"
HOSTS = 22
DAYS = 14
SILENT = 8  # this one sends nothing in the newest window


class Picture(NamedTuple):
    """What is photographed, in which light, and what has to be there first."""

    file: str
    path: str
    there: str
    scheme: Scheme = "light"
    size: tuple[int, int] = (1200, 860)


PICTURES = (
    Picture("page.png", "/", ".fleet .spark[role=img]"),
    Picture("page-dark.png", "/", ".fleet .spark[role=img]", "dark"),
    Picture("page-phone.png", "/", ".fleet .spark[role=img]", size=PHONE),
    Picture("page-host.png", f"/#/host/{fleet.name_of(19)}?range=7d", "canvas", size=(1200, 900)),
    Picture("page-runs.png", "/#/runs", ".branches", size=(1200, 560)),
    Picture("page-query.png", "/#/queries/top-hosts?p.hosts=12", ".bars", size=(1200, 700)),
)


def main(arguments: Sequence[str]) -> int:
    """Take the pictures; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=DOCS, metavar="FOLDER", help="default: docs")
    parser.add_argument("--no-report", action="store_true", help="of the page only")
    wanted = parser.parse_args(arguments)
    if CHROMIUM is None:
        print("there is no browser: apt-get install chromium", file=sys.stderr)
        return 1
    if not wanted.no_report:
        command = [sys.executable, "-m", "infra", "run", "--svg", str(wanted.out / "report.svg")]
        subprocess.run(command, check=True)
    with served() as address, chromium() as browser:
        for picture in PICTURES:
            take(browser, address, picture, wanted.out)
    return 0


@contextmanager
def served() -> Iterator[str]:
    """The page's address, over a cloud that has run and was given a fleet."""
    cloud = start_cloud()
    try:
        give(cloud)
        with (
            tempfile.TemporaryDirectory() as folder,
            chalice_local(cloud.endpoint, Path(folder)) as address,
        ):
            yield address
    finally:
        stop_cloud(cloud)


def give(cloud: RunningCloud) -> None:
    """A fleet's last days, of which one host has fallen silent."""
    ends = fleet.ends(8 * DAYS, fleet.last_tick())
    for number in range(HOSTS):
        made = fleet.records(number, ends[:-1] if number == SILENT else ends)
        fleet.put(cloud.client("s3"), made)
    fleet.settle(cloud.endpoint)


def take(browser: Browser, address: str, picture: Picture, out: Path) -> None:
    with tab(browser, address, size=picture.size, scheme=picture.scheme) as page:
        page.goto(picture.path)
        ask = page.get_by_role("button", name="Ask")
        if "/queries/" in picture.path:
            ask.click()
        page.locator(picture.there).first.wait_for()
        page.wait_for_load_state("networkidle")
        file = out / picture.file
        page.screenshot(path=file)
    shrink(file)
    print(f"{file}: {file.stat().st_size:,} bytes")


def shrink(file: Path) -> None:
    """Redraw a picture with the 255 colours that it has most of."""
    with Image.open(file) as whole:
        small = whole.convert("RGB").quantize(255, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
