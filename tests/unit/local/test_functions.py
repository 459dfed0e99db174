"""Execution environments are reused, with a function of three lines."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from infra.local.cloud import LAMBDA_PYTHON
from infra.local.iam.enforcement import Iam
from infra.local.lambda_.environment import FunctionSpec
from infra.local.lambda_.functions import Functions
from tests.conftest import REGION

SOURCE = "import os\ndef handler(event, context):\n    return os.getpid()\n"


@pytest.fixture
def functions(tmp_path: Path) -> Iterator[Functions]:
    created = Functions(
        python=LAMBDA_PYTHON,
        work=tmp_path,
        endpoint="http://127.0.0.1:1",
        log=lambda *_: None,
        assume=Iam().assume,
    )
    yield created
    created.close()


def function(name: str) -> FunctionSpec:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("main.py", SOURCE)
    return FunctionSpec(
        name=name,
        arn=f"arn:aws:lambda:{REGION}:123456789012:function:{name}",
        role="arn:aws:iam::123456789012:role/any",
        handler="main.handler",
        runtime="python3.11",
        region=REGION,
        memory_mb=128,
        timeout=10,
        environment={"SETTING": "old"},
        code=archive.getvalue(),
    )


def invoke(functions: Functions, spec: FunctionSpec) -> int:
    """Invoke the function; return the ID of its process."""
    return int(functions.invoke(spec, b"{}").payload)


def test_the_next_invocation_reuses_the_environment(functions: Functions) -> None:
    spec = function("one")
    assert invoke(functions, spec) == invoke(functions, spec)


def test_a_new_configuration_stops_the_old_environments(functions: Functions) -> None:
    spec = function("one")
    old = invoke(functions, spec)
    new = invoke(functions, replace(spec, environment={"SETTING": "new"}))
    assert not psutil.pid_exists(old)
    assert psutil.pid_exists(new)


def test_environments_of_other_functions_are_kept(functions: Functions) -> None:
    other = invoke(functions, function("other"))
    invoke(functions, function("one"))
    assert psutil.pid_exists(other)
