"""GET /metrics/{metric_type} through Chalice, with a table on moto."""

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
    with moto_table() as created:
        for window in range(WINDOWS):
            for host in HOSTS:
                created.put(
                    records_of(host, last_scheduled_time() - window * WINDOW, types=("cpu", "disk"))
                )
        yield created


@pytest.fixture
def client(table: Table, tmp_path: Path) -> Iterator[Client]:  # noqa: ARG001 - fills the table
    with app_client(tmp_path, STAGE="prod") as created:
        yield created


def get_page(client: Client, path: str = "/metrics/cpu", **query_params: Any) -> Any:
    status, body = get(client, f"{path}?{urlencode(query_params)}")
    assert status == 200, body
    return body


def error_message(client: Client, path: str = "/metrics/cpu", **query_params: Any) -> str:
    status, body = get(client, f"{path}?{urlencode(query_params)}")
    assert (status, body["Code"]) == (400, "BadRequestError")
    return str(body["Message"])


def names(page: Any) -> list[tuple[str, str]]:
    return [(each["timestamp"], each["resource_id"]) for each in page["records"]]


def test_the_default_is_the_last_day_newest_first(client: Client) -> None:
    page = get_page(client)
    assert len(page["records"]) == len(HOSTS) * WINDOWS
    times = [each["timestamp"] for each in page["records"]]
    assert times == sorted(times, reverse=True)
    assert page["cursor"] is None


def test_a_record_has_its_enriched_fields(client: Client) -> None:
    (record,) = (
        each for each in get_page(client, limit=3)["records"] if each["resource_id"] == "db-1"
    )
    assert_conforms(record, "Record")
    assert record["status"] == "ok"
    assert record["measurements"]["utilization"]["max"] == pytest.approx(46.2)
    assert record["window_seconds"] == 10_800
    assert isinstance(record["window_seconds"], int)


def test_from_and_to_are_inclusive(client: Client) -> None:
    second = format_utc(last_scheduled_time() - WINDOW)
    page = get_page(client, **{"from": second, "to": second})
    assert {each["timestamp"] for each in page["records"]} == {second}
    assert len(page["records"]) == len(HOSTS)


@pytest.mark.parametrize("limit", [1, 4, 5, 12])
@pytest.mark.parametrize("host", ["", "web-1"])
def test_pages_contain_every_record_once(limit: int, host: str, client: Client) -> None:
    query_params = {"resource_id": host} if host else {}
    pages = [get_page(client, limit=limit, **query_params)]
    while pages[-1]["cursor"]:
        pages.append(get_page(client, limit=limit, cursor=pages[-1]["cursor"]))
    found = [name for page in pages for name in names(page)]
    assert len(found) == len(set(found)) == WINDOWS * (1 if host else len(HOSTS))
    assert {name for _, name in found} == ({host} if host else set(HOSTS))
    assert all(len(page["records"]) <= limit for page in pages)


def test_a_cursor_contains_its_query(client: Client) -> None:
    """The next page is of the same host, although the request does not repeat its name."""
    page = get_page(client, limit=1, resource_id="web-2")
    assert names(get_page(client, cursor=page["cursor"], limit=1)) == [
        (format_utc(last_scheduled_time() - WINDOW), "web-2")
    ]


def test_a_cursor_allows_the_same_parameters(client: Client) -> None:
    start = format_utc(last_scheduled_time() - timedelta(days=1))
    page = get_page(client, limit=1, **{"from": start})
    assert get_page(client, limit=1, cursor=page["cursor"], **{"from": start})["records"]


def test_a_cursor_rejects_other_parameters(client: Client) -> None:
    cursor = get_page(client, limit=1)["cursor"]
    for changed in ({"resource_id": "web-1"}, {"to": "2020-01-01T00:00:00Z"}):
        message = error_message(
            client, cursor=cursor, **({"from": "2019-01-01T00:00:00Z"} | changed)
        )
        assert message.startswith("the cursor was made for another")
    assert "cursor" in error_message(client, "/metrics/disk", cursor=cursor)


def test_a_modified_cursor_is_rejected(client: Client) -> None:
    cursor = get_page(client, limit=1)["cursor"]
    for changed in (cursor[:-1], cursor[1:], cursor.swapcase(), f"{cursor}A", f"{cursor}=", "x"):
        assert error_message(client, cursor=changed) == "cursor does not belong to this query"


def test_an_expired_record_is_left_out(table: Table, client: Client) -> None:
    """DynamoDB deletes an expired item up to two days late."""
    old = records_of("old-1", last_scheduled_time(), types=("cpu",))
    table.put(old, retention_days=0)
    assert {"expires_at", "metric_id"} <= item_of(old[0]).keys()
    assert "old-1" not in {name for _, name in names(get_page(client))}
    assert get_page(client, resource_id="old-1")["records"] == []


@pytest.mark.parametrize(
    "host", ["web-1' OR '1'='1", "web-1 OR resource_id <> :x", "#type", "'; DROP TABLE x; --"]
)
def test_a_host_name_is_never_part_of_an_expression(host: str, client: Client) -> None:
    assert get_page(client, resource_id=host) == {"records": [], "cursor": None}


def test_an_unknown_metric_type_is_not_found(client: Client) -> None:
    status, body = get(client, "/metrics/gpu")
    assert (status, body["Code"]) == (404, "NotFoundError")
    assert body["Message"] == "there is no metric type 'gpu'"


def test_an_error_message_names_the_mistake(client: Client) -> None:
    assert re.match("limit='0' is not a whole number", error_message(client, limit=0))
    assert error_message(client, form="x").startswith("unknown parameter 'form'")
    assert error_message(client, resource_id="").startswith("resource_id has 0 characters")


def test_an_internal_error_reveals_no_details(tmp_path: Path) -> None:
    """The cause here is a missing setting."""
    with app_client(tmp_path) as client:
        status, body = get(client, "/hosts")
    assert status == 500
    assert body == {
        "Code": "InternalServerError",
        "Message": "An internal server error occurred.",
    }


@pytest.mark.parametrize(("method", "path"), [("GET", "/hosts"), ("POST", "/runs")])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_cross_site_requests_are_rejected(
    method: str, path: str, site: str, client: Client
) -> None:
    """A browser sends such a request, although the page cannot read the response."""
    response = client.http.request(method, path, headers={"Sec-Fetch-Site": site})
    assert response.status_code == 403
    assert response.json_body["Message"] == "requests from pages of other sites are not allowed"


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1.evil.example", "192.168.1.9:8000"]
)
def test_an_unknown_host_header_is_rejected(host: str, client: Client) -> None:
    """DNS rebinding: the browser treats the page as same-origin, so Sec-Fetch-Site is no help."""
    response = client.http.post("/runs", headers={"Host": host})
    assert response.status_code == 403
    assert "chalice local accepts the hosts" in response.json_body["Message"]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_a_loopback_host_header_is_accepted(host: str, client: Client) -> None:
    assert client.http.get("/hosts", headers={"Host": host}).status_code == 200


def test_on_aws_any_host_header_is_accepted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API Gateway has checked the signature."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "infra-monitoring-api")
    assert client.http.get("/hosts", headers={"Host": "api.example"}).status_code == 200


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_same_origin_and_direct_requests_are_accepted(site: str, client: Client) -> None:
    response = client.http.request("GET", "/hosts", headers={"Sec-Fetch-Site": site})
    assert response.status_code == 200
