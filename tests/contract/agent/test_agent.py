"""The agent: its records, its spool, and delivery exactly once after failures."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chalicelib.collect.sources.host import HostSource
from chalicelib.model import records
from chalicelib.model.metric_types import METRIC_TYPES
from chalicelib.model.windows import Window
from chalicelib.process.checkpoint import RawObjectEvent
from chalicelib.process.processor import process
from infra.__main__ import main
from infra.agent.agent import Agent, HostIdentity, Schedule, back_off
from infra.agent.spool import Spool, SpooledObject, SpoolError, default_folder
from infra.agent.upload import DeliveryError
from tests.conftest import ACCOUNT, BUCKET, REGION, ROOT, SETTINGS, Backend

Eventually = Callable[..., Any]

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = re.compile(r"raw-metrics/\d{4}/\d\d/\d\d/agent-web-1-\d{6}-[0-9a-f]{12}\.json")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def arguments(spool: Path, *more: str) -> list[str]:
    common = ["--bucket", BUCKET, "--spool", str(spool), "--cpu-seconds", "0.05"]
    return ["agent", *common, *(() if "--host" in more else ("--host", "web-1")), *more]


def start(endpoint: str, command: Sequence[str], **changes: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "infra", *command],
        cwd=ROOT,
        env={**os.environ, "AWS_ENDPOINT_URL": endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **changes,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit status and the standard error of a process."""
    _, stderr = process.communicate(timeout=120)
    return process.returncode, stderr


def push(endpoint: str, spool: Path, *more: str, **changes: Any) -> tuple[int, str]:
    return finish(start(endpoint, arguments(spool, "--once", *more), **changes))


def spooled(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


@contextmanager
def closed_port() -> Iterator[str]:
    """An endpoint on a port that is bound, so that no server can listen there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@dataclass
class FakeS3:
    """An HTTP server that stores PUT objects, or responds with `status` and `code`."""

    status: int = 200
    code: str = ""
    on_put: Callable[[], None] = lambda: None
    requests: int = 0
    puts: list[tuple[str, bytes]] = field(default_factory=list)
    endpoint: str = ""

    def respond(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.requests += 1
        if self.status == 200:
            self.puts.append((path.removeprefix(f"/{BUCKET}/"), body))
        self.on_put()
        if self.status == 200:
            return 200, b""
        return self.status, f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()


@pytest.fixture
def fake_s3() -> Iterator[FakeS3]:
    fake = FakeS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, response = fake.respond(self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(response)))
            self.end_headers()
            self.wfile.write(response)

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # tests kill the client
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


def spool_object(folder: Path, time: datetime, body: bytes = b"{}\n") -> SpooledObject:
    spooled = SpooledObject.of(body, host="web-1", time=time)
    with Spool(folder, max_bytes=10**6, log=lambda _: None) as spool:
        spool.add(spooled, body)
    return spooled


# --- Objects and records ----------------------------------------------------------------


def test_an_object_has_one_record_of_each_metric_type(backend: Backend, spool: Path) -> None:
    assert main(arguments(spool, "--once")) == 0
    (key,) = backend.keys()
    sent = [records.decode(line) for line in backend.body(key).splitlines()]
    assert [record.metric_type for record in sent] == list(METRIC_TYPES)
    assert {(record.source, record.resource_id) for record in sent} == {("host", "web-1")}


def test_the_key_has_the_date_and_the_host(backend: Backend, spool: Path) -> None:
    main(arguments(spool, "--once"))
    (key,) = backend.keys()
    assert KEY.fullmatch(key)


def test_the_window_ends_on_a_multiple_of_align(backend: Backend, spool: Path) -> None:
    main(arguments(spool, "--once", "--interval", "7200", "--align", "3600"))
    record = records.decode(backend.body(backend.keys()[0]).splitlines()[0])
    assert (record.window_seconds, record.timestamp.timestamp() % 3600) == (7200, 0)


def test_metric_id_is_computed_from_the_account_and_region_of_the_bucket(
    backend: Backend, spool: Path
) -> None:
    main(arguments(spool, "--once"))
    (key,) = backend.keys()
    process(RawObjectEvent(BUCKET, key, ACCOUNT, REGION), settings=SETTINGS, store=backend.store)
    stored = {item["metric_id"]["S"] for item in backend.items()}
    sent = [records.decode(line) for line in backend.body(key).splitlines()]
    assert stored == {
        str(
            records.metric_id(
                account_id=ACCOUNT,
                region=REGION,
                resource_id="web-1",
                metric_type=record.metric_type,
                window=Window(record.timestamp, 10_800),
            )
        )
        for record in sent
    }


def test_account_and_region_options_are_in_the_records(backend: Backend, spool: Path) -> None:
    main(arguments(spool, "--once", "--account-id", "210987654321", "--region-label", "office"))
    record = records.decode(backend.body(backend.keys()[0]).splitlines()[0])
    assert (record.account_id, record.region) == ("210987654321", "office")


def test_the_bucket_defaults_to_the_environment_variable(
    backend: Backend, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUCKET_NAME", BUCKET)
    assert main(["agent", "--once", "--spool", str(spool), "--cpu-seconds", "0.05"]) == 0
    assert len(backend.keys()) == 1


def test_special_characters_of_a_host_name_are_replaced_in_the_key_only(
    backend: Backend, spool: Path
) -> None:
    main(arguments(spool, "--once", "--host", "büro/1"))
    (key,) = backend.keys()
    assert "/agent-b_ro_1-" in key
    assert records.decode(backend.body(key).splitlines()[0]).resource_id == "büro/1"


def test_a_dry_run_prints_records_without_bucket_or_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["agent", "--dry-run", "--cpu-seconds", "0.05"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [records.decode(line.encode()).metric_type for line in lines] == list(METRIC_TYPES)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_can_print_indented_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["agent", "--dry-run=pretty", "--cpu-seconds", "0.05"])
    assert '\n  "metric_type": "cpu",\n' in capsys.readouterr().out


def test_the_agent_does_not_import_the_local_cloud() -> None:
    script = (
        "import sys; from infra.__main__ import main; main(['agent', '--dry-run']);"
        "print({'moto', 'duckdb', 'sqlglot', 'rich', 'chalice'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


# --- The spool --------------------------------------------------------------------------


def test_the_spool_is_private_to_its_owner(spool: Path) -> None:
    spool_object(spool, NOON)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [spool, *spool.iterdir()]}
    assert modes.pop("spool") == 0o700
    assert set(modes.values()) == {0o600}


def test_a_spool_that_is_writable_by_others_is_an_error(spool: Path) -> None:
    spool.mkdir()
    spool.chmod(0o777)
    with pytest.raises(SpoolError, match="owned or writable by another user"):
        spool_object(spool, NOON)


def test_the_default_spool_respects_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "infra-monitoring" / "spool"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/user")
    assert default_folder() == Path("/home/user/.local/state/infra-monitoring/spool")


def test_a_full_spool_drops_the_oldest_object_logs_it_and_counts_it(spool: Path) -> None:
    logged: list[str] = []
    objects = [
        SpooledObject.of(b"x" * 400, host="web-1", time=NOON + n * timedelta(1)) for n in range(3)
    ]
    with Spool(spool, max_bytes=800, log=logged.append) as opened:
        for each in objects:
            opened.add(each, b"x" * 400)
        assert opened.objects() == objects[1:]
        assert opened.dropped == 1
    assert logged == [
        f"WARNING: DROPPED {objects[0].name}, never sent: the spool {spool} is full"
        " (800 bytes, --max-spool-mb)"
    ]


def test_the_summary_line_counts_dropped_objects(spool: Path) -> None:
    spool_object(spool, NOON)
    with closed_port() as endpoint:
        status, stderr = push(endpoint, spool, "--max-spool-mb", "0.000001")
    assert status == 1
    assert "0 sent, 1 still spooled, 1 dropped" in stderr


def test_an_incomplete_file_is_set_aside_logged_and_not_sent(fake_s3: FakeS3, spool: Path) -> None:
    name = spool_object(spool, NOON).name
    (spool / name).rename(spool / f"{name}.tmp")
    status, stderr = push(fake_s3.endpoint, spool)
    assert status == 0
    assert f"is incomplete; kept as {name}.corrupt, not sent" in stderr
    assert [key for key, _ in fake_s3.puts if "20261122" in key] == []
    assert len(fake_s3.puts) == 1
    assert (spool / f"{name}.corrupt").exists()


def test_a_corrupt_file_is_set_aside_logged_and_does_not_block_others(
    fake_s3: FakeS3, spool: Path
) -> None:
    broken = spool_object(spool, NOON)
    (spool / broken.name).write_bytes(b"{")
    good = spool_object(spool, NOON + timedelta(hours=3))
    _, stderr = push(fake_s3.endpoint, spool)
    assert f"{broken.name} is corrupt" in stderr
    assert broken.key not in dict(fake_s3.puts)
    assert fake_s3.puts[0][0] == good.key


def test_files_of_other_programs_are_not_touched(fake_s3: FakeS3, spool: Path) -> None:
    spool.mkdir(mode=0o700)
    for name in ("notes.json", "notes.tmp", "99999999T999999.000000Z-x-000000000000.json"):
        (spool / name).write_text("mine")
    push(fake_s3.endpoint, spool, "--max-spool-mb", "0.000001")
    assert len(fake_s3.puts) == 1
    assert sum(path.read_text() == "mine" for path in spool.iterdir()) == 3


def test_an_object_that_cannot_be_spooled_is_sent_directly(fake_s3: FakeS3, spool: Path) -> None:
    """A file size limit of 0 bytes simulates a full disk."""
    status, stderr = push(
        fake_s3.endpoint,
        spool,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert (status, len(fake_s3.puts)) == (0, 1)
    assert "cannot be spooled" in stderr
    assert [path.name for path in spool.iterdir()] == ["lock"]


def test_a_second_agent_on_the_same_spool_fails(fake_s3: FakeS3, spool: Path) -> None:
    with Spool(spool, max_bytes=1000, log=lambda _: None):
        status, stderr = push(fake_s3.endpoint, spool)
    assert status == 1
    assert stderr == f"error: another agent (process {os.getpid()}) is using the spool {spool}\n"
    assert fake_s3.requests == 0


# --- Failures of the delivery -----------------------------------------------------------


def test_an_object_stays_in_the_spool_while_the_endpoint_is_down(
    fake_s3: FakeS3, spool: Path
) -> None:
    with closed_port() as endpoint:
        status, stderr = push(endpoint, spool)
    (left,) = spooled(spool)
    assert status == 1
    assert "EndpointConnectionError" in stderr
    assert push(fake_s3.endpoint, spool)[0] == 0
    spooled_object = SpooledObject.from_name(left.name)
    assert spooled_object is not None
    assert fake_s3.puts[0][0] == spooled_object.key
    assert spooled(spool) == []


def test_the_oldest_object_is_sent_first(fake_s3: FakeS3, spool: Path) -> None:
    times = [NOON, NOON - timedelta(days=40), NOON - timedelta(hours=3)]
    objects = [spool_object(spool, each) for each in times]
    push(fake_s3.endpoint, spool)
    sent = [key for key, _ in fake_s3.puts]
    assert sent[:3] == [objects[1].key, objects[2].key, objects[0].key]


def test_an_agent_killed_while_sending_loses_nothing(fake_s3: FakeS3, spool: Path) -> None:
    """SIGKILL while the object is in the spool and the request is open."""
    reached, killed = threading.Event(), threading.Event()
    fake_s3.status = 503

    def hang() -> None:
        reached.set()
        killed.wait(120)

    fake_s3.on_put = hang
    process = start(fake_s3.endpoint, arguments(spool, "--once"))
    assert reached.wait(120)
    process.kill()
    finish(process)
    killed.set()
    (left,) = spooled(spool)
    body = left.read_bytes()
    fake_s3.status, fake_s3.on_put = 200, lambda: None
    assert push(fake_s3.endpoint, spool)[0] == 0
    assert fake_s3.puts[0][1] == body


def test_an_object_is_sent_again_to_the_same_key_if_the_response_was_lost(
    fake_s3: FakeS3, spool: Path
) -> None:
    """SIGKILL after S3 has stored the object and before it responds."""
    processes: list[subprocess.Popen[str]] = []
    started = threading.Event()

    def kill() -> None:
        assert started.wait(120)
        processes[0].kill()

    fake_s3.on_put = kill
    processes.append(start(fake_s3.endpoint, arguments(spool, "--once")))
    started.set()
    finish(processes[0])
    fake_s3.on_put = lambda: None
    push(fake_s3.endpoint, spool)
    sent = [key for key, _ in fake_s3.puts]
    assert sent[0] == sent[1]
    assert fake_s3.puts[0] == fake_s3.puts[1]
    assert len(sent) == 3  # the third is the measurement of the second process


def test_a_missing_bucket_is_an_error_and_the_object_stays_in_the_spool(
    backend: Backend, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(spool, "--once", "--bucket", "no-such-bucket")) == 1
    error = capsys.readouterr().err
    assert "error: S3 refused s3://no-such-bucket/raw-metrics/" in error
    assert "NoSuchBucket" in error
    assert "0 sent, 1 still spooled" in error
    assert len(spooled(spool)) == 1
    assert backend.keys() == []


def test_a_permanent_error_stops_the_sending_at_the_first_object(
    fake_s3: FakeS3, spool: Path
) -> None:
    fake_s3.status, fake_s3.code = 403, "AccessDenied"
    spool_object(spool, NOON)
    status, stderr = push(fake_s3.endpoint, spool)
    assert (status, fake_s3.requests, len(spooled(spool))) == (1, 1, 2)
    assert "AccessDenied: no; the agent needs s3:PutObject on raw-metrics/*" in stderr


def test_a_server_error_is_retried_once(fake_s3: FakeS3, spool: Path) -> None:
    fake_s3.status, fake_s3.code = 503, "SlowDown"
    status, stderr = push(fake_s3.endpoint, spool)
    assert (status, fake_s3.requests, len(spooled(spool))) == (1, 2, 1)
    assert stderr.startswith("warning: S3 refused")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--interval", "100", "--align", "300"),
            "--interval 100 is not a multiple of --align 300",
        ),
        (("--interval", "0"), "0 is not within 1 to 604800 s"),
        (("--max-spool-mb", "nan"), "nan is not a number above 0"),
        (("--once", "--dry-run"), "not allowed with argument"),
    ],
)
def test_a_wrong_option_is_an_error_message(
    more: Sequence[str], message: str, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments(spool, *more))
    except SystemExit as end:
        status = int(str(end.code))
    assert status != 0
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("endpoint", ["no endpoint", "http://[broken"])
def test_a_malformed_endpoint_is_an_error_without_a_traceback(endpoint: str, spool: Path) -> None:
    status, stderr = push(endpoint, spool)
    assert status == 1
    assert "Traceback" not in stderr
    assert len(spooled(spool)) == 1


def test_a_missing_bucket_option_is_an_error_message(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BUCKET_NAME", raising=False)
    assert main(["agent", "--once", "--spool", str(spool)]) == 1
    assert capsys.readouterr().err == "error: no bucket: give --bucket, or set BUCKET_NAME\n"


# --- The loop ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_loop_sends_at_each_scheduled_time_until_a_signal(
    how: int, fake_s3: FakeS3, spool: Path, eventually: Eventually
) -> None:
    process = start(fake_s3.endpoint, arguments(spool, "--interval", "1", "--align", "1"))
    eventually(lambda: len(fake_s3.puts) >= 3)
    process.send_signal(how)
    status, stderr = finish(process)
    assert status == 0
    assert stderr.endswith("stopped\n")
    assert not list(spool.glob("*.tmp"))
    ends = [records.decode(body.splitlines()[0]).timestamp for _, body in fake_s3.puts[:3]]
    # On a busy machine a scheduled time can pass while an object is sent.
    assert ends == sorted(set(ends))


def test_a_signal_stops_the_sending_after_the_current_object(fake_s3: FakeS3, spool: Path) -> None:
    with closed_port() as endpoint:
        for _ in range(3):
            push(endpoint, spool)
    process = start(fake_s3.endpoint, arguments(spool))
    fake_s3.on_put = lambda: process.send_signal(signal.SIGTERM)
    status, stderr = finish(process)
    assert (status, len(fake_s3.puts), len(spooled(spool))) == (0, 1, 2)
    assert stderr.endswith("1 sent, 2 still spooled\nstopped\n")


def test_a_second_signal_aborts_the_current_request(fake_s3: FakeS3, spool: Path) -> None:
    with closed_port() as endpoint:
        push(endpoint, spool)
    process, freed = start(fake_s3.endpoint, arguments(spool)), threading.Event()

    def hang() -> None:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        freed.wait(timeout=120)

    fake_s3.on_put = hang
    status, stderr = finish(process)
    freed.set()
    assert (status, len(spooled(spool))) == (130, 1)
    assert stderr.endswith("stopped\n")
    assert "Traceback" not in stderr


class Simulation:
    """An agent loop with a simulated clock and an S3 that fails the first `failures` requests."""

    def __init__(self, folder: Path, *, hours: float, failures: int, permanent: bool) -> None:
        self.moment = NOON + timedelta(minutes=17)
        self.tries: list[datetime] = []
        self.sent: list[str] = []
        self._end = self.moment + timedelta(hours=hours)
        self._failures, self._permanent = failures, permanent
        with Spool(folder, max_bytes=10**6, log=lambda _: None) as spool:
            source = HostSource(cpu_interval=0.01, now=lambda: self.moment)
            agent = Agent(
                spool,
                self._put,
                source,
                HostIdentity("web-1"),
                Schedule(10_800, 300),
                log=lambda _: None,
                now=lambda: self.moment,
            )
            agent.run_until(self._wait)

    def _put(self, key: str, _: bytes) -> None:
        self.tries.append(self.moment)
        if len(self.tries) <= self._failures:
            raise DeliveryError("down", permanent=self._permanent)
        self.sent.append(key)

    def _wait(self, seconds: float) -> bool:
        self.moment += timedelta(seconds=seconds)
        return self.moment > self._end


def test_scheduled_times_are_multiples_of_the_interval(spool: Path) -> None:
    simulation = Simulation(spool, hours=9, failures=0, permanent=False)
    assert [f"{each:%H:%M:%S}" for each in simulation.tries] == ["15:00:00", "18:00:00", "21:00:00"]


def test_retries_back_off_exponentially(spool: Path) -> None:
    simulation = Simulation(spool, hours=5, failures=6, permanent=False)
    waits = [
        (later - earlier).total_seconds()
        for earlier, later in zip(simulation.tries, simulation.tries[1:], strict=False)
    ]
    assert len(simulation.sent) == 1
    for number, wait in enumerate(waits):
        assert 5 * 2**number <= wait <= 10 * 2**number


def test_a_permanent_error_is_retried_at_the_next_scheduled_time(spool: Path) -> None:
    simulation = Simulation(spool, hours=8, failures=1, permanent=True)
    assert [f"{each:%H:%M}" for each in simulation.tries] == ["15:00", "18:00", "18:00"]
    assert len(simulation.sent) == 2


def test_the_back_off_is_at_most_15_minutes() -> None:
    assert max(back_off(attempt) for attempt in range(2000)) <= 900


# --- docs/agent.md ----------------------------------------------------------------------


GUIDE = ROOT / "docs" / "agent.md"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{GUIDE.name} has no {language} block"
    return [str(each) for each in found]


def test_the_documented_policy_allows_one_action_on_one_prefix() -> None:
    (policy,) = map(json.loads, blocks("json"))
    (statement,) = policy["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "s3:PutObject")
    assert re.fullmatch(r"arn:aws:s3:::[\w-]+/raw-metrics/\*", statement["Resource"])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_documented_systemd_units_are_valid(tmp_path: Path) -> None:
    program = "/opt/infra-monitoring/.venv/bin/python"
    for unit in blocks("ini"):
        name = unit.splitlines()[0].rpartition("/")[2]
        (tmp_path / name).write_text(unit.replace(program, sys.executable))
    timer = tmp_path / "infra-monitoring-agent.timer"
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(timer), str(timer.with_suffix(".service"))],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "infra-monitoring" in line]
    assert (done.returncode, ours) == (0, [])
