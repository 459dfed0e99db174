"""Create the pictures of the README and the docs from a real run.

    .venv/bin/python -m benchmarks.pictures

`docs/report.svg` shows the output of `make run`. For the page, a local cloud measures this machine
and processes the records of a sample fleet (`benchmarks.page.sample_fleet`). `chalice local` serves
the page, and Chromium takes the screenshots. They are reduced to a palette, which cuts their size
to a quarter.
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
from tests.support.browser import CHROMIUM, PHONE, ColorScheme, chromium, tab
from tests.support.chalice_local import chalice_local

from .page import sample_fleet

DOCS = Path(__file__).resolve().parents[1] / "docs"
HOSTS = 22
DAYS = 14
SILENT = 8  # number of the host without data in the newest window


class Picture(NamedTuple):
    """A screenshot: file, URL path, and a selector to wait for."""

    file: str
    path: str
    selector: str
    scheme: ColorScheme = "light"
    size: tuple[int, int] = (1200, 860)


PICTURES = (
    Picture("page.png", "/", ".fleet .spark[role=img]"),
    Picture("page-dark.png", "/", ".fleet .spark[role=img]", "dark"),
    Picture("page-phone.png", "/", ".fleet .spark[role=img]", size=PHONE),
    Picture(
        "page-host.png", f"/#/host/{sample_fleet.name_of(19)}?range=7d", "canvas", size=(1200, 900)
    ),
    Picture("page-runs.png", "/#/runs", ".branches", size=(1200, 560)),
    Picture("page-query.png", "/#/queries/top-hosts?p.hosts=12", ".bars", size=(1200, 700)),
)


def main(arguments: Sequence[str]) -> int:
    """Create the pictures and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=DOCS, metavar="FOLDER", help="default: docs")
    parser.add_argument("--no-report", action="store_true", help="only take pictures of the page")
    options = parser.parse_args(arguments)
    if CHROMIUM is None:
        print("Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 1
    if not options.no_report:
        command = [sys.executable, "-m", "infra", "run", "--svg", str(options.out / "report.svg")]
        subprocess.run(command, check=True)
    with served() as address, chromium() as browser:
        for picture in PICTURES:
            take(browser, address, picture, options.out)
    return 0


@contextmanager
def served() -> Iterator[str]:
    """Serve the page for a cloud with a completed run and the sample fleet; yield its URL."""
    cloud = start_cloud()
    try:
        put_fleet(cloud)
        with (
            tempfile.TemporaryDirectory() as folder,
            chalice_local(cloud.endpoint, Path(folder)) as address,
        ):
            yield address
    finally:
        stop_cloud(cloud)


def put_fleet(cloud: RunningCloud) -> None:
    """Store the fleet's history; one host has no data in the newest window."""
    ends = sample_fleet.ends(8 * DAYS, sample_fleet.last_scheduled_time())
    for number in range(HOSTS):
        records = sample_fleet.records(number, ends[:-1] if number == SILENT else ends)
        sample_fleet.put(cloud.client("s3"), records)
    sample_fleet.wait_until_processed(cloud.endpoint)


def take(browser: Browser, address: str, picture: Picture, out: Path) -> None:
    with tab(browser, address, size=picture.size, scheme=picture.scheme) as page:
        page.goto(picture.path)
        if "/queries/" in picture.path:
            page.get_by_role("button", name="Run query").click()
        page.locator(picture.selector).first.wait_for()
        page.wait_for_load_state("networkidle")
        file = out / picture.file
        page.screenshot(path=file)
    shrink(file)
    print(f"{file}: {file.stat().st_size:,} bytes")


def shrink(file: Path) -> None:
    """Reduce a picture to a palette of 255 colours."""
    with Image.open(file) as image:
        small = image.convert("RGB").quantize(255, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
