"""Athena of the local cloud by itself."""

import threading
from pathlib import Path

import pytest
from moto.athena.models import AthenaBackend
from moto.athena.responses import AthenaResponse

from infra.local import athena

from .conftest import ACCOUNT, REGION


def test_no_thread_stays_when_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in (
        (AthenaBackend, "start_query_execution"),
        (AthenaResponse, "get_query_execution"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # restored at the end
    close = athena.install(lambda _: None, tmp_path)
    backend = AthenaBackend(REGION, ACCOUNT)
    backend.start_query_execution("SELECT 1", "", {}, "none", None)
    assert queries()
    close()
    assert queries() == []


def queries() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("athena")]
