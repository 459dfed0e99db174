"""Waiting for a run, with a fake state machine and fake wiring."""

from types import SimpleNamespace
from typing import Any

import pytest

from infra.report import observation
from infra.report.observation import wait_until_settled


def cloud(statuses: list[str], *, idle: bool, only_retries_left: bool) -> Any:
    outputs = [{"OutputKey": "StateMachineArn", "OutputValue": "arn"}]
    executions = [{"status": status} for status in statuses]
    client = SimpleNamespace(
        describe_stacks=lambda **_: {"Stacks": [{"Outputs": outputs}]},
        list_executions=lambda **_: {"executions": executions},
    )
    wiring = SimpleNamespace(idle=idle, only_retries_left=only_retries_left)
    return SimpleNamespace(client=lambda _: client, wiring=wiring)


@pytest.mark.parametrize(
    ("statuses", "idle", "only_retries_left", "settled"),
    [
        (["SUCCEEDED"], True, True, True),
        (["SUCCEEDED"], False, True, False),
        (["FAILED"], False, True, True),
        (["FAILED"], False, False, False),
        (["RUNNING", "SUCCEEDED"], True, True, False),
        ([], True, True, False),
    ],
    ids=[
        "succeeded, idle",
        "succeeded, waiting for a retry",
        "failed, waiting for a retry",
        "failed, an event is pending",
        "running",
        "not started",
    ],
)
def test_the_wait_ends_when_no_event_is_pending(
    statuses: list[str],
    idle: bool,
    only_retries_left: bool,
    settled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observation, "_SETTLE_SECONDS", 300 if settled else 0.3)
    assert (
        wait_until_settled(cloud(statuses, idle=idle, only_retries_left=only_retries_left))
        is settled
    )


def test_the_timeout_exceeds_the_longest_execution() -> None:
    """Four tries of a branch, each ended by TimeoutSeconds, and the waits between them."""
    assert observation._SETTLE_SECONDS > 4 * 45 + 10 + 20 + 40
