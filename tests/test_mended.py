"""What moto does otherwise than AWS, and the local cloud does not."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from typing import Any

import boto3
import pytest
from moto.dynamodb.models.table import Table
from moto.server import ThreadedMotoServer

from infra.local import mended

KEY = {"metric_id": {"S": "one"}, "timestamp": {"S": "2026-11-22T12:00:00Z"}}
TABLE = "OneAtATime"


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    mended.install()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client: Any = boto3.client("dynamodb", endpoint_url=f"http://{host}:{port}")
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
    server.stop()


def test_a_write_of_a_key_waits_until_a_read_of_it_is_done(
    dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    get_item = Table.get_item

    def slow(*arguments: Any, **options: Any) -> Any:
        if not reading.is_set():
            reading.set()
            go_on.wait(timeout=30)
        return get_item(*arguments, **options)

    monkeypatch.setattr(Table, "get_item", slow)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(dynamodb.get_item, TableName=TABLE, Key=KEY)
        assert reading.wait(timeout=30)
        written = pool.submit(dynamodb.put_item, TableName=TABLE, Item=KEY)
        try:
            with pytest.raises(NotDone):
                written.result(timeout=0.5)
        finally:
            go_on.set()
        assert "Item" not in read.result()
        written.result()
    assert dynamodb.get_item(TableName=TABLE, Key=KEY)["Item"] == KEY
