"""The API over HTTP: `chalice local` over the running local cloud, with what it has measured."""

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
from tests.conftest import (
    BUCKET,
    ROOT,
    RunningCloud,
    make_record,
)
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

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, f"{self.address}{path}", timeout=300, **options)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.ask("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers
        return answer.json()

    def refused(self, status: int, method: str, path: str, **options: Any) -> str:
        answer = self.ask(method, path, **options)
        assert answer.status_code == status, answer.text
        assert hides_internals(answer)
        return str(answer.json()["Message"])

    def answer(self, name: str, **parameters: Any) -> Any:
        """A named query's whole answer."""
        started = self.ask("POST", "/queries", json={"name": name, "parameters": parameters})
        assert started.status_code == 202, started.text

        def ended() -> Any:
            answer = self.get(f"/queries/{started.json()['id']}")
            assert_conforms(answer, "Answer")
            return answer["state"] not in {"QUEUED", "RUNNING"} and answer

        return wait_until(ended)


@pytest.fixture(scope="module")
def api(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Over a cloud whose clock has ticked once, and whose objects are processed."""
    sfn = cloud.client("stepfunctions")

    def processed() -> bool:
        listed = sfn.list_executions(stateMachineArn=machine_arn(cloud))["executions"]
        return bool(listed) and listed[-1]["status"] != "RUNNING" and control(cloud, "idle")

    wait_until(processed)
    with chalice_local(cloud.endpoint, tmp_path_factory.mktemp("project")) as address:
        yield Api(address)


# --- What was measured ------------------------------------------------------------------------


def test_health_is_open(api: Api) -> None:
    assert api.ask("GET", "/health").json()["status"] == "ok"


def test_this_machine_is_in_the_fleet(api: Api) -> None:
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


def test_a_name_with_odd_letters_can_be_asked_for(
    api: Api, cloud: RunningCloud, eventually: Eventually
) -> None:
    name = "dns+nodes.example/rack 1:9100"
    line = encode(make_record(resource_id=name, timestamp=last_scheduled_time()))
    cloud.client("s3").put_object(Bucket=BUCKET, Key="raw-metrics/2026/11/22/odd.json", Body=line)
    path = f"/hosts/{quote(name, safe='')}"
    eventually(lambda: api.ask("GET", path).status_code == 200)
    assert api.get(path)["resource_id"] == name


@pytest.mark.parametrize("metric_type", sorted(TYPES))
def test_records_of_each_type_are_there_enriched(metric_type: str, api: Api) -> None:
    page = api.get(f"/metrics/{metric_type}")
    assert page["records"]
    for record in page["records"]:
        assert_conforms(record, "Record")
        assert record["metric_type"] == metric_type


# --- Runs and alarms --------------------------------------------------------------------------


def test_a_run_has_four_branches_with_their_times(api: Api) -> None:
    runs = api.get("/runs")["runs"]
    for run in runs:
        assert_conforms(run, "Run")
    first = runs[-1]
    assert first["status"] == "SUCCEEDED"
    assert {each["metric_type"] for each in first["branches"]} == TYPES
    assert all(each["seconds"] > 0 for each in first["branches"])
    assert first["records"] == 4


def test_one_run_at_a_time_can_be_started(api: Api, eventually: Eventually) -> None:
    def status(name: str) -> str:
        (run,) = [each for each in api.get("/runs")["runs"] if each["name"] == name]
        return str(run["status"])

    eventually(lambda: api.get("/runs")["runs"][0]["status"] != "RUNNING")
    started = api.ask("POST", "/runs")
    assert started.status_code == 202
    name = started.json()["name"]
    assert "a run is in progress" in api.refused(409, "POST", "/runs")
    eventually(lambda: status(name) == "SUCCEEDED")


def test_alarms_have_their_state_and_their_runbook(api: Api) -> None:
    alarms = api.get("/alarms")["alarms"]
    for alarm in alarms:
        assert_conforms(alarm, "Alarm")
    names = {each["name"] for each in alarms}
    assert {"InfraMonitoring-HighCPU", "InfraMonitoring-Page"} <= names
    (cpu,) = [each for each in alarms if each["name"] == "InfraMonitoring-HighCPU"]
    assert cpu["runbook"] == "docs/runbooks/HighCPU.md"


# --- Queries ----------------------------------------------------------------------------------


def test_every_named_query_can_be_asked(api: Api) -> None:
    queries = api.get("/queries")["queries"]
    assert {"trend", "top-hosts", "idle-hosts"} <= {each["name"] for each in queries}
    for query in queries:
        assert_conforms(query, "NamedQuery")
        needed = {each["name"]: "web-1" for each in query["parameters"] if each["default"] is None}
        answer = api.answer(query["name"], **needed)
        assert answer["state"] == "SUCCEEDED", (query["name"], answer["reason"])
        assert answer["columns"]


def test_an_answer_comes_in_pages(api: Api) -> None:
    whole = api.answer("data-quality", days=2)
    assert len(whole["rows"]) >= 4
    path = f"/queries/{whole['id']}"
    rows, page = [], api.get(path, limit=1)
    while True:
        rows += page["rows"]
        if page["cursor"] is None:
            break
        page = api.get(path, limit=1, cursor=page["cursor"])
    assert rows == whole["rows"]
    assert all(isinstance(value, (int, float, str, type(None))) for row in rows for value in row)


def test_an_answer_whose_rows_are_gone_says_so(api: Api, cloud: RunningCloud) -> None:
    """The bucket deletes them after 7 days; Athena knows the query for 45."""
    identity = api.answer("data-quality")["id"]
    cloud.client("s3").delete_object(Bucket=BUCKET, Key=f"athena-results/{identity}.csv")
    assert "and these are gone" in api.refused(404, "GET", f"/queries/{identity}")


def test_a_cursor_of_another_answer_is_refused(api: Api) -> None:
    one, other = api.answer("data-quality"), api.answer("data-quality")
    cursor = api.get(f"/queries/{one['id']}", limit=1)["cursor"]
    for path in (f"/queries/{other['id']}", "/metrics/cpu"):
        message = api.refused(400, "GET", path, params={"cursor": cursor})
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
def test_sql_in_a_parameter_is_a_text_and_finds_nothing(text: str, api: Api) -> None:
    answer = api.answer("by-label", metric_type=text)
    assert (answer["state"], answer["rows"]) == ("SUCCEEDED", [])


@pytest.mark.parametrize("text", ["1 OR 1=1", "1; DROP TABLE metrics", "1)", "(SELECT 1)", "1e400"])
def test_sql_in_the_place_of_a_number_is_refused(text: str, api: Api) -> None:
    body = {"name": "data-quality", "parameters": {"days": text}}
    assert "days" in api.refused(400, "POST", "/queries", json=body)


def test_the_tables_are_there_after_all_that(api: Api) -> None:
    """Runs behind the attempts above."""
    assert api.answer("data-quality")["rows"]


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
        ('{"name": "trend", "parameters": {"nobody": 1}}', 400, "has no parameter nobody"),
        ('{"name": "\\ud800"}', 400, "the body is not"),
        ("[" * 100_000, 400, "the body is not"),
        ('{"name": "SELECT 1"}', 404, "there is no query 'SELECT 1'"),
    ],
)
def test_only_named_queries_with_their_parameters_start(
    body: str, status: int, reason: str, api: Api
) -> None:
    headers = {"Content-Type": "application/json"}
    assert reason in api.refused(status, "POST", "/queries", data=body, headers=headers)


def test_another_work_groups_query_is_not_there(api: Api, cloud: RunningCloud) -> None:
    athena = cloud.client("athena")
    theirs = athena.start_query_execution(QueryString="SELECT 1", WorkGroup="primary")
    path = f"/queries/{theirs['QueryExecutionId']}"
    assert api.refused(404, "GET", path).startswith("there is no query")


@pytest.mark.parametrize("identity", ["0", "00000000-0000-0000-0000-000000000000", "a%20b"])
def test_an_unknown_query_is_not_there(identity: str, api: Api) -> None:
    assert api.refused(404, "GET", f"/queries/{identity}").startswith("there is no query")


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
        ("/hosts/nobody", 404),
        ("/hosts/nobody?region=", 400),
        ("/runs?limit=51", 400),
        ("/alarms?x=1", 400),
        ("/queries?x=1", 400),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    path: str, status: int, api: Api
) -> None:
    assert len(api.refused(status, "GET", path)) > 10


def test_what_is_no_json_is_not_taken(api: Api) -> None:
    headers = {"Content-Type": "text/plain"}
    assert api.refused(415, "POST", "/queries", data="x", headers=headers)


def test_another_method_is_not_allowed(api: Api) -> None:
    answer = api.ask("DELETE", "/runs")
    assert (answer.status_code, sorted(re.findall(r"\w+", answer.headers["Allow"]))) == (
        405,
        ["GET", "POST"],
    )


def test_stage_prod_is_served_with_a_persons_own_credentials(
    api: Api, cloud: RunningCloud, tmp_path: Path
) -> None:
    """The local cloud has prod's names, so what is there is the same."""
    with chalice_local(cloud.endpoint, tmp_path, stage="prod") as address:
        person = Api(address)
        assert names(person) == names(api) != []
        assert person.get("/runs") == api.get("/runs")
        assert person.get("/queries") == api.get("/queries")


def names(api: Api) -> list[str]:
    return sorted(each["resource_id"] for each in api.get("/hosts")["hosts"])


# What people paste is curl; `.ci/run` has it.
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: apt-get install curl")
def test_the_examples_of_the_docs_work_when_pasted(api: Api, tmp_path: Path) -> None:
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


def test_without_aws_the_answer_says_so_and_no_more(tmp_path: Path) -> None:
    """Nothing listens where AWS would be."""
    with chalice_local("http://127.0.0.1:1", tmp_path) as address:
        alone = Api(address)
        assert alone.ask("GET", "/health").status_code == 200
        for path in ("/hosts", "/metrics/cpu", "/alarms", "/queries", "/runs"):
            message = alone.refused(503, "GET", path)
            assert message == "AWS refused or failed (EndpointConnectionError); try again"
