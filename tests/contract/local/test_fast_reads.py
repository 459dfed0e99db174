"""Fast reads return the same responses as moto."""

from collections.abc import Iterator
from typing import Any

import pytest
from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends

from infra.local.dynamodb.fast_reads import batch_get, query
from tests.conftest import ACCOUNT, REGION
from tests.support.api import TABLE, WINDOW, Table, last_scheduled_time, moto_table, records_of

INDEX = "metric_type-timestamp-index"


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "testing")
        environment.setenv("AWS_DEFAULT_REGION", REGION)
        with moto_table() as created:
            for window in range(4):
                for host in ("web-1", "web-2", "web-3"):
                    created.put(
                        records_of(host, last_scheduled_time() - window * WINDOW, 20.0 * window)
                    )
            yield created


@pytest.fixture
def backend(table: Table) -> DynamoDBBackend:  # noqa: ARG001 - fills the backend
    found: DynamoDBBackend = dynamodb_backends[ACCOUNT][REGION]
    return found


def request(**changes: Any) -> dict[str, Any]:
    return {
        "TableName": TABLE,
        "IndexName": INDEX,
        "KeyConditionExpression": "metric_type = :type AND #time BETWEEN :start AND :stop",
        "ExpressionAttributeNames": {"#time": "timestamp"},
        "ExpressionAttributeValues": {
            ":type": {"S": "cpu"},
            ":start": {"S": "0"},
            ":stop": {"S": "9"},
        },
        **changes,
    }


def attribute_names(**names: str) -> dict[str, str]:
    return {"#time": "timestamp", **{f"#{name}": word for name, word in names.items()}}


def attribute_values(**values: Any) -> dict[str, Any]:
    defaults = request()["ExpressionAttributeValues"]
    return {**defaults, **{f":{name}": value for name, value in values.items()}}


QUERIES = {
    "all": request(),
    "newest first": request(ScanIndexForward=False),
    "some attributes": request(
        ProjectionExpression="resource_id, #m.utilization.p95, #m.#u.#a, nothing, #m.nothing.avg",
        ExpressionAttributeNames=attribute_names(m="measurements", u="utilization", a="avg"),
    ),
    "one host": request(
        FilterExpression="resource_id = :host AND #e > :now",
        ExpressionAttributeNames=attribute_names(e="expires_at"),
        ExpressionAttributeValues=attribute_values(host={"S": "web-2"}, now={"N": "1000"}),
    ),
    "none": request(
        FilterExpression="resource_id = :host",
        ExpressionAttributeValues=attribute_values(host={"S": "db"}),
    ),
    "another type of value": request(
        FilterExpression="resource_id = :host",
        ExpressionAttributeValues=attribute_values(host={"N": "1"}),
    ),
    "since": request(
        KeyConditionExpression="metric_type = :type AND #time >= :start",
        ExpressionAttributeValues={":type": {"S": "disk"}, ":start": {"S": "2000"}},
    ),
}


def sorted_items(response: dict[str, Any]) -> list[str]:
    return sorted(map(repr, response["Items"]))


@pytest.mark.parametrize("case", QUERIES)
def test_a_query_has_the_same_response(case: str, table: Table, backend: DynamoDBBackend) -> None:
    response = query(backend, QUERIES[case])
    expected: Any = table.dynamodb.query(**QUERIES[case])
    assert response is not None
    assert sorted_items(response) == sorted_items(expected)
    assert response["ScannedCount"] == expected["ScannedCount"]
    times = [each["timestamp"]["S"] for each in response["Items"] if "timestamp" in each]
    assert times == [each["timestamp"]["S"] for each in expected["Items"] if "timestamp" in each]


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("limit", [1, 5, 12, 13])
def test_pages_have_every_item_once(limit: int, forward: bool, backend: DynamoDBBackend) -> None:
    found: list[str] = []
    start: dict[str, Any] = {}
    while True:
        page = query(backend, request(Limit=limit, ScanIndexForward=forward, **start))
        assert page is not None
        assert len(page["Items"]) <= limit
        found += [repr(each["metric_id"]) for each in page["Items"]]
        if "LastEvaluatedKey" not in page:
            break
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    assert len(found) == len(set(found)) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"FilterExpression": "attribute_not_exists(version) OR resource_id <> :type"},
        {"KeyConditionExpression": "metric_type = :type AND begins_with(#time, :start)"},
        {"IndexName": "another"},
        {"TableName": "another"},
        {"Select": "COUNT"},
    ],
)
def test_an_unsupported_request_is_left_to_moto(
    changes: dict[str, Any], backend: DynamoDBBackend
) -> None:
    assert query(backend, request(**changes)) is None


def test_items_by_key_are_the_same(table: Table, backend: DynamoDBBackend) -> None:
    items = table.dynamodb.scan(TableName=TABLE)["Items"]
    keys = [{name: each[name] for name in ("metric_id", "timestamp")} for each in items[:9]]
    keys.append({"metric_id": {"S": "missing"}, "timestamp": {"S": "never"}})
    batch: Any = {"RequestItems": {TABLE: {"Keys": keys, "ProjectionExpression": "resource_id"}}}
    response, expected = batch_get(backend, batch), table.dynamodb.batch_get_item(**batch)
    assert response is not None
    assert response["Responses"] == expected["Responses"]
    assert len(response["Responses"][TABLE]) == 9
