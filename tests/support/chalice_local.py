"""Start `chalice local` in front of a local cloud on any port."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.conftest import REGION, ROOT
from tests.support.waiting import LIMIT_SECONDS

CHALICE = Path(sys.executable).with_name("chalice")


@contextmanager
def chalice_local(
    endpoint: str, folder: Path, *, stage: str = "local", port: int = 0
) -> Iterator[str]:
    """Serve a stage and yield its URL; `folder` receives the project configuration.

    Stage local is configured with the local cloud's default port. The project is therefore linked
    into `folder`, with a configuration that has the given endpoint. Other stages take the endpoint
    from the environment, like credentials and region.
    """
    folder.mkdir(exist_ok=True)
    for name in ("app.py", "chalicelib"):
        (folder / name).symlink_to(ROOT / name)
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    config["stages"]["local"]["environment_variables"]["AWS_ENDPOINT_URL"] = endpoint
    (folder / ".chalice").mkdir()
    (folder / ".chalice" / "config.json").write_text(json.dumps(config))
    port = port or free_port()
    command = [str(CHALICE), "--project-dir", str(folder), "local", "--stage", stage]
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--no-autoreload", "--port", str(port)],
            env={**os.environ, **quiet, **_credentials(endpoint)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=LIMIT_SECONDS)


def _credentials(endpoint: str) -> dict[str, str]:
    """Endpoint and credentials; the fixtures that set them are not active in module scope."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "operator",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            requests.get(address, timeout=300)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"chalice local did not start:\n{log.read_text()}")


def hides_internals(response: requests.Response) -> bool:
    """Whether an error response exposes no details of the code."""
    body: dict[str, Any] = response.json()
    has_only_message = set(body) == {"Code", "Message"}
    return has_only_message and not re.search(
        r"Traceback|File \"|\.py|botocore|line \d+", response.text
    )
