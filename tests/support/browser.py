"""A real Chromium, driven by Playwright: Debian's, so that nothing is downloaded."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no browser: apt-get install chromium"
)

# Five seconds are Playwright's own; test runs are busier than people's machines.
expect.set_options(timeout=20_000)

# Started as root, as in a container, Chromium refuses its sandbox.
_ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage")

Scheme = Literal["light", "dark"]
WIDE, PHONE = (1280, 900), (360, 740)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def tab(
    browser: Browser,
    address: str,
    *,
    size: tuple[int, int] = WIDE,
    scheme: Scheme = "light",
    said: list[str] | None = None,
    **options: Any,
) -> Iterator[Page]:
    """A page of a browser without a past; what the console says of errors goes into `said`."""
    context = browser.new_context(
        base_url=address,
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        **options,
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    heard = [] if said is None else said
    page.on("console", lambda each: heard.append(each.text) if each.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    yield page
    context.close()


def faults(page: Page) -> list[str]:
    """The serious and critical faults that axe finds, with an element of each."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html']}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]


def is_too_wide(page: Page) -> bool:
    """Whether one has to scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))
