"""The command line: output, errors, and a complete shutdown."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests

from infra.__main__ import main
from infra.local import cloud as cloud_module
from infra.local.package import CHALICE
from tests.conftest import ROOT, start_cloud, stop_cloud
from tests.support.waiting import LIMIT_SECONDS, wait_until

SCHEDULED_EVENT = {
    "version": "0",
    "id": "by-hand",
    "time": "2026-11-20T03:00:00Z",
    "account": "123456789012",
    "region": "eu-west-1",
    "source": "aws.events",
    "detail-type": "Scheduled Event",
    "resources": [],
    "detail": {},
}


def infra(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_help_lists_every_command() -> None:
    text = infra("--help").stdout
    assert all(
        command in text for command in ("run", "up", "lint", "agent", "verify", "redrive", "replay")
    )


def test_run_prints_a_complete_report_and_exits_with_0() -> None:
    done = infra("run")
    assert done.returncode == 0, done.stderr
    for text in (
        "SUCCEEDED",
        "InvokeCPUCollector",
        "DynamoDB InfraMetrics",
        "S3 raw-metrics/",
        "S3 processed/",
        "InfraMonitoring: run succeeded",
        "FROM infra_monitoring.metrics",
        "data-collector",
        "log-processor",
        "a second, warm run",
        "All checks passed.",
    ):
        assert text in done.stdout, text


def test_set_overrides_settings() -> None:
    done = infra("run", "--set", "MEMORY_THRESHOLDS=0,0")
    assert done.returncode == 0, done.stderr
    assert "critical" in done.stdout


def test_an_unknown_setting_is_an_error() -> None:
    done = infra("run", "--set", "NO_SUCH=1", "CPU_THRESHOLDS=1,2")
    assert done.returncode == 1
    assert "--set NO_SUCH: unknown; the settings are" in done.stderr


def test_an_assignment_without_a_value_is_an_error() -> None:
    done = infra("up", "--set", "CPU_THRESHOLDS")
    assert done.returncode == 2
    assert "'CPU_THRESHOLDS' is not NAME=VALUE" in done.stderr


def test_an_invalid_setting_fails_the_function_with_its_name() -> None:
    running = start_cloud("--no-tick", "--set", "CPU_THRESHOLDS=90,80")
    try:
        response = running.client("lambda").invoke(
            FunctionName="data-collector", Payload=json.dumps(SCHEDULED_EVENT)
        )
        failure = json.loads(response["Payload"].read())
    finally:
        stop_cloud(running)
    assert failure["errorType"] == "SettingsError"
    assert "CPU_THRESHOLDS" in failure["errorMessage"]


def test_a_run_that_exceeds_the_timeout_is_reported_as_still_running() -> None:
    """Functions with an invalid setting are retried for 70 seconds, longer than the timeout."""
    code = (
        "import runpy; from infra.report import observation;"
        " observation._SETTLE_SECONDS = 3; runpy.run_module('infra', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--set", "CPU_THRESHOLDS=90,80"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "still running after" in done.stdout
    assert "Some checks failed" in done.stdout
    assert "a second, warm run" not in done.stdout
    assert not _without_progress(done.stderr)


@pytest.mark.parametrize("step", ["deploying the app", "waiting until every object is processed"])
def test_ctrl_c_prints_one_word(step: str) -> None:
    """The functions fail because of an invalid setting, so moto's threads sleep between retries."""
    with subprocess.Popen(
        [sys.executable, "-m", "infra", "run", "--set", "CPU_THRESHOLDS=90,80"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if step in line:
                break
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert _without_progress(rest) == ["stopped"]


def _without_progress(text: str) -> list[str]:
    return [line for line in text.splitlines() if not re.match(r" *\d+\.\d s  ", line)]


def test_a_port_in_use_is_an_error_message() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = infra("up", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "is not available (Address already in use); choose another with --port" in line


def test_a_missing_interpreter_is_an_error_message(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cloud_module, "LAMBDA_PYTHON", Path("/missing/bin/python"))
    assert main(["run"]) == 1
    message = "interpreter /missing/bin/python does not exist: run `make setup`"
    assert message in capfd.readouterr().err


def test_a_failed_deployment_is_an_error_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "storage.yaml"
    text = (ROOT / "infra" / "storage.yaml").read_text()
    template.write_text(text.replace("InfraMonitoring-TableName", "Misspelt-TableName"))
    monkeypatch.setattr(cloud_module, "STORAGE", template)
    assert main(["run"]) == 1
    error = capfd.readouterr().err
    assert "stack infra-monitoring was not created: " in error
    assert "Traceback" not in error


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_processes_and_removes_all_files(
    how: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    running = start_cloud()
    group = os.getpgid(running.process.pid)
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert len(children) >= 2, "each function runs in its own process"
    stop_cloud(running, how)
    assert running.process.returncode == 0
    psutil.wait_procs(children, timeout=LIMIT_SECONDS)
    left = [each for each in psutil.process_iter() if _group(each.pid) == group]
    assert left == []
    assert list(tmp_path.iterdir()) == []


def test_functions_end_with_a_killed_cloud() -> None:
    running = start_cloud()
    children = psutil.Process(running.process.pid).children(recursive=True)
    running.process.kill()
    running.process.wait()
    assert running.process.stdout is not None
    running.process.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=LIMIT_SECONDS)
    assert alive == []


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def test_chalice_local_serves_health() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*CHALICE, "local", "--stage", "local", "--no-autoreload", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert _get(f"http://127.0.0.1:{port}/health") == {"status": "ok", "version": "0.1.0"}
    finally:
        process.terminate()
        process.wait()


def _get(url: str) -> object:
    def answer() -> object:
        try:
            return requests.get(url, timeout=300).json()
        except requests.ConnectionError:
            return None

    return wait_until(answer)
