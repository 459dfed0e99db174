"""The page in Chromium, served by `chalice local` in front of a running local cloud."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from benchmarks.page import sample_fleet
from chalicelib.model.metric_types import MetricType
from chalicelib.model.records import Measurement, Record
from tests.conftest import RunningCloud, start_cloud, stop_cloud
from tests.support.browser import (
    DESKTOP,
    PHONE,
    ColorScheme,
    accessibility_violations,
    chromium,
    needs_chromium,
    scrolls_horizontally,
    tab,
)
from tests.support.chalice_local import chalice_local, free_port

pytestmark = needs_chromium

HOSTS = 6
SILENT = "api-003"
AGENTLESS = "i-0bare"  # an instance without the agent: it has CPU and disk reads only
ALL_HOSTS = HOSTS + 2  # plus this machine and the agentless instance
VIEWS = {
    "fleet": "#/",
    "host": f"#/host/{sample_fleet.name_of(0)}?range=7d",
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
    """A separate local cloud, without the hosts of other tests."""
    running = start_cloud()
    yield running
    stop_cloud(running)


@pytest.fixture(scope="module")
def address(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the page. The cloud has this machine and seven hosts, one without new data."""
    last = sample_fleet.last_scheduled_time()
    for number in range(HOSTS):
        ends = sample_fleet.ends(24, last)
        host_ends = ends[:-1] if sample_fleet.name_of(number) == SILENT else ends
        sample_fleet.put(cloud.client("s3"), sample_fleet.records(number, host_ends))
    sample_fleet.put(cloud.client("s3"), agentless_records(sample_fleet.ends(8, last)))
    sample_fleet.wait_until_processed(cloud.endpoint, seconds=120)
    with chalice_local(cloud.endpoint, tmp_path_factory.mktemp("project")) as served:
        yield served


def agentless_records(ends: list[datetime]) -> Iterator[Record]:
    measurements_by_type: dict[MetricType, dict[str, Measurement]] = {
        "cpu": {"utilization": Measurement(unit="percent", last=42.5)},
        "disk": {"ebs_read_bytes": Measurement(unit="bytes", last=5000.0)},
    }
    for end, (metric_type, measurements) in product(ends, measurements_by_type.items()):
        yield Record(
            schema_version=1,
            timestamp=end,
            metric_type=metric_type,
            resource_id=AGENTLESS,
            window_seconds=int(sample_fleet.WINDOW.total_seconds()),
            measurements=measurements,
        )


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A browser page. The test fails if the page logs a console error."""
    errors: list[str] = []
    with tab(browser, address, console_errors=errors) as opened:
        yield opened
    assert errors == []


def show(page: Page, view: str) -> None:
    """Open a view and wait until its data is loaded."""
    page.goto("about:blank")
    page.goto(f"/{VIEWS[view]}")
    expect(page.locator("main h1")).to_be_visible()
    if view == "host":
        expect(page.locator("canvas")).to_have_count(4)
    elif view == "query":
        page.get_by_role("button", name="Run query").click()
        expect(page.locator(".result .figure")).to_be_visible()
    else:
        expect(page.locator(".fleet tbody tr, main .panel").first).to_be_visible()
    expect(page.locator("[aria-busy]")).to_have_count(0)


# --- The fleet ----------------------------------------------------------------------------------


def test_every_host_has_four_small_charts(page: Page) -> None:
    show(page, "fleet")
    expect(page.locator(".fleet tbody tr")).to_have_count(ALL_HOSTS)
    host = page.locator(".fleet tbody tr", has_text=sample_fleet.name_of(0))
    expect(host.locator("svg.spark[role=img] path.line")).to_have_count(4)


def test_missing_hosts_are_listed_at_the_top(page: Page) -> None:
    show(page, "fleet")
    expect(page.get_by_role("region", name="Missing hosts")).to_contain_text(SILENT)
    expect(page.locator(".fleet tbody tr.missing")).to_contain_text(SILENT)


def test_filter_hides_other_hosts_and_is_stored_in_the_url(page: Page) -> None:
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
    names = page.locator(".fleet tbody .name a").all_text_contents()
    ours = [name for name in names if re.fullmatch(r"[a-z]+-\d{3}", name)]
    assert ours == sorted(ours)


def test_refresh_keeps_focus_and_text_of_the_filter(page: Page) -> None:
    show(page, "fleet")
    page.get_by_label("Filter").fill("db")
    with page.expect_response(re.compile(r"/hosts$")) as response:
        page.get_by_role("button", name="Refresh").evaluate("button => button.click()")
    assert response.value.request.all_headers()["cache-control"] == "no-cache"
    expect(page.locator("[aria-busy]")).to_have_count(0)
    expect(page.get_by_label("Filter")).to_be_focused()
    page.keyboard.type("-")
    expect(page.get_by_label("Filter")).to_have_value("db-")
    expect(page.locator(".fleet tbody tr:visible")).to_have_count(1)


def test_age_of_the_newest_window_is_updated(page: Page) -> None:
    page.clock.install()
    show(page, "fleet")
    expect(page.get_by_text("No newer window")).to_have_count(0)
    page.clock.fast_forward("10:00:00")
    expect(page.get_by_text("No newer window")).to_be_visible()
    expect(page.locator(".title .sub")).to_contain_text("10\u202fh ago")


def test_back_restores_scroll_position_and_focus(browser: Browser, address: str) -> None:
    with tab(browser, address, size=PHONE) as page:
        show(page, "fleet")
        last = page.locator(".fleet .name a").last
        last.focus()
        before = page.evaluate("scrollY")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        expect(page.locator(".facts .status")).to_be_visible()
        page.go_back()
        expect(last).to_be_focused()
        assert before > 0
        # One line of text: the height of the title differs while the fleet is loading.
        assert abs(page.evaluate("scrollY") - before) <= 20


# --- One host -----------------------------------------------------------------------------------


def test_host_view_shows_the_history(page: Page) -> None:
    show(page, "fleet")
    page.get_by_role("link", name=sample_fleet.name_of(1)).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(sample_fleet.name_of(1))
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.locator("canvas")).to_have_count(4)
    expect(page.get_by_role("region", name="CPU history")).to_contain_text("Critical 80")


def test_chart_has_visible_content(page: Page) -> None:
    show(page, "host")
    colours = page.locator("canvas").first.evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    assert colours > 10


def test_changing_the_range_loads_it_and_keeps_the_focus(page: Page) -> None:
    show(page, "host")
    with page.expect_response(re.compile(r"/hosts/")) as response:
        page.get_by_role("link", name="30 d").press("Enter")
    history = response.value.json()
    assert (
        history["from"]
        < f"{sample_fleet.last_scheduled_time() - 9 * 8 * sample_fleet.WINDOW:%Y-%m-%d}"
    )
    expect(page.get_by_role("link", name="30 d")).to_be_focused()
    expect(page.get_by_role("link", name="30 d")).to_have_attribute("aria-current", "true")


def test_chart_values_are_available_as_a_table(page: Page) -> None:
    show(page, "host")
    page.get_by_text("CPU as a table").click()
    table = page.get_by_role("region", name="CPU, newest first")
    expect(table.locator("tbody tr")).to_have_count(24)


def test_measurements_without_a_chart_are_listed(page: Page) -> None:
    page.goto(f"/#/host/{AGENTLESS}")
    expect(page.locator("canvas")).to_have_count(1)
    disk = page.get_by_role("region", name="Disk history")
    expect(disk).to_contain_text("These measurements have no chart")
    page.get_by_text("All 2 measurements").click()
    expect(page.get_by_role("region", name="All measurements")).to_contain_text("ebs_read_bytes")


def test_host_view_shows_a_missing_host_as_missing(page: Page) -> None:
    page.goto(f"/#/host/{SILENT}")
    expect(page.locator(".facts .status.missing svg.icon.missing")).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("no data in the newest window")


def test_percentage_is_not_rounded_up_to_a_threshold(page: Page) -> None:
    page.goto("/#/nothing")
    source = """async values => {
        const { measure } = await import('/page/format.js');
        return values.map(value => measure(value, 'percent'));
    }"""
    texts = page.evaluate(source, [79.96, 80, 80.04, 8.2, 0.7, 99.99])
    assert texts == [f"{each}\u202f%" for each in ("79.9", "80", "80.0", "8.2", "0.7", "99.9")]


# --- Alarms, runs, queries ------------------------------------------------------------------------


def test_alarm_shows_its_runbook(page: Page) -> None:
    show(page, "alarms")
    alarm = page.locator(".alarms li").first
    alarm.locator("summary").click()
    assert re.search(r"docs/runbooks/\w+\.md", page.locator(".alarms").first.text_content() or "")


def test_run_now_starts_a_run_and_shows_its_end(page: Page) -> None:
    show(page, "runs")
    before = page.locator(".run").count()
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_text(re.compile("The run succeeded"))).to_be_visible(timeout=60_000)
    expect(page.locator(".run")).to_have_count(before + 1)
    expect(page.locator(".run").first.locator(".branches li")).to_have_count(4)


def test_alarm_title_is_next_to_its_marker_on_a_phone(browser: Browser, address: str) -> None:
    with tab(browser, address, size=PHONE) as page:
        show(page, "alarms")
        offsets = page.locator(".alarms summary").evaluate_all(
            "all => all.map(each => each.firstElementChild.getBoundingClientRect().top"
            " - each.getBoundingClientRect().top)"
        )
    assert len(offsets) > 3
    assert max(offsets) < 16


def test_run_now_keeps_the_focus(page: Page) -> None:
    """Mocked: the started run never appears in the list."""
    page.route("**/runs", only("POST", lambda route: route.fulfill(status=202, json={"name": "x"})))
    show(page, "runs")
    page.get_by_role("button", name="Run now").press("Enter")
    expect(page.get_by_text("Run started. The list updates automatically.")).to_be_visible()
    expect(page.get_by_role("button", name="Run now")).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_role("button", name="Run now")).to_be_focused()


def test_polling_of_a_run_continues_after_failed_polls(browser: Browser, address: str) -> None:
    """Mocked: the newest run does not end, and requests fail."""
    with tab(browser, address) as page:
        page.clock.install()
        page.route("**/runs", changed(lambda body: body["runs"][0].update(RUNNING)))
        show(page, "runs")
        listed = page.locator(".run").count()
        page.route("**/runs", lambda route: route.abort())
        for failed in range(1, 5):
            expect(page.locator(".run")).to_have_count(listed)
            with page.expect_request("**/runs"):
                page.clock.fast_forward(2_000 * 2 ** (failed - 1))
            if failed < 4:
                expect(page.locator("main .message", has_text="retrying")).to_be_visible()
                expect(page.locator("main [aria-busy]")).to_have_count(0)
        expect(page.get_by_role("alert")).to_contain_text("The API is not responding")
        start = page.get_by_role("button", name="Run now")
        expect(start).not_to_have_attribute("aria-disabled", "true")
        page.unroute("**/runs")
        page.get_by_role("button", name="Retry").click()
        expect(page.get_by_role("alert")).to_have_count(0)


RUNNING = {"status": "RUNNING", "stop": None, "seconds": None}


def only(method: str, handle: Callable[[Route], None]) -> Callable[[Route], None]:
    """A route handler for one HTTP method; other requests continue."""
    return lambda route: handle(route) if route.request.method == method else route.fallback()


def changed(change: Callable[[Any], object]) -> Callable[[Route], None]:
    """A route handler that changes the JSON body of the API response."""

    def handle(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        change(body)
        route.fulfill(response=response, json=body)

    return handle


def test_result_is_shown_as_bars_and_as_a_table(page: Page) -> None:
    show(page, "query")
    expect(page.locator(".bars li")).to_have_count(ALL_HOSTS)
    page.get_by_role("button", name="Table").click()
    expect(page.locator(".result table")).to_contain_text(sample_fleet.name_of(0))


def test_result_url_opens_the_result_again(page: Page) -> None:
    show(page, "query")
    page.get_by_role("button", name="Table").click()
    link = page.url
    with page.expect_request(re.compile(r"/queries/.")):
        page.goto("about:blank")
        page.goto(link)
    expect(page.locator(".result table")).to_contain_text(sample_fleet.name_of(0))


def test_result_over_time_is_drawn_as_lines(page: Page) -> None:
    page.goto("/#/queries/trend?p.resource=web-%25")
    page.get_by_role("button", name="Run query").click()
    expect(page.locator(".result canvas")).to_be_visible()
    expect(page.locator(".result .key")).to_have_count(2)


def run_query(page: Page, query: str) -> None:
    """Run a query with the parameters in its URL and wait for the result."""
    page.goto("about:blank")
    page.goto(f"/#/queries/{query}")
    page.get_by_role("button", name="Run query").press("Enter")
    expect(page.locator(".result .facts")).to_be_visible()


def test_disk_forecast_has_a_bar_for_each_disk(page: Page) -> None:
    run_query(page, "disk-forecast?p.resource=web-%25")
    expect(page.get_by_label("Show", exact=True)).to_have_value("days_left")
    names = page.locator(".bars .name").all_text_contents()
    measurements = ("percent", "percent:/", "percent:/var")
    assert sorted(names) == sorted(f"web-00{n} {name}" for n in (1, 2) for name in measurements)


def test_last_seen_is_not_used_as_the_time_axis(page: Page) -> None:
    run_query(page, "idle-hosts?p.below_percent=101")
    expect(page.locator(".bars li")).to_have_count(ALL_HOSTS)


def test_rows_by_day_are_grouped_into_lines(page: Page) -> None:
    run_query(page, "data-quality")
    keys = page.locator(".result .key")
    assert sorted(keys.all_text_contents()) == ["cpu", "disk", "memory", "network"]


def test_line_skips_times_of_other_lines_and_breaks_at_gaps(page: Page) -> None:
    page.goto("/#/nothing")
    aligned = page.evaluate("""async () => {
        const { align } = await import('/page/chart_series.js');
        const a = new Map([[0, 1], [10, 2], [20, null], [30, 3], [60, 4]]);
        const { times, lines } = align([['a', a], ['b', new Map([[5, 7], [15, 8]])]]);
        const text = value => value === undefined ? 'over' : String(value);
        return [times, ...lines.map(([, values]) => values.map(text).join(' '))];
    }""")
    assert aligned == [
        [0, 5, 10, 15, 20, 30, 45, 60],
        "1 over 2 over null 3 null 4",
        "over 7 over 8 over over over over",
    ]


def test_days_are_utc_and_times_are_local(browser: Browser, address: str) -> None:
    with tab(browser, address, timezone_id="America/Bogota") as page:
        run_query(page, "daily?p.resource=web-001")
        label = page.locator(".plot").get_attribute("aria-label")
        page.get_by_role("button", name="Table").click()
        expect(page.locator(".result th", has_text="dt (UTC)")).to_be_visible()
        cells = page.locator(".result tbody td:nth-child(2)").all_text_contents()
        first, *_, last = [datetime.fromisoformat(each) for each in cells]
        assert f"{first.day} {first:%b} to {last.day} {last:%b} (UTC)" in str(label)
        run_query(page, "trend?p.resource=web-001&as=table")
        end = page.locator(".result tbody time").last
        utc = datetime.fromisoformat(str(end.get_attribute("datetime")))
        here = utc.astimezone(timezone(timedelta(hours=-5)))
        assert utc.hour % 3 == 0
        expect(end).to_have_text(f"{here.day} {here:%b}, {here:%H:%M}")


def test_chart_of_a_partial_result_is_marked_as_partial(page: Page) -> None:
    """Mocked: the last row is on the next page of the result."""
    page.route("**/queries/*", only("GET", changed(remove_last_row)))
    run_query(page, "trend?p.resource=web-%25")
    expect(page.locator("figcaption")).to_contain_text("1 of 2+")
    expect(page.locator("figcaption")).to_contain_text(
        re.compile(r"first \d+ rows only; more rows are available")
    )
    assert page.locator(".result .key").all_text_contents() == ["web-001"]


def remove_last_row(result: Any) -> None:
    if result["state"] == "SUCCEEDED":
        result["rows"].pop()
        result["cursor"] = "more"


def test_failed_load_of_the_next_rows_can_be_retried(browser: Browser, address: str) -> None:
    """Mocked: the last row is on the next page, which fails twice."""
    attempts: list[str] = []
    row: list[Any] = []

    def handle(result: Any) -> None:
        row[:] = result["rows"][-1:]
        remove_last_row(result)

    def more(route: Route) -> None:
        attempts.append(route.request.url)
        if len(attempts) < 3:
            route.fulfill(status=503, json={"Code": "x", "Message": "Athena is not responding"})
        else:
            route.fulfill(json={"rows": row, "cursor": None})

    with tab(browser, address) as page:
        page.route("**/queries/*", only("GET", changed(handle)))
        page.route("**/queries/*cursor=more*", more)
        run_query(page, "trend?p.resource=web-001&as=table")
        shown = page.locator(".result tbody tr")
        expect(shown.first).to_be_visible()
        before = shown.count()
        load = page.get_by_role("button", name="Load the next")
        for number in (1, 2):
            load.press("Enter")
            expect(page.get_by_role("alert")).to_have_count(1)
            expect(load).not_to_have_attribute("aria-disabled", "true")
            assert len(attempts) == number
        load.press("Enter")
        expect(shown).to_have_count(before + 1)
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_role("region", name="Query result")).to_be_focused()


def test_result_keeps_its_parameters_when_a_field_changes(page: Page) -> None:
    run_query(page, "top-hosts?p.hosts=2")
    expect(page.get_by_role("button", name="Run query")).to_be_focused()
    page.get_by_label("hosts").fill("5")
    page.get_by_role("button", name="Table").click()
    expect(page.locator(".query-parameters")).to_contain_text("hosts 2")
    assert "p.hosts=2&" in page.url


def test_metric_type_sets_its_default_measurement(page: Page) -> None:
    page.goto("/#/queries/trend")
    page.get_by_label("metric type").fill("memory")
    expect(page.get_by_label("measurement")).to_have_value("percent")
    page.get_by_label("measurement").fill("used")
    page.get_by_label("metric type").fill("disk")
    expect(page.get_by_label("measurement")).to_have_value("used")


@pytest.mark.parametrize(
    ("query", "measurement"),
    [("", "percent"), ("&p.measurement=used", "used"), ("&p.measurement=percent", "percent")],
)
def test_url_with_only_a_metric_type_sets_its_default_measurement(
    page: Page, query: str, measurement: str
) -> None:
    page.goto(f"/#/queries/trend?p.metric_type=memory{query}")
    expect(page.get_by_label("measurement")).to_have_value(measurement)


def test_no_rows_message_suggests_other_parameters(page: Page) -> None:
    run_query(page, "trend?p.measurement=nothing")
    expect(page.locator(".result .empty")).to_contain_text(
        "Try more days, another metric type, another measurement or other hosts."
    )


# --- Accessibility --------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_view_has_no_accessibility_violations(page: Page, view: str) -> None:
    show(page, view)
    schemes: tuple[ColorScheme, ...] = ("light", "dark")
    for scheme, size in product(schemes, (DESKTOP, PHONE)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": size[0], "height": size[1]})
        assert (scheme, size, accessibility_violations(page)) == (scheme, size, [])


def test_axe_detects_a_missing_label(page: Page) -> None:
    show(page, "fleet")
    page.evaluate("document.querySelector('label[for=filter]').remove()")
    page.evaluate("document.getElementById('filter').placeholder = ''")
    assert [each.split(":")[0] for each in accessibility_violations(page)] == ["label"]


@pytest.mark.parametrize("view", VIEWS)
def test_view_fits_the_width_of_a_phone(browser: Browser, address: str, view: str) -> None:
    with tab(browser, address, size=PHONE) as page:
        show(page, view)
        assert not scrolls_horizontally(page)


def test_page_can_be_used_with_the_keyboard_only(page: Page) -> None:
    """Skip link, filter, host link, range and the windows of a chart."""
    show(page, "fleet")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    press_until(page, "#filter")
    page.keyboard.type(sample_fleet.name_of(4))
    press_until(page, ".fleet .name a")
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
    """Press Tab until an element that matches the selector has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab does not reach {selector}")


def test_page_sends_requests_only_to_its_own_origin(browser: Browser, address: str) -> None:
    requested: list[str] = []
    with tab(browser, address) as page:
        page.on("request", lambda request: requested.append(request.url))
        for view in VIEWS:
            show(page, view)
    assert len(requested) > 20
    assert {url for url in requested if not url.startswith(address)} == set()


def test_markup_in_a_host_name_is_escaped(browser: Browser, address: str) -> None:
    """The host does not exist; the error message contains its name."""
    name = "<img src=x onerror=alert(1)>"
    with tab(browser, address) as page:
        page.goto(f"/#/host/{quote(name, safe='')}")
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        expect(page.get_by_role("alert")).to_contain_text(name)
        expect(page.locator("main img")).to_have_count(0)


# --- Errors and empty states ----------------------------------------------------------------------


def test_unreachable_cloud_is_explained_until_it_is_available(
    browser: Browser, tmp_path: Path
) -> None:
    """The API is running without the local cloud; Retry works once the cloud is started."""
    port = free_port()
    with (
        chalice_local(f"http://127.0.0.1:{port}", tmp_path) as served,
        tab(browser, served) as page,
    ):
        page.goto("/")
        error = page.get_by_role("alert").filter(has_text="The fleet could not be read")
        expect(error).to_contain_text("check that it is running (make up)")
        expect(error.get_by_role("button", name="Retry")).to_be_visible()
        cloud = start_cloud("--port", str(port), "--no-tick")
        try:
            error.get_by_role("button", name="Retry").click()
            expect(page.get_by_text("No host has reported yet").first).to_be_visible()
            assert accessibility_violations(page) == []
            expect(page.get_by_role("alert")).to_have_count(0)
            page.get_by_role("link", name="Go to Runs").click()
            expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
        finally:
            stop_cloud(cloud)
        page.get_by_role("link", name="Fleet").click()
        expect(error).to_be_visible(timeout=60_000)
        assert accessibility_violations(page) == []


def test_unreachable_api_is_explained(
    browser: Browser, cloud: RunningCloud, tmp_path: Path
) -> None:
    with tab(browser, "http://127.0.0.1") as page:
        with chalice_local(cloud.endpoint, tmp_path) as served:
            page.goto(served)
            expect(page.locator(".fleet")).to_be_visible()
        page.get_by_role("button", name="Refresh").click()
        expect(page.get_by_role("alert").first).to_contain_text("The API is not responding")


def test_failed_refresh_keeps_the_fleet(
    browser: Browser, cloud: RunningCloud, tmp_path: Path
) -> None:
    port = free_port()
    rows, error = ".fleet tbody tr:visible", "section[role=alert]"
    with tab(browser, f"http://127.0.0.1:{port}") as page:
        with chalice_local(cloud.endpoint, tmp_path / "first", port=port):
            page.goto("/")
            page.get_by_label("Filter").fill(SILENT)
            expect(page.locator(rows)).to_have_count(1)
        for _ in range(2):
            page.get_by_role("button", name="Refresh").click()
            expect(page.locator(error)).to_have_count(1)
            expect(page.locator(error)).to_contain_text("The API is not responding")
            expect(page.locator(rows)).to_have_count(1)
            expect(page.get_by_text("Newest window ended")).to_be_visible()
        with chalice_local(cloud.endpoint, tmp_path / "second", port=port):
            page.locator(error).get_by_role("button", name="Retry").click()
            expect(page.locator(error)).to_have_count(0)
            expect(page.locator(rows)).to_have_count(1)
            expect(page.get_by_label("Filter")).to_have_value(SILENT)


def test_non_json_response_is_explained(page: Page) -> None:
    """Mocked: a proxy responds with a login page."""
    page.route("**/alarms", lambda route: route.fulfill(body="<h1>Log in</h1>"))
    page.goto("/#/alarms")
    expect(page.get_by_role("alert")).to_contain_text("response cannot be read")


def test_aborted_response_is_not_taken_for_an_empty_one(page: Page) -> None:
    """Mocked: the response body never ends."""
    page.goto("/#/nothing")
    aborted = page.evaluate("""async () => {
        const { get, isAborted } = await import('/page/api.js');
        window.fetch = async (_, { signal }) => new Response(new ReadableStream({
            start: stream => signal.addEventListener('abort', () => stream.error(signal.reason)),
        }));
        const abort = new AbortController();
        setTimeout(() => abort.abort(), 50);
        return get('hosts', {}, abort.signal).then(() => 'completed', isAborted);
    }""")
    assert aborted is True


@pytest.mark.parametrize("fragment", ["#/constructor", "#/host", "#/nothing"])
def test_unknown_url_shows_page_not_found(page: Page, fragment: str) -> None:
    page.goto(f"/{fragment}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Page not found")
    assert page.title().startswith("Page not found")
