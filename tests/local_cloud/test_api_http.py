"""The API over HTTP: `chalice local` with the records of the running local cloud."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from chalicelib.model.records import encode
from tests.conftest import BUCKET, ROOT, RunningCloud, make_record
from tests.local_cloud.test_pipeline import control, machine_arn
from tests.support.api import assert_conforms, last_scheduled_time
from tests.support.chalice_local import chalice_local, hides_internals
from tests.support.waiting import wait_until

Eventually = Callable[..., Any]

TYPES = {"cpu", "memory", "disk", "network"}


class Api:
    """A client of the API."""

    def __init__(self, address: str) -> None:
        self.address = address

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, f"{self.address}{path}", timeout=300, **options)

    def get(self, path: str, **query_params: Any) -> Any:
        response = self.request("GET", path, params=query_params)
        assert response.status_code == 200, response.text
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in response.headers
        return response.json()

    def error_message(self, status: int, method: str, path: str, **options: Any) -> str:
        response = self.request(method, path, **options)
        assert response.status_code == status, response.text
        assert hides_internals(response)
        return str(response.json()["Message"])

    def query_result(self, name: str, **parameters: Any) -> Any:
        """Run a named query and return its complete result."""
        started = self.request("POST", "/queries", json={"name": name, "parameters": parameters})
        assert started.status_code == 202, started.text

        def ended() -> Any:
            response = self.get(f"/queries/{started.json()['id']}")
            assert_conforms(response, "Answer")
            return response["state"] not in {"QUEUED", "RUNNING"} and response

        return wait_until(ended)


@pytest.fixture(scope="module")
def api(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A client of the API after the first run, with all objects processed."""
    sfn = cloud.client("stepfunctions")

    def processed() -> bool:
        listed = sfn.list_executions(stateMachineArn=machine_arn(cloud))["executions"]
        return bool(listed) and listed[-1]["status"] != "RUNNING" and control(cloud, "idle")

    wait_until(processed)
    with chalice_local(cloud.endpoint, tmp_path_factory.mktemp("project")) as address:
        yield Api(address)


# --- Hosts and records ------------------------------------------------------------------------


def test_health_is_ok(api: Api) -> None:
    assert api.request("GET", "/health").json()["status"] == "ok"


def test_the_fleet_includes_this_machine(api: Api) -> None:
    fleet = api.get("/hosts")
    assert_conforms(fleet, "Fleet")
    host = next(each for each in fleet["hosts"] if set(each["measurements"]) == TYPES)
    assert 0 <= host["measurements"]["memory"]["last"] <= 100


def test_a_host_has_its_newest_records_and_its_history(api: Api) -> None:
    name = next(
        each["resource_id"]
        for each in api.get("/hosts")["hosts"]
        if set(each["measurements"]) == TYPES
    )
    host = api.get(f"/hosts/{quote(name, safe='')}")
    assert_conforms(host, "HostHistory")
    assert set(host["latest"]) == TYPES
    assert host["history"]["memory"]["measurements"]["percent"]["last"][-1] is not None


def test_a_host_name_with_special_characters_is_found(
    api: Api, cloud: RunningCloud, eventually: Eventually
) -> None:
    name = "dns+nodes.example/rack 1:9100"
    line = encode(make_record(resource_id=name, timestamp=last_scheduled_time()))
    cloud.client("s3").put_object(Bucket=BUCKET, Key="raw-metrics/2026/11/22/odd.json", Body=line)
    path = f"/hosts/{quote(name, safe='')}"
    eventually(lambda: api.request("GET", path).status_code == 200)
    assert api.get(path)["resource_id"] == name


@pytest.mark.parametrize("metric_type", sorted(TYPES))
def test_each_metric_type_has_enriched_records(metric_type: str, api: Api) -> None:
    page = api.get(f"/metrics/{metric_type}")
    assert page["records"]
    for record in page["records"]:
        assert_conforms(record, "Record")
        assert record["metric_type"] == metric_type


# --- Runs and alarms --------------------------------------------------------------------------


def test_a_run_has_four_branches_with_durations(api: Api) -> None:
    runs = api.get("/runs")["runs"]
    for run in runs:
        assert_conforms(run, "Run")
    first = runs[-1]
    assert first["status"] == "SUCCEEDED"
    assert {each["metric_type"] for each in first["branches"]} == TYPES
    assert all(each["seconds"] > 0 for each in first["branches"])
    assert first["records"] == 4


def test_a_second_run_cannot_be_started_during_a_run(api: Api, eventually: Eventually) -> None:
    def status(name: str) -> str:
        (run,) = [each for each in api.get("/runs")["runs"] if each["name"] == name]
        return str(run["status"])

    eventually(lambda: api.get("/runs")["runs"][0]["status"] != "RUNNING")
    started = api.request("POST", "/runs")
    assert started.status_code == 202
    name = started.json()["name"]
    assert "a run is in progress" in api.error_message(409, "POST", "/runs")
    eventually(lambda: status(name) == "SUCCEEDED")


def test_alarms_have_a_state_and_a_runbook(api: Api) -> None:
    alarms = api.get("/alarms")["alarms"]
    for alarm in alarms:
        assert_conforms(alarm, "Alarm")
    names = {each["name"] for each in alarms}
    assert {"InfraMonitoring-HighCPU", "InfraMonitoring-Page"} <= names
    (cpu,) = [each for each in alarms if each["name"] == "InfraMonitoring-HighCPU"]
    assert cpu["runbook"] == "docs/runbooks/HighCPU.md"


# --- Queries ----------------------------------------------------------------------------------


def test_every_named_query_succeeds(api: Api) -> None:
    queries = api.get("/queries")["queries"]
    assert {"trend", "top-hosts", "idle-hosts"} <= {each["name"] for each in queries}
    for query in queries:
        assert_conforms(query, "NamedQuery")
        required = {
            each["name"]: "web-1" for each in query["parameters"] if each["default"] is None
        }
        response = api.query_result(query["name"], **required)
        assert response["state"] == "SUCCEEDED", (query["name"], response["reason"])
        assert response["columns"]


def test_a_query_result_has_pages(api: Api) -> None:
    complete = api.query_result("data-quality", days=2)
    assert len(complete["rows"]) >= 4
    path = f"/queries/{complete['id']}"
    rows, page = [], api.get(path, limit=1)
    while True:
        rows += page["rows"]
        if page["cursor"] is None:
            break
        page = api.get(path, limit=1, cursor=page["cursor"])
    assert rows == complete["rows"]
    assert all(isinstance(value, (int, float, str, type(None))) for row in rows for value in row)


def test_a_result_whose_rows_are_deleted_is_not_found(api: Api, cloud: RunningCloud) -> None:
    """The bucket deletes rows after 7 days; Athena keeps the execution for 45."""
    query_id = api.query_result("data-quality")["id"]
    cloud.client("s3").delete_object(Bucket=BUCKET, Key=f"athena-results/{query_id}.csv")
    assert "the rows were deleted" in api.error_message(404, "GET", f"/queries/{query_id}")


def test_a_cursor_of_another_result_is_rejected(api: Api) -> None:
    one, other = api.query_result("data-quality"), api.query_result("data-quality")
    cursor = api.get(f"/queries/{one['id']}", limit=1)["cursor"]
    for path in (f"/queries/{other['id']}", "/metrics/cpu"):
        message = api.error_message(400, "GET", path, params={"cursor": cursor})
        assert message == "cursor does not belong to this query"


INJECTIONS = (
    "cpu' OR '1'='1",
    "cpu'; DROP TABLE metrics; --",
    "cpu' UNION SELECT labels, ts FROM metrics --",
    "cpu'' OR 1=1",
    "\\' OR 1=1 --",
    "cpu\u2019 OR 1=1",
    "?",
)


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_a_text_parameter_finds_no_rows(text: str, api: Api) -> None:
    response = api.query_result("by-label", metric_type=text)
    assert (response["state"], response["rows"]) == ("SUCCEEDED", [])


@pytest.mark.parametrize("text", ["1 OR 1=1", "1; DROP TABLE metrics", "1)", "(SELECT 1)", "1e400"])
def test_sql_in_a_number_parameter_is_rejected(text: str, api: Api) -> None:
    body = {"name": "data-quality", "parameters": {"days": text}}
    assert "days" in api.error_message(400, "POST", "/queries", json=body)


def test_the_tables_exist_after_the_injection_attempts(api: Api) -> None:
    """Runs after the tests above."""
    assert api.query_result("data-quality")["rows"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("", 400, "the body is not"),
        ("[]", 400, "the body is not"),
        ("{", 400, "the body is not"),
        ('{"parameters": {}}', 400, "`name`"),
        ('{"name": 1}', 400, "the body is not"),
        ('{"name": "trend", "sql": "SELECT 1"}', 400, "sql"),
        ('{"name": "trend", "parameters": {"x": [1]}}', 400, "the body is not"),
        ('{"name": "trend", "parameters": {"color": 1}}', 400, "has no parameter color"),
        ('{"name": "\\ud800"}', 400, "the body is not"),
        ("[" * 100_000, 400, "the body is not"),
        ('{"name": "SELECT 1"}', 404, "there is no query 'SELECT 1'"),
    ],
)
def test_an_invalid_query_request_is_rejected(
    body: str, status: int, reason: str, api: Api
) -> None:
    headers = {"Content-Type": "application/json"}
    assert reason in api.error_message(status, "POST", "/queries", data=body, headers=headers)


def test_a_query_of_another_work_group_is_not_found(api: Api, cloud: RunningCloud) -> None:
    athena = cloud.client("athena")
    execution = athena.start_query_execution(QueryString="SELECT 1", WorkGroup="primary")
    path = f"/queries/{execution['QueryExecutionId']}"
    assert api.error_message(404, "GET", path).startswith("there is no query")


@pytest.mark.parametrize("query_id", ["0", "00000000-0000-0000-0000-000000000000", "a%20b"])
def test_an_unknown_query_is_not_found(query_id: str, api: Api) -> None:
    assert api.error_message(404, "GET", f"/queries/{query_id}").startswith("there is no query")


# --- Errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/metrics/gpu", 404),
        ("/metrics/cpu?limit=501", 400),
        ("/metrics/cpu?from=now", 400),
        ("/metrics/cpu?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 400),
        ("/metrics/cpu?cursor=", 400),
        ("/hosts?limit=1", 400),
        ("/hosts/unknown", 404),
        ("/hosts/unknown?region=", 400),
        ("/runs?limit=51", 400),
        ("/alarms?x=1", 400),
        ("/queries?x=1", 400),
    ],
)
def test_an_invalid_request_is_an_error_with_a_message(path: str, status: int, api: Api) -> None:
    assert len(api.error_message(status, "GET", path)) > 10


def test_a_body_other_than_json_is_rejected(api: Api) -> None:
    headers = {"Content-Type": "text/plain"}
    assert api.error_message(415, "POST", "/queries", data="x", headers=headers)


def test_an_unsupported_method_is_rejected(api: Api) -> None:
    response = api.request("DELETE", "/runs")
    assert (response.status_code, sorted(re.findall(r"\w+", response.headers["Allow"]))) == (
        405,
        ["GET", "POST"],
    )


def test_stage_prod_is_served_with_the_callers_credentials(
    api: Api, cloud: RunningCloud, tmp_path: Path
) -> None:
    """The local cloud uses the names of prod, so both stages have the same data."""
    with chalice_local(cloud.endpoint, tmp_path, stage="prod") as address:
        prod = Api(address)
        assert names(prod) == names(api) != []
        assert prod.get("/runs") == api.get("/runs")
        assert prod.get("/queries") == api.get("/queries")


def names(api: Api) -> list[str]:
    return sorted(each["resource_id"] for each in api.get("/hosts")["hosts"])


# The examples use curl; `.ci/run` requires it.
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: apt-get install curl")
def test_the_documented_examples_work(api: Api, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    examples = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert examples.count("http://127.0.0.1:8000") == 1
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", examples.replace("http://127.0.0.1:8000", api.address)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"state": "SUCCEEDED"' in done.stdout
    assert "docs/runbooks/HighCPU.md" in done.stdout


def test_without_aws_the_error_reveals_no_details(tmp_path: Path) -> None:
    """The AWS endpoint is unreachable."""
    with chalice_local("http://127.0.0.1:1", tmp_path) as address:
        api = Api(address)
        assert api.request("GET", "/health").status_code == 200
        for path in ("/hosts", "/metrics/cpu", "/alarms", "/queries", "/runs"):
            message = api.error_message(503, "GET", path)
            assert message == "a call of AWS failed (EndpointConnectionError); try again"
