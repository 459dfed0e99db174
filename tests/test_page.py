"""The page in a real browser, over `chalice local` and a running local cloud."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from benchmarks.page import fleet

from .browser import PHONE, WIDE, Scheme, chromium, faults, is_too_wide, needs_chromium, tab
from .conftest import RunningCloud, start_cloud, stop_cloud
from .served import chalice_local, free_port

pytestmark = needs_chromium

HOSTS = 6
SILENT = "api-003"
VIEWS = {
    "fleet": "#/",
    "host": f"#/host/{fleet.name_of(0)}?range=7d",
    "alarms": "#/alarms",
    "runs": "#/runs",
    "queries": "#/queries",
    "query": "#/queries/top-hosts",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    """One of its own: other tests have hosts, too."""
    running = start_cloud()
    yield running
    stop_cloud(running)


@pytest.fixture(scope="module")
def address(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page over a cloud with this machine and six hosts, one of which has fallen silent."""
    last = fleet.last_tick()
    for number in range(HOSTS):
        ends = fleet.ends(24, last)
        made = fleet.records(number, ends[:-1] if fleet.name_of(number) == SILENT else ends)
        fleet.put(cloud.client("s3"), made)
    fleet.settle(cloud.endpoint, seconds=120)
    with chalice_local(cloud.endpoint, tmp_path_factory.mktemp("project")) as served:
        yield served


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page whose console has said nothing of errors when the test ends."""
    said: list[str] = []
    with tab(browser, address, said=said) as opened:
        yield opened
    assert said == []


def show(page: Page, view: str) -> None:
    """Open a view and wait until it has what it asked for."""
    page.goto("about:blank")
    page.goto(f"/{VIEWS[view]}")
    expect(page.locator("main h1")).to_be_visible()
    if view == "host":
        expect(page.locator("canvas")).to_have_count(4)
    elif view == "query":
        page.get_by_role("button", name="Ask").click()
        expect(page.locator(".result .figure")).to_be_visible()
    else:
        expect(page.locator(".fleet tbody tr, main .panel").first).to_be_visible()
    expect(page.locator("[aria-busy]")).to_have_count(0)


# --- The fleet ----------------------------------------------------------------------------------


def test_every_host_has_four_small_charts(page: Page) -> None:
    show(page, "fleet")
    expect(page.locator(".fleet tbody tr")).to_have_count(HOSTS + 1)
    host = page.locator(".fleet tbody tr", has_text=fleet.name_of(0))
    expect(host.locator("svg.spark[role=img] path.line")).to_have_count(4)


def test_a_host_that_sent_nothing_is_named_at_the_top(page: Page) -> None:
    show(page, "fleet")
    expect(page.get_by_role("region", name="Missing hosts")).to_contain_text(SILENT)
    expect(page.locator(".fleet tbody tr.missing")).to_contain_text(SILENT)


def test_a_filter_leaves_what_matches_and_stays_in_the_address(page: Page) -> None:
    show(page, "fleet")
    page.get_by_label("Filter").fill("role db")
    page.get_by_label("Filter").fill("db-")
    visible = page.locator(".fleet tbody tr:visible")
    expect(visible).to_have_count(1)
    page.reload()
    expect(visible).to_have_count(1)
    expect(page.get_by_label("Filter")).to_have_value("db-")


def test_hosts_can_be_sorted_by_name(page: Page) -> None:
    show(page, "fleet")
    page.get_by_label("Sort").select_option("Name")
    names = page.locator(".fleet tbody .who a").all_text_contents()
    ours = [name for name in names if re.fullmatch(r"[a-z]+-\d{3}", name)]
    assert ours == sorted(ours)


# --- One host -----------------------------------------------------------------------------------


def test_a_picked_host_shows_its_history(page: Page) -> None:
    show(page, "fleet")
    page.get_by_role("link", name=fleet.name_of(1)).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(fleet.name_of(1))
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.locator("canvas")).to_have_count(4)
    expect(page.get_by_role("region", name="CPU history")).to_contain_text("Critical 80")


def test_a_chart_is_drawn_and_not_only_there(page: Page) -> None:
    show(page, "host")
    colours = page.locator("canvas").first.evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    assert colours > 10


def test_another_range_is_asked_for_and_the_focus_stays(page: Page) -> None:
    show(page, "host")
    with page.expect_response(re.compile(r"/hosts/")) as answer:
        page.get_by_role("link", name="30 d").press("Enter")
    history = answer.value.json()
    assert history["from"] < f"{fleet.last_tick() - 9 * 8 * fleet.WINDOW:%Y-%m-%d}"
    expect(page.get_by_role("link", name="30 d")).to_be_focused()
    expect(page.get_by_role("link", name="30 d")).to_have_attribute("aria-current", "true")


def test_every_value_of_a_chart_is_in_a_table(page: Page) -> None:
    show(page, "host")
    page.get_by_text("CPU as a table").click()
    table = page.get_by_role("region", name="CPU, newest first")
    expect(table.locator("tbody tr")).to_have_count(24)


# --- Alarms, runs, queries ------------------------------------------------------------------------


def test_alarms_say_what_to_do(page: Page) -> None:
    show(page, "alarms")
    alarm = page.locator(".alarms li").first
    alarm.locator("summary").click()
    assert re.search(r"docs/runbooks/\w+\.md", page.locator(".alarms").first.text_content() or "")


def test_a_run_is_started_and_followed_to_its_end(page: Page) -> None:
    show(page, "runs")
    before = page.locator(".run").count()
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_text(re.compile("The run succeeded"))).to_be_visible(timeout=60_000)
    expect(page.locator(".run")).to_have_count(before + 1)
    expect(page.locator(".run").first.locator(".branches li")).to_have_count(4)


def test_a_query_is_answered_as_bars_and_as_a_table(page: Page) -> None:
    show(page, "query")
    expect(page.locator(".bars li")).to_have_count(HOSTS + 1)
    page.get_by_role("button", name="Table").click()
    expect(page.locator(".result table")).to_contain_text(fleet.name_of(0))


def test_an_answer_can_be_linked_to(page: Page) -> None:
    show(page, "query")
    page.get_by_role("button", name="Table").click()
    link = page.url
    with page.expect_request(re.compile(r"/queries/.")):
        page.goto("about:blank")
        page.goto(link)
    expect(page.locator(".result table")).to_contain_text(fleet.name_of(0))


def test_an_answer_over_time_is_drawn_as_lines(page: Page) -> None:
    page.goto("/#/queries/trend?p.resource=web-%25")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".result canvas")).to_be_visible()
    expect(page.locator(".result .key")).to_have_count(2)


# --- For everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(page: Page, view: str) -> None:
    show(page, view)
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme, size in product(schemes, (WIDE, PHONE)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": size[0], "height": size[1]})
        assert (scheme, size, faults(page)) == (scheme, size, [])


def test_axe_itself_sees_a_fault(page: Page) -> None:
    show(page, "fleet")
    page.evaluate("document.querySelector('label[for=filter]').remove()")
    page.evaluate("document.getElementById('filter').placeholder = ''")
    assert [each.split(":")[0] for each in faults(page)] == ["label"]


@pytest.mark.parametrize("view", VIEWS)
def test_nobody_scrolls_sideways_on_a_phone(browser: Browser, address: str, view: str) -> None:
    with tab(browser, address, size=PHONE) as page:
        show(page, view)
        assert not is_too_wide(page)


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    """To the content, into the filter, to a host, to another range, through a chart's windows."""
    show(page, "fleet")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    press_until(page, "#filter")
    page.keyboard.type(fleet.name_of(4))
    press_until(page, ".fleet .who a")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    press_until(page, ".range a[href*='24h']")
    page.keyboard.press("Enter")
    expect(page.locator(".range a[href*='24h']")).to_have_attribute("aria-current", "true")
    expect(page.locator("[aria-busy]")).to_have_count(0)
    press_until(page, ".plot")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".readout").first).to_contain_text(re.compile(r"\d\d:\d\d.*%"))


def press_until(page: Page, selector: str) -> None:
    """Press Tab until the focus is on it."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("where => document.activeElement.matches(where)", selector):
            return
    pytest.fail(f"Tab does not lead to {selector}")


def test_the_page_takes_nothing_from_another_host(browser: Browser, address: str) -> None:
    asked: list[str] = []
    with tab(browser, address) as page:
        page.on("request", lambda request: asked.append(request.url))
        for view in VIEWS:
            show(page, view)
    assert len(asked) > 20
    assert {url for url in asked if not url.startswith(address)} == set()


def test_markup_in_a_host_s_name_stays_text(browser: Browser, address: str) -> None:
    """There is no such host, and the page says so with its name."""
    name = "<img src=x onerror=alert(1)>"
    with tab(browser, address) as page:
        page.goto(f"/#/host/{quote(name, safe='')}")
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        expect(page.get_by_role("alert")).to_contain_text(name)
        expect(page.locator("main img")).to_have_count(0)


# --- Without data, and without a cloud ------------------------------------------------------------


def test_a_cloud_that_is_gone_is_explained_until_it_is_back(
    browser: Browser, tmp_path: Path
) -> None:
    """The API runs, but what it asks does not; Retry finds the cloud when it has come."""
    port = free_port()
    with (
        chalice_local(f"http://127.0.0.1:{port}", tmp_path) as served,
        tab(browser, served) as page,
    ):
        page.goto("/")
        trouble = page.get_by_role("alert").filter(has_text="The fleet could not be read")
        expect(trouble).to_contain_text("is the local cloud up")
        expect(trouble.get_by_role("button", name="Retry")).to_be_visible()
        cloud = start_cloud("--port", str(port), "--no-tick")
        try:
            trouble.get_by_role("button", name="Retry").click()
            expect(page.get_by_text("No host has reported yet").first).to_be_visible()
            assert faults(page) == []
            expect(page.get_by_role("alert")).to_have_count(0)
            page.get_by_role("link", name="Go to runs").click()
            expect(page.get_by_text("There has been no run yet")).to_be_visible()
        finally:
            stop_cloud(cloud)
        page.get_by_role("link", name="Fleet").click()
        expect(trouble).to_be_visible(timeout=60_000)
        assert faults(page) == []


def test_an_api_that_is_gone_is_explained(
    browser: Browser, cloud: RunningCloud, tmp_path: Path
) -> None:
    with tab(browser, "http://127.0.0.1") as page:
        with chalice_local(cloud.endpoint, tmp_path) as served:
            page.goto(served)
            expect(page.locator(".fleet")).to_be_visible()
        page.get_by_role("button", name="Refresh").click()
        expect(page.get_by_role("alert").first).to_contain_text("The API does not answer")
