"""The fixes of moto: DynamoDB requests are serialized, and a stopped execution is ABORTED."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import boto3
import pytest
from moto.core.config import default_user_config
from moto.dynamodb.models.table import Table
from moto.server import ThreadedMotoServer
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.utils import TMP_THREADS

from infra.local import moto_fixes

KEY = {"metric_id": {"S": "one"}, "timestamp": {"S": "2026-11-22T12:00:00Z"}}
TABLE = "MotoFixes"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    for _ in range(2):  # as in a process with several local clouds
        moto_fixes.install()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def dynamodb(endpoint: str) -> Iterator[Any]:
    client: Any = boto3.client("dynamodb", endpoint_url=endpoint)
    client.create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in KEY],
        KeySchema=[
            {"AttributeName": name, "KeyType": kind}
            for name, kind in zip(KEY, ("HASH", "RANGE"), strict=True)
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    yield client
    client.delete_table(TableName=TABLE)


def test_a_write_of_a_key_waits_for_a_read_of_it(
    dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, resume = threading.Event(), threading.Event()
    get_item = Table.get_item

    def paused_get_item(*arguments: Any, **options: Any) -> Any:
        if not reading.is_set():
            reading.set()
            resume.wait(timeout=300)
        return get_item(*arguments, **options)

    monkeypatch.setattr(Table, "get_item", paused_get_item)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(dynamodb.get_item, TableName=TABLE, Key=KEY)
        assert reading.wait(timeout=300)
        write = pool.submit(dynamodb.put_item, TableName=TABLE, Item=KEY)
        try:
            with pytest.raises(FutureTimeoutError):
                write.result(timeout=0.5)
        finally:
            resume.set()
        assert "Item" not in read.result()
        write.result()
    assert dynamodb.get_item(TableName=TABLE, Key=KEY)["Item"] == KEY


INNER = {"StartAt": "Inner", "States": {"Inner": {"Type": "Pass", "End": True}}}
NESTED = {"Type": "Parallel", "Branches": [INNER], "Next": "Last"}
STATES = {
    "First": {"Type": "Pass", "Next": "Nested"},
    "Nested": NESTED,
    "Last": {"Type": "Succeed"},
}


@pytest.mark.parametrize("state", ["Nested", "Inner", "Last"])
def test_an_execution_that_is_stopped_between_two_states_is_aborted(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setitem(default_user_config, "stepfunctions", {"execute_state_machine": True})
    reached, resume = threading.Event(), threading.Event()
    moto_next: Any = Environment.next_state_name

    def pause(environment: Environment, name: str) -> None:
        if name == state:
            reached.set()
            resume.wait(timeout=300)
        moto_next.fset(environment, name)

    monkeypatch.setattr(Environment, "next_state_name", moto_next.setter(pause))
    sfn: Any = boto3.client("stepfunctions", endpoint_url=endpoint)
    machine = sfn.create_state_machine(
        name=state,
        definition=json.dumps({"StartAt": "First", "States": STATES}),
        roleArn="arn:aws:iam::123456789012:role/any",
    )["stateMachineArn"]
    arn = sfn.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
    try:
        assert reached.wait(timeout=300)
        sfn.stop_execution(executionArn=arn, error="Operator", cause="by mistake")
        assert sfn.describe_execution(executionArn=arn)["status"] == "ABORTED"
    finally:
        resume.set()
    for thread in TMP_THREADS:
        thread.join(timeout=300)
        assert not thread.is_alive()
    execution = sfn.describe_execution(executionArn=arn)
    found = (execution["status"], execution["error"], execution["cause"])
    assert found == ("ABORTED", "Operator", "by mistake")
    history = sfn.get_execution_history(executionArn=arn)["events"]
    assert history[-1]["type"] == "ExecutionAborted"
