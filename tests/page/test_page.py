"""The page in a real browser, over `chalice local` and a running local cloud."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from benchmarks.page import fleet
from chalicelib.model.records import Measurement, MetricType, Record
from tests.conftest import RunningCloud, start_cloud, stop_cloud
from tests.support.browser import (
    PHONE,
    WIDE,
    Scheme,
    chromium,
    faults,
    is_too_wide,
    needs_chromium,
    tab,
)
from tests.support.chalice_local import chalice_local, free_port

pytestmark = needs_chromium

HOSTS = 6
SILENT = "api-003"
BARE = "i-0bare"  # an instance without the agent: CPU, and of the disk only what was read
EVERYBODY = HOSTS + 2  # with this machine, and the bare one
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
    """The page over a cloud with this machine and seven hosts, one of which has fallen silent."""
    last = fleet.last_tick()
    for number in range(HOSTS):
        ends = fleet.ends(24, last)
        made = fleet.records(number, ends[:-1] if fleet.name_of(number) == SILENT else ends)
        fleet.put(cloud.client("s3"), made)
    fleet.put(cloud.client("s3"), bare_records(fleet.ends(8, last)))
    fleet.settle(cloud.endpoint, seconds=120)
    with chalice_local(cloud.endpoint, tmp_path_factory.mktemp("project")) as served:
        yield served


def bare_records(ends: list[datetime]) -> Iterator[Record]:
    measured: dict[MetricType, dict[str, Measurement]] = {
        "cpu": {"utilization": Measurement(unit="percent", last=42.5)},
        "disk": {"ebs_read_bytes": Measurement(unit="bytes", last=5000.0)},
    }
    for end, (metric_type, measurements) in product(ends, measured.items()):
        yield Record(
            schema_version=1,
            timestamp=end,
            metric_type=metric_type,
            resource_id=BARE,
            window_seconds=int(fleet.WINDOW.total_seconds()),
            measurements=measurements,
        )


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
    expect(page.locator(".fleet tbody tr")).to_have_count(EVERYBODY)
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


def test_refresh_leaves_the_filter_to_whom_types_in_it(page: Page) -> None:
    show(page, "fleet")
    page.get_by_label("Filter").fill("db")
    with page.expect_response(re.compile(r"/hosts$")) as answer:
        page.get_by_role("button", name="Refresh").evaluate("button => button.click()")
    assert answer.value.request.all_headers()["cache-control"] == "no-cache"
    expect(page.locator("[aria-busy]")).to_have_count(0)
    expect(page.get_by_label("Filter")).to_be_focused()
    page.keyboard.type("-")
    expect(page.get_by_label("Filter")).to_have_value("db-")
    expect(page.locator(".fleet tbody tr:visible")).to_have_count(1)


def test_how_old_the_newest_window_is_goes_with_the_clock(page: Page) -> None:
    page.clock.install()
    show(page, "fleet")
    expect(page.get_by_text("Nothing newer")).to_have_count(0)
    page.clock.fast_forward("10:00:00")
    expect(page.get_by_text("Nothing newer")).to_be_visible()
    expect(page.locator(".title .sub")).to_contain_text("10\u202fh ago")


def test_back_from_a_host_leads_to_where_one_was(browser: Browser, address: str) -> None:
    with tab(browser, address, size=PHONE) as page:
        show(page, "fleet")
        last = page.locator(".fleet .who a").last
        last.focus()
        before = page.evaluate("scrollY")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        expect(page.locator(".facts .status")).to_be_visible()
        page.go_back()
        expect(last).to_be_focused()
        assert before > 0
        assert abs(page.evaluate("scrollY") - before) < 20


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


def test_what_no_chart_shows_is_named_beside_the_charts(page: Page) -> None:
    page.goto(f"/#/host/{BARE}")
    expect(page.locator("canvas")).to_have_count(1)
    disk = page.get_by_role("region", name="Disk history")
    expect(disk).to_contain_text("Nothing that can be drawn is measured")
    page.get_by_text("All 2 measurements").click()
    expect(page.get_by_role("region", name="All measurements")).to_contain_text("ebs_read_bytes")


def test_a_missing_host_is_missing_on_its_own_page_too(page: Page) -> None:
    page.goto(f"/#/host/{SILENT}")
    expect(page.locator(".facts .status.missing svg.icon.missing")).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("sent nothing in the newest window")


def test_a_percentage_is_not_rounded_over_a_threshold(page: Page) -> None:
    page.goto("/#/nothing")
    source = """async values => {
        const { measure } = await import('/page/format.js');
        return values.map(value => measure(value, 'percent'));
    }"""
    told = page.evaluate(source, [79.96, 80, 80.04, 8.2, 0.7, 99.99])
    assert told == [f"{each}\u202f%" for each in ("79.9", "80", "80.0", "8.2", "0.7", "99.9")]


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


def test_a_title_is_beside_its_marker_on_a_phone(browser: Browser, address: str) -> None:
    with tab(browser, address, size=PHONE) as page:
        show(page, "alarms")
        below = page.locator(".alarms summary").evaluate_all(
            "all => all.map(each => each.firstElementChild.getBoundingClientRect().top"
            " - each.getBoundingClientRect().top)"
        )
    assert len(below) > 3
    assert max(below) < 16


def test_run_now_keeps_the_focus(page: Page) -> None:
    """The run is mocked: it never comes to be listed."""
    page.route("**/runs", only("POST", lambda route: route.fulfill(status=202, json={"name": "x"})))
    show(page, "runs")
    page.get_by_role("button", name="Run now").press("Enter")
    expect(page.get_by_text("Started; this list follows it")).to_be_visible()
    expect(page.get_by_role("button", name="Run now")).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_role("button", name="Run now")).to_be_focused()


def test_a_run_is_followed_beyond_looks_that_fail(browser: Browser, address: str) -> None:
    """Mocked: the newest run goes on and on, and the network fails."""
    with tab(browser, address) as page:
        page.clock.install()
        page.route("**/runs", changed(lambda answer: answer["runs"][0].update(RUNNING)))
        show(page, "runs")
        listed = page.locator(".run").count()
        page.route("**/runs", lambda route: route.abort())
        for failed in range(1, 5):
            expect(page.locator(".run")).to_have_count(listed)
            with page.expect_request("**/runs"):
                page.clock.fast_forward(2_000 * 2 ** (failed - 1))
            if failed < 4:
                expect(page.locator("main .said", has_text="trying again")).to_be_visible()
                expect(page.locator("main [aria-busy]")).to_have_count(0)
        expect(page.get_by_role("alert")).to_contain_text("The API does not answer")
        start = page.get_by_role("button", name="Run now")
        expect(start).not_to_have_attribute("aria-disabled", "true")
        page.unroute("**/runs")
        page.get_by_role("button", name="Retry").click()
        expect(page.get_by_role("alert")).to_have_count(0)


RUNNING = {"status": "RUNNING", "stop": None, "seconds": None}


def only(method: str, handle: Callable[[Route], None]) -> Callable[[Route], None]:
    """What answers a method; others go on."""
    return lambda route: handle(route) if route.request.method == method else route.fallback()


def changed(change: Callable[[Any], object]) -> Callable[[Route], None]:
    """What answers with the API's own answer, changed."""

    def handle(route: Route) -> None:
        real = route.fetch()
        answer = real.json()
        change(answer)
        route.fulfill(response=real, json=answer)

    return handle


def test_a_query_is_answered_as_bars_and_as_a_table(page: Page) -> None:
    show(page, "query")
    expect(page.locator(".bars li")).to_have_count(EVERYBODY)
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


def ask(page: Page, query: str) -> None:
    """Ask a query with the parameters of its address, and wait for the answer."""
    page.goto("about:blank")
    page.goto(f"/#/queries/{query}")
    page.get_by_role("button", name="Ask").press("Enter")
    expect(page.locator(".result .facts")).to_be_visible()


def test_a_forecast_has_a_bar_of_days_for_each_disk(page: Page) -> None:
    ask(page, "disk-forecast?p.resource=web-%25")
    expect(page.get_by_label("Show", exact=True)).to_have_value("days_left")
    names = page.locator(".bars .who").all_text_contents()
    parts = ("percent", "percent:/", "percent:/var")
    assert sorted(names) == sorted(f"web-00{n} {part}" for n in (1, 2) for part in parts)


def test_when_a_host_was_seen_last_is_no_time_to_draw_over(page: Page) -> None:
    ask(page, "idle-hosts?p.below_percent=101")
    expect(page.locator(".bars li")).to_have_count(EVERYBODY)


def test_rows_of_a_day_are_a_line_for_each_of_what_differs(page: Page) -> None:
    ask(page, "data-quality")
    keys = page.locator(".result .key")
    assert sorted(keys.all_text_contents()) == ["cpu", "disk", "memory", "network"]


def test_a_line_goes_on_over_moments_of_others_and_breaks_where_windows_are_missing(
    page: Page,
) -> None:
    page.goto("/#/nothing")
    told = page.evaluate("""async () => {
        const { align } = await import('/page/series.js');
        const a = new Map([[0, 1], [10, 2], [20, null], [30, 3], [60, 4]]);
        const { moments, lines } = align([['a', a], ['b', new Map([[5, 7], [15, 8]])]]);
        const word = value => value === undefined ? 'over' : String(value);
        return [moments, ...lines.map(([, values]) => values.map(word).join(' '))];
    }""")
    assert told == [
        [0, 5, 10, 15, 20, 30, 45, 60],
        "1 over 2 over null 3 null 4",
        "over 7 over 8 over over over over",
    ]


def test_days_of_a_query_are_utc_s_and_moments_the_reader_s(browser: Browser, address: str) -> None:
    with tab(browser, address, timezone_id="America/Bogota") as page:
        ask(page, "daily?p.resource=web-001")
        told = page.locator(".plot").get_attribute("aria-label")
        page.get_by_role("button", name="Table").click()
        expect(page.locator(".result th", has_text="dt (UTC)")).to_be_visible()
        cells = page.locator(".result tbody td:nth-child(2)").all_text_contents()
        first, *_, last = [datetime.fromisoformat(each) for each in cells]
        assert f"{first.day} {first:%b} to {last.day} {last:%b} (UTC)" in str(told)
        ask(page, "trend?p.resource=web-001&as=table")
        end = page.locator(".result tbody time").last
        utc = datetime.fromisoformat(str(end.get_attribute("datetime")))
        here = utc.astimezone(timezone(timedelta(hours=-5)))
        assert utc.hour % 3 == 0
        expect(end).to_have_text(f"{here.day} {here:%b}, {here:%H:%M}")


def test_a_part_of_an_answer_is_not_shown_as_the_whole(page: Page) -> None:
    """Mocked: the answer's last row is still to come."""
    page.route("**/queries/*", only("GET", changed(cut)))
    ask(page, "trend?p.resource=web-%25")
    expect(page.locator("figcaption")).to_contain_text("1 of 2+")
    expect(page.locator("figcaption")).to_contain_text(
        re.compile(r"from the first \d+ rows; more are not loaded")
    )
    assert page.locator(".result .key").all_text_contents() == ["web-001"]


def cut(answer: Any) -> None:
    if answer["state"] == "SUCCEEDED":
        answer["rows"].pop()
        answer["cursor"] = "more"


def test_rows_that_do_not_come_can_be_asked_for_again(browser: Browser, address: str) -> None:
    """Mocked: the answer's last row is on a page of its own, which comes at the third try."""
    tries: list[str] = []
    row: list[Any] = []

    def handle(answer: Any) -> None:
        row[:] = answer["rows"][-1:]
        cut(answer)

    def more(route: Route) -> None:
        tries.append(route.request.url)
        if len(tries) < 3:
            route.fulfill(status=503, json={"Code": "x", "Message": "Athena does not answer"})
        else:
            route.fulfill(json={"rows": row, "cursor": None})

    with tab(browser, address) as page:
        page.route("**/queries/*", only("GET", changed(handle)))
        page.route("**/queries/*cursor=more*", more)
        ask(page, "trend?p.resource=web-001&as=table")
        shown = page.locator(".result tbody tr")
        expect(shown.first).to_be_visible()
        before = shown.count()
        load = page.get_by_role("button", name="Load the next")
        for number in (1, 2):
            load.press("Enter")
            expect(page.get_by_role("alert")).to_have_count(1)
            expect(load).not_to_have_attribute("aria-disabled", "true")
            assert len(tries) == number
        load.press("Enter")
        expect(shown).to_have_count(before + 1)
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_role("region", name="Answer")).to_be_focused()


def test_an_answer_keeps_the_parameters_that_it_was_asked_with(page: Page) -> None:
    ask(page, "top-hosts?p.hosts=2")
    expect(page.get_by_role("button", name="Ask")).to_be_focused()
    page.get_by_label("hosts").fill("5")
    page.get_by_role("button", name="Table").click()
    expect(page.locator(".asked")).to_contain_text("hosts 2")
    assert "p.hosts=2&" in page.url


def test_another_metric_type_brings_its_measurement(page: Page) -> None:
    page.goto("/#/queries/trend")
    page.get_by_label("metric type").fill("memory")
    expect(page.get_by_label("measurement")).to_have_value("percent")
    page.get_by_label("measurement").fill("used")
    page.get_by_label("metric type").fill("disk")
    expect(page.get_by_label("measurement")).to_have_value("used")


@pytest.mark.parametrize(
    ("given", "measurement"),
    [("", "percent"), ("&p.measurement=used", "used"), ("&p.measurement=percent", "percent")],
)
def test_an_address_with_a_metric_type_only_has_its_measurement(
    page: Page, given: str, measurement: str
) -> None:
    page.goto(f"/#/queries/trend?p.metric_type=memory{given}")
    expect(page.get_by_label("measurement")).to_have_value(measurement)


def test_no_rows_say_what_else_to_ask_for(page: Page) -> None:
    ask(page, "trend?p.measurement=nothing")
    expect(page.locator(".result .empty")).to_contain_text(
        "Ask for more days, another metric type, another measurement or other hosts."
    )


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


def test_a_refresh_that_fails_keeps_the_fleet_until_one_succeeds(
    browser: Browser, cloud: RunningCloud, tmp_path: Path
) -> None:
    port = free_port()
    rows, trouble = ".fleet tbody tr:visible", "section[role=alert]"
    with tab(browser, f"http://127.0.0.1:{port}") as page:
        with chalice_local(cloud.endpoint, tmp_path / "first", port=port):
            page.goto("/")
            page.get_by_label("Filter").fill(SILENT)
            expect(page.locator(rows)).to_have_count(1)
        for _ in range(2):
            page.get_by_role("button", name="Refresh").click()
            expect(page.locator(trouble)).to_have_count(1)
            expect(page.locator(trouble)).to_contain_text("The API does not answer")
            expect(page.locator(rows)).to_have_count(1)
            expect(page.get_by_text("Newest window ended")).to_be_visible()
        with chalice_local(cloud.endpoint, tmp_path / "second", port=port):
            page.locator(trouble).get_by_role("button", name="Retry").click()
            expect(page.locator(trouble)).to_have_count(0)
            expect(page.locator(rows)).to_have_count(1)
            expect(page.get_by_label("Filter")).to_have_value(SILENT)


def test_what_is_not_the_api_s_answer_is_no_fault_of_the_page(page: Page) -> None:
    """Mocked: a proxy answers with a page of its own."""
    page.route("**/alarms", lambda route: route.fulfill(body="<h1>Log in</h1>"))
    page.goto("/#/alarms")
    expect(page.get_by_role("alert")).to_contain_text("answer cannot be read")


def test_an_answer_that_is_left_half_read_is_not_taken_for_an_empty_one(page: Page) -> None:
    """Mocked: the body never ends."""
    page.goto("/#/nothing")
    told = page.evaluate("""async () => {
        const { get, isLeft } = await import('/page/api.js');
        window.fetch = async (_, { signal }) => new Response(new ReadableStream({
            start: stream => signal.addEventListener('abort', () => stream.error(signal.reason)),
        }));
        const leaving = new AbortController();
        setTimeout(() => leaving.abort(), 50);
        return get('hosts', {}, leaving.signal).then(() => 'answered', isLeft);
    }""")
    assert told is True


@pytest.mark.parametrize("place", ["#/constructor", "#/host", "#/nothing"])
def test_an_address_without_a_view_says_so(page: Page, place: str) -> None:
    page.goto(f"/{place}")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")
    assert page.title().startswith("There is no such page")
