"""GET /metrics/{metric_type}: through Chalice, over a table on moto."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from chalice.test import Client

from chalicelib.model.windows import format_utc
from tests.contract.test_app import app_client
from tests.support.api import (
    WINDOW,
    Table,
    assert_conforms,
    get,
    item_of,
    last_scheduled_time,
    moto_table,
    records_of,
)

HOSTS = ("db-1", "web-1", "web-2")
WINDOWS = 4


@pytest.fixture
def table() -> Iterator[Table]:
    with moto_table() as made:
        for window in range(WINDOWS):
            for host in HOSTS:
                made.put(
                    records_of(host, last_scheduled_time() - window * WINDOW, types=("cpu", "disk"))
                )
        yield made


@pytest.fixture
def client(table: Table, tmp_path: Path) -> Iterator[Client]:  # noqa: ARG001 - it is filled
    with app_client(tmp_path, STAGE="prod") as made:
        yield made


def ask(client: Client, path: str = "/metrics/cpu", **query: Any) -> Any:
    status, body = get(client, f"{path}?{urlencode(query)}")
    assert status == 200, body
    return body


def refused(client: Client, path: str = "/metrics/cpu", **query: Any) -> str:
    status, body = get(client, f"{path}?{urlencode(query)}")
    assert (status, body["Code"]) == (400, "BadRequestError")
    return str(body["Message"])


def names(page: Any) -> list[tuple[str, str]]:
    return [(each["timestamp"], each["resource_id"]) for each in page["records"]]


def test_the_last_day_is_given_newest_first(client: Client) -> None:
    page = ask(client)
    assert len(page["records"]) == len(HOSTS) * WINDOWS
    times = [each["timestamp"] for each in page["records"]]
    assert times == sorted(times, reverse=True)
    assert page["cursor"] is None


def test_a_record_is_given_as_it_is_stored_enriched(client: Client) -> None:
    (record,) = (each for each in ask(client, limit=3)["records"] if each["resource_id"] == "db-1")
    assert_conforms(record, "Record")
    assert record["status"] == "ok"
    assert record["measurements"]["utilization"]["max"] == pytest.approx(46.2)
    assert record["window_seconds"] == 10_800
    assert isinstance(record["window_seconds"], int)


def test_from_and_to_are_both_included(client: Client) -> None:
    second = format_utc(last_scheduled_time() - WINDOW)
    page = ask(client, **{"from": second, "to": second})
    assert {each["timestamp"] for each in page["records"]} == {second}
    assert len(page["records"]) == len(HOSTS)


@pytest.mark.parametrize("limit", [1, 4, 5, 12])
@pytest.mark.parametrize("host", ["", "web-1"])
def test_pages_give_every_record_once(limit: int, host: str, client: Client) -> None:
    query = {"resource_id": host} if host else {}
    pages = [ask(client, limit=limit, **query)]
    while pages[-1]["cursor"]:
        pages.append(ask(client, limit=limit, cursor=pages[-1]["cursor"]))
    found = [name for page in pages for name in names(page)]
    assert len(found) == len(set(found)) == WINDOWS * (1 if host else len(HOSTS))
    assert {name for _, name in found} == ({host} if host else set(HOSTS))
    assert all(len(page["records"]) <= limit for page in pages)


def test_a_cursor_holds_its_query(client: Client) -> None:
    """A page of one host goes on with that host, though the request no longer says so."""
    page = ask(client, limit=1, resource_id="web-2")
    assert names(ask(client, cursor=page["cursor"], limit=1)) == [
        (format_utc(last_scheduled_time() - WINDOW), "web-2")
    ]


def test_the_same_parameters_may_stand_beside_a_cursor(client: Client) -> None:
    start = format_utc(last_scheduled_time() - timedelta(days=1))
    page = ask(client, limit=1, **{"from": start})
    assert ask(client, limit=1, cursor=page["cursor"], **{"from": start})["records"]


def test_a_cursor_is_bound_to_its_query(client: Client) -> None:
    cursor = ask(client, limit=1)["cursor"]
    for query in ({"resource_id": "web-1"}, {"to": "2020-01-01T00:00:00Z"}):
        message = refused(client, cursor=cursor, **({"from": "2019-01-01T00:00:00Z"} | query))
        assert message.startswith("the cursor was made for another")
    assert "cursor" in refused(client, "/metrics/disk", cursor=cursor)


def test_a_cursor_that_was_changed_is_refused(client: Client) -> None:
    cursor = ask(client, limit=1)["cursor"]
    for changed in (cursor[:-1], cursor[1:], cursor.swapcase(), f"{cursor}A", f"{cursor}=", "x"):
        assert refused(client, cursor=changed) == "cursor does not belong to this query"


def test_an_expired_record_is_never_given(table: Table, client: Client) -> None:
    """DynamoDB deletes up to two days later."""
    old = records_of("old-1", last_scheduled_time(), types=("cpu",))
    table.put(old, retention_days=0)
    assert {"expires_at", "metric_id"} <= item_of(old[0]).keys()
    assert "old-1" not in {name for _, name in names(ask(client))}
    assert ask(client, resource_id="old-1")["records"] == []


@pytest.mark.parametrize(
    "host", ["web-1' OR '1'='1", "web-1 OR resource_id <> :x", "#type", "'; DROP TABLE x; --"]
)
def test_a_name_is_a_value_and_never_part_of_an_expression(host: str, client: Client) -> None:
    assert ask(client, resource_id=host) == {"records": [], "cursor": None}


def test_another_metric_type_is_not_there(client: Client) -> None:
    status, body = get(client, "/metrics/gpu")
    assert (status, body["Code"]) == (404, "NotFoundError")
    assert body["Message"] == "there is no metric type 'gpu'"


def test_what_is_wrong_is_said(client: Client) -> None:
    assert re.match("limit='0' is not a whole number", refused(client, limit=0))
    assert refused(client, form="x").startswith("unknown parameter 'form'")
    assert refused(client, resource_id="").startswith("resource_id has 0 characters")


def test_a_fault_of_ours_tells_nothing_of_the_inside(tmp_path: Path) -> None:
    """Here a setting is missing."""
    with app_client(tmp_path) as client:
        status, body = get(client, "/hosts")
    assert status == 500
    assert body == {
        "Code": "InternalServerError",
        "Message": "An internal server error occurred.",
    }


@pytest.mark.parametrize(("method", "path"), [("GET", "/hosts"), ("POST", "/runs")])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_are_refused(
    method: str, path: str, site: str, client: Client
) -> None:
    """A browser would send the request, though it would not show them the answer."""
    answer = client.http.request(method, path, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403
    assert answer.json_body["Message"] == "requests from pages of other sites are not allowed"


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1.evil.example", "192.168.1.9:8000"]
)
def test_a_name_that_was_made_to_point_here_is_refused(host: str, client: Client) -> None:
    """DNS rebinding: to a browser the page is of the same origin, and its site is not told."""
    answer = client.http.post("/runs", headers={"Host": host})
    assert answer.status_code == 403
    assert "chalice local accepts the hosts" in answer.json_body["Message"]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_this_machine_may_ask_itself(host: str, client: Client) -> None:
    assert client.http.get("/hosts", headers={"Host": host}).status_code == 200


def test_on_aws_any_name_of_the_api_will_do(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API Gateway has checked the signature."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "infra-monitoring-api")
    assert client.http.get("/hosts", headers={"Host": "api.example"}).status_code == 200


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_our_own_page_and_a_person_may_ask(site: str, client: Client) -> None:
    answer = client.http.request("GET", "/hosts", headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 200
