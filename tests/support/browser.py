"""Chromium for browser tests, driven by Playwright. The system's Chromium is used."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)

# Playwright's default of 5 seconds is too short on a busy test machine.
expect.set_options(timeout=20_000)

# Chromium does not start with its sandbox as root, which is usual in containers.
_CHROMIUM_ARGS = ("--no-sandbox", "--disable-dev-shm-usage")

ColorScheme = Literal["light", "dark"]
DESKTOP, PHONE = (1280, 900), (360, 740)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_CHROMIUM_ARGS)
        yield browser
        browser.close()


@contextmanager
def tab(
    browser: Browser,
    address: str,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: ColorScheme = "light",
    console_errors: list[str] | None = None,
    **options: Any,
) -> Iterator[Page]:
    """Open a page in a new browser context; append console errors to `console_errors`."""
    context = browser.new_context(
        base_url=address,
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        **options,
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    errors = [] if console_errors is None else console_errors
    page.on("console", lambda each: errors.append(each.text) if each.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()


def accessibility_violations(page: Page) -> list[str]:
    """The serious and critical violations found by axe, with one element of each."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html']}"
        for each in violations
        if each["impact"] in {"serious", "critical"}
    ]


def scrolls_horizontally(page: Page) -> bool:
    """Whether the page is wider than the viewport."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))
