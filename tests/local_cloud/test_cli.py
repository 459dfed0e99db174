"""The command line: what it prints, how it fails, and that nothing of it stays behind."""

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

TICK = {
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
        timeout=120,
        check=False,
    )


def test_help_names_every_command() -> None:
    text = infra("--help").stdout
    assert all(
        command in text for command in ("run", "up", "lint", "agent", "verify", "redrive", "replay")
    )


def test_run_ends_0_with_a_report_of_everything() -> None:
    done = infra("run")
    assert done.returncode == 0, done.stderr
    for words in (
        "SUCCEEDED",
        "InvokeCPUCollector",
        "DynamoDB InfraMetrics",
        "S3 raw-metrics/",
        "S3 processed/",
        "InfraMonitoring: run succeeded",
        "FROM infra_monitoring.metrics",
        "data-collector",
        "log-processor",
        "of the second delivery",
        "All is well.",
    ):
        assert words in done.stdout, words


def test_settings_can_be_overridden_and_show_in_the_result() -> None:
    done = infra("run", "--set", "MEMORY_THRESHOLDS=0,0")
    assert done.returncode == 0, done.stderr
    assert "critical" in done.stdout


def test_a_setting_that_does_not_exist_is_refused_by_name() -> None:
    done = infra("run", "--set", "NO_SUCH=1", "CPU_THRESHOLDS=1,2")
    assert done.returncode == 1
    assert "--set NO_SUCH: no such setting; there are" in done.stderr


def test_an_assignment_without_a_value_is_refused() -> None:
    done = infra("up", "--set", "CPU_THRESHOLDS")
    assert done.returncode == 2
    assert "'CPU_THRESHOLDS' is not NAME=VALUE" in done.stderr


def test_a_bad_setting_makes_the_function_fail_and_says_so() -> None:
    running = start_cloud("--no-tick", "--set", "CPU_THRESHOLDS=90,80")
    try:
        answer = running.client("lambda").invoke(
            FunctionName="data-collector", Payload=json.dumps(TICK)
        )
        failure = json.loads(answer["Payload"].read())
    finally:
        stop_cloud(running)
    assert failure["errorType"] == "SettingsError"
    assert "CPU_THRESHOLDS" in failure["errorMessage"]


def test_a_run_that_does_not_end_in_time_is_reported_as_still_running() -> None:
    """Functions that refuse to start are tried again for 70 seconds, longer than it waits."""
    code = (
        "import runpy; from infra import observe;"
        " observe._SETTLE_SECONDS = 3; runpy.run_module('infra', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--set", "CPU_THRESHOLDS=90,80"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "still running after" in done.stdout
    assert "Not all is well" in done.stdout
    assert "second delivery" not in done.stdout
    assert not _beside_progress(done.stderr)


@pytest.mark.parametrize("step", ["deploying the app", "waiting until every object is processed"])
def test_ctrl_c_in_a_run_is_one_word(step: str) -> None:
    """Its functions refuse to start, so moto's threads sleep between the tries."""
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
    assert _beside_progress(rest) == ["stopped"]


def _beside_progress(text: str) -> list[str]:
    return [line for line in text.splitlines() if not re.match(r" *\d+\.\d s  ", line)]


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = infra("up", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "cannot be used (Address already in use); choose another with --port" in line


def test_a_missing_interpreter_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cloud_module, "LAMBDA_PYTHON", Path("/nowhere/bin/python"))
    assert main(["run"]) == 1
    assert "interpreter /nowhere/bin/python is missing: run `make setup`" in capfd.readouterr().err


def test_a_failed_deployment_is_one_clear_line(
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
def test_it_stops_whole(how: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    running = start_cloud()
    group = os.getpgid(running.process.pid)
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert len(children) >= 2, "the functions are processes of their own"
    stop_cloud(running, how)
    assert running.process.returncode == 0
    psutil.wait_procs(children, timeout=5)
    left = [each for each in psutil.process_iter() if _group(each.pid) == group]
    assert left == []
    assert list(tmp_path.iterdir()) == []


def test_functions_do_not_outlive_a_killed_cloud() -> None:
    running = start_cloud()
    children = psutil.Process(running.process.pid).children(recursive=True)
    running.process.kill()
    running.process.wait()
    assert running.process.stdout is not None
    running.process.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def test_chalice_local_answers_health() -> None:
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
    until = time.monotonic() + 20
    while True:
        try:
            return requests.get(url, timeout=5).json()
        except requests.ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
