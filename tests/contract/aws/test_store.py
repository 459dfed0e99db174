"""The store: API limits, unprocessed items and translated errors."""

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import ANY, Stubber

from chalicelib.aws.store import MetricStore, create_store
from chalicelib.model.dynamodb import key
from chalicelib.model.errors import ObjectNotFoundError, StorageError
from chalicelib.model.items import PREVIOUS_ATTRIBUTES, raw_item
from tests.conftest import BUCKET, Backend, make_record


def items(count: int) -> list[dict[str, Any]]:
    return [
        raw_item(make_record(resource_id=f"host-{number}"), retention_days=90)
        for number in range(count)
    ]


def test_more_items_than_fit_in_a_batch_are_written_and_read(backend: Backend) -> None:
    many = items(130)
    backend.store.put_items(many)
    found = backend.store.get_items([key(item) for item in many], PREVIOUS_ATTRIBUTES)
    assert len(found) == 130
    assert set(found[0]) <= set(PREVIOUS_ATTRIBUTES)


def test_raw_items_are_inserted_in_parallel(backend: Backend) -> None:
    assert backend.store.insert_raw(items(30)) == 30


def test_a_raw_item_does_not_replace_an_enriched_one(backend: Backend) -> None:
    (raw,) = items(1)
    backend.store.put_items([raw | {"processed_at": {"S": "2026-11-22T18:00:05.000Z"}}])
    assert backend.store.insert_raw([raw]) == 0
    assert "processed_at" in backend.items()[0]


def versioned(read_at: str, source: str) -> dict[str, Any]:
    (item,) = items(1)
    return item | {"version": {"S": f"{read_at} x"}, "source_object": {"S": source}}


@pytest.mark.parametrize(
    ("read_at", "source", "written"),
    [("2026", "b", 1), ("2026", "c", 1), ("2027", "a", 1), ("2026", "a", 0), ("2025", "c", 0)],
    ids=["the same", "a later name", "later", "an earlier name", "earlier"],
)
def test_an_outdated_item_is_not_written(
    backend: Backend, read_at: str, source: str, written: int
) -> None:
    """As when another processor writes between the read and the write of this one."""
    backend.store.put_items([versioned("2026", "b")])
    item = versioned(read_at, source)
    assert backend.store.put_later([item]) == written
    assert (backend.items() == [item]) is bool(written)


def stubbed(responses: list[dict[str, Any]], operation: str) -> tuple[MetricStore, list[float]]:
    """A store whose DynamoDB returns these responses in order, and its waits."""
    dynamodb = boto3.client("dynamodb", config=Config(parameter_validation=False))
    stubber = Stubber(dynamodb)
    for response in responses:
        stubber.add_response(operation, response, {"RequestItems": ANY})
    stubber.activate()
    waits: list[float] = []
    store = MetricStore(
        boto3.client("s3"), dynamodb, bucket=BUCKET, table="InfraMetrics", sleep=waits.append
    )
    return store, waits


def test_unprocessed_items_are_retried_after_growing_waits() -> None:
    (item,) = items(1)
    unprocessed = {"UnprocessedItems": {"InfraMetrics": [{"PutRequest": {"Item": item}}]}}
    store, waits = stubbed([unprocessed, unprocessed, {"UnprocessedItems": {}}], "batch_write_item")
    store.put_items([item])
    assert len(waits) == 2
    assert all(0 <= wait <= 0.1 for wait in waits)


def test_the_error_counts_the_items_that_stay_unprocessed() -> None:
    (item,) = items(1)
    unprocessed = {"UnprocessedItems": {"InfraMetrics": [{"PutRequest": {"Item": item}}]}}
    store, _ = stubbed([unprocessed] * 8, "batch_write_item")
    with pytest.raises(StorageError, match="1 left unprocessed"):
        store.put_items([item])


def test_unprocessed_keys_are_requested_again() -> None:
    one, two = items(2)
    responses: list[dict[str, Any]] = [
        {
            "Responses": {"InfraMetrics": [one]},
            "UnprocessedKeys": {"InfraMetrics": {"Keys": [key(two)]}},
        },
        {"Responses": {"InfraMetrics": [two]}, "UnprocessedKeys": {}},
    ]
    store, waits = stubbed(responses, "batch_get_item")
    assert store.get_items([key(one), key(two)], PREVIOUS_ATTRIBUTES) == [one, two]
    assert len(waits) == 1


def test_an_object_is_read_in_chunks_with_its_storage_time(backend: Backend) -> None:
    backend.store.put_object("raw-metrics/x", b"0123456789" * 100_000, content_type="text/plain")
    stored = backend.store.open_object("raw-metrics/x")
    chunks = list(stored.chunks)
    assert len(chunks) > 1
    assert b"".join(chunks) == b"0123456789" * 100_000
    assert stored.stored_at.tzinfo is not None


def test_a_missing_object_raises_object_not_found(backend: Backend) -> None:
    with pytest.raises(ObjectNotFoundError):
        backend.store.open_object("raw-metrics/nothing")


def test_an_unreachable_endpoint_is_a_storage_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = create_store(bucket=BUCKET, table="InfraMetrics")
    with pytest.raises(StorageError, match="EndpointConnectionError"):
        store.open_object("raw-metrics/x")
