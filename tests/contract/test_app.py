"""The handlers of the Chalice app, called through chalice.test.Client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from chalice.app import Chalice, IAMAuthorizer
from chalice.test import Client
from moto import mock_aws

import app
from chalicelib.model.errors import SettingsError
from chalicelib.model.metric_types import METRIC_TYPES
from tests.conftest import BUCKET, ENVIRONMENT, REGION, ROOT, Backend
from tests.unit.notify.test_messages import RESOLVED, alarm_event


@contextmanager
def app_client(folder: Path, **changes: str) -> Iterator[Client]:
    """The app as stage prod with these variables; its configuration is written to `folder`."""
    clear_caches()
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    config["stages"]["prod"]["environment_variables"] = {"METRIC_SOURCES": "host", **changes}
    (folder / ".chalice").mkdir()
    (folder / ".chalice" / "config.json").write_text(json.dumps(config))
    with Client(app.app, stage_name="prod", project_dir=str(folder)) as client:
        yield client
    clear_caches()


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Client]:
    """The app without AWS; it measures this machine."""
    with app_client(tmp_path) as client:
        yield client


@pytest.fixture
def client(backend: Backend, offline: Client) -> Client:  # noqa: ARG001 - starts moto
    """The app with AWS on moto."""
    return offline


def clear_caches() -> None:
    factories = (app.get_settings, app.get_store, app.get_sources)
    for factory in (*factories, app.get_service, app.get_notifier_settings, app.get_notifier_ports):
        factory.cache_clear()


def scheduled(client: Client, **detail: str) -> dict[str, object]:
    event = client.events.generate_cw_event(
        source="aws.events",
        detail_type="Scheduled Event",
        detail=detail,
        resources=[],
        region=REGION,
    )
    event |= {"time": "2026-11-22T18:04:10Z"}
    return dict(event)


def test_health_does_not_use_aws(offline: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The AWS endpoint is unreachable."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    response = offline.http.get("/health")
    assert response.status_code == 200
    assert response.json_body["status"] == "ok"


def test_a_scheduled_event_collects_all_four_metric_types(client: Client, backend: Backend) -> None:
    response = client.lambda_.invoke("data-collector", scheduled(client)).payload
    assert [result["metric_type"] for result in response["results"]] == list(METRIC_TYPES)
    assert len(backend.items()) == len(METRIC_TYPES)


def test_a_branch_collects_its_metric_type(client: Client, backend: Backend) -> None:
    client.lambda_.invoke("data-collector", scheduled(client, metric_type="memory"))
    assert [item["metric_type"]["S"] for item in backend.items()] == ["memory"]


def test_an_object_created_event_is_processed(
    client: Client,
    backend: Backend,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client.lambda_.invoke("data-collector", scheduled(client, metric_type="disk"))
    (key,) = backend.keys("raw-metrics/")
    event = client.events.generate_cw_event(
        source="aws.s3",
        detail_type="Object Created",
        detail={"bucket": {"name": BUCKET}, "object": {"key": key}},
        resources=[],
        region=REGION,
    )
    with caplog.at_level("INFO"):
        response = client.lambda_.invoke("log-processor", event).payload
    assert (response["status"], response["records"]) == ("PROCESSED", 1)
    assert "processed_at" in backend.items()[0]
    assert caplog.messages[-1] == "processed"
    assert vars(caplog.records[-1])["records"] == 1
    line = json.loads(capsys.readouterr().out.splitlines()[-2])
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("InfraMonitoring", [["service"]])
    names = {each["Name"]: line[each["Name"]] for each in directive["Metrics"]}
    assert names == {
        "RecordsReceived": [1.0],
        "RecordsStored": [1.0],
    }


def test_an_alarm_is_published_to_the_topic(tmp_path: Path) -> None:
    with mock_aws():
        topic = boto3.client("sns").create_topic(Name="any")["TopicArn"]
        # Chalice's test client does not support the variables of single functions.
        settings = {"RUNBOOK_URL": "docs/runbooks", "SUCCESS_DIGEST": "EveryRun", "STAGE": "prod"}
        settings |= {"TOPIC_ARN": topic, "PAGES_TOPIC_ARN": topic}
        with app_client(tmp_path, **settings) as client:
            response = client.lambda_.invoke("notifier", alarm_event(**RESOLVED)).payload
    assert (response["published"], response["state"]) == (True, "OK")


def test_an_error_names_every_missing_setting(tmp_path: Path) -> None:
    clear_caches()
    with Client(app.app, project_dir=str(tmp_path)) as client:
        event = scheduled(client)
        with pytest.raises(SettingsError) as caught:
            client.lambda_.invoke("data-collector", event)
    required = [name for name in ENVIRONMENT if not name.startswith("NODE_EXPORTER_")]
    assert len(caught.value.problems) == len(required)


def test_importing_the_app_creates_no_client() -> None:
    """Work at import time delays every cold start."""
    code = """
import botocore.session

def fail(*_, **__):
    raise AssertionError("a client was created")

botocore.session.Session.create_client = fail
import app
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_app_does_not_import_the_api_modules() -> None:
    """They are imported at the first request, so other cold starts stay short."""
    code = "import sys, app; print(*sorted(n for n in sys.modules if n.startswith('chalicelib')))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = set(done.stdout.split())
    assert {each for each in found if each.startswith("chalicelib.api")} == {
        "chalicelib.api",
        "chalicelib.api.routes",
    }
    assert (
        not {
            "chalicelib.aws.record_table",
            "chalicelib.aws.athena",
            "chalicelib.model.named_queries",
        }
        & found
    )


def open_routes(chalice: Chalice) -> set[str]:
    """The routes without IAM authorization."""
    return {
        path
        for path, methods in chalice.routes.items()
        for entry in methods.values()
        if not isinstance(entry.authorizer, IAMAuthorizer)
    }


def test_every_route_except_health_requires_iam() -> None:
    assert open_routes(app.app) == {"/health"}


def test_open_routes_are_those_without_an_authorizer() -> None:
    chalice = Chalice(app_name="open-and-authorized")
    chalice.route("/authorized", authorizer=IAMAuthorizer())(dict)
    chalice.route("/open")(dict)
    assert open_routes(chalice) == {"/open"}
