"""`chalice local`, as people start it, over a local cloud on whatever port that has."""

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

CHALICE = Path(sys.executable).with_name("chalice")


@contextmanager
def chalice_local(
    endpoint: str, folder: Path, *, stage: str = "local", port: int = 0
) -> Iterator[str]:
    """The address at which a stage is served; `folder` is for its configuration.

    Stage local's endpoint is the local cloud's usual port, so the project is linked into a
    folder of its own with another one in its configuration. Other stages take it from the
    environment, as they do with credentials and region.
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
            process.wait(timeout=30)


def _credentials(endpoint: str) -> dict[str, str]:
    """A person's own; of a module's fixtures, none have been set yet."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "person",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        try:
            requests.get(address, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"chalice local did not start:\n{log.read_text()}")


def is_silent_on_the_inside(answer: requests.Response) -> bool:
    """Whether an error's answer tells nothing of the code."""
    body: dict[str, Any] = answer.json()
    plain = set(body) == {"Code", "Message"}
    return plain and not re.search(r"Traceback|File \"|\.py|botocore|line \d+", answer.text)
