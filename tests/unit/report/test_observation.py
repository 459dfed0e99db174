"""How long a run is waited for, with a state machine and wiring that say what a test wants."""

from types import SimpleNamespace
from typing import Any

import pytest

from infra.report import observation as observe
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
        "all is done",
        "an event of a good run will be tried again",
        "an event of a failed run will be tried again",
        "an event of a failed run is under way",
        "it runs",
        "it has not started",
    ],
)
def test_a_run_is_waited_for_as_long_as_something_is_to_come(
    statuses: list[str],
    idle: bool,
    only_retries_left: bool,
    settled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observe, "_SETTLE_SECONDS", 0.3)
    assert (
        wait_until_settled(cloud(statuses, idle=idle, only_retries_left=only_retries_left))
        is settled
    )


def test_the_longest_execution_is_waited_for() -> None:
    """Four tries of a branch, each stopped by its TimeoutSeconds, and the waits between them."""
    assert observe._SETTLE_SECONDS > 4 * 45 + 10 + 20 + 40
