"""What the notifier reads and writes on AWS; see `notifier.Outside`."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from ..model.items import Item
from ..model.windows import format_utc
from ..notify.affected_hosts import wanted
from ..notify.messages import Message
from .errors import translated

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDEX = "metric_type-timestamp-index"

# Items that one request looks at, the requests of one search, and what is enough to be told of.
_PAGE = 500
_PAGES = 40
_ENOUGH = 1_000

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=8,
    parameter_validation=False,
    retries={"mode": "standard", "total_max_attempts": 4},
)


class Notices:
    """The table's index, the state machine's executions and the topics; clients when needed."""

    def __init__(self, table: str, client: Callable[[str], Any] | None = None) -> None:
        self._table = table
        self._given = client

    def recent(self, metric_type: str, since: datetime, *, unwell: bool) -> list[Item]:
        request = _query(self._table, metric_type, since, unwell=unwell)
        found: list[Item] = []
        for _ in range(_PAGES):
            with translated("query", f"{self._table}/{_INDEX}"):
                answer = self._dynamodb.query(**request)
            found += answer["Items"]
            if "LastEvaluatedKey" not in answer or len(found) >= _ENOUGH:
                break
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        return found[:_ENOUGH]

    def executions(self, machine: str, since: datetime) -> list[tuple[datetime, str]]:
        found: list[tuple[datetime, str]] = []
        request = {"stateMachineArn": machine, "maxResults": 100}
        while True:
            with translated("list executions of", machine):
                answer = self._stepfunctions.list_executions(**request)
            page: Sequence[tuple[datetime, str]] = [
                (each["startDate"].astimezone(UTC), each["status"]) for each in answer["executions"]
            ]
            found += [each for each in page if each[0] >= since]
            if "nextToken" not in answer or page[-1][0] < since:
                return found
            request["nextToken"] = answer["nextToken"]

    def publish(self, topic: str, message: Message) -> None:
        with translated("publish to", topic):
            self._sns.publish(
                TopicArn=topic,
                Subject=message.subject,
                Message=message.structured(),
                MessageStructure="json",
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in message.attributes.items()
                },
            )

    def _client(self, service: str) -> Any:
        if self._given:
            return self._given(service)
        factory: Any = boto3.Session().client
        return factory(service, config=_CONFIG)

    @cached_property
    def _dynamodb(self) -> Any:
        return self._client("dynamodb")

    @cached_property
    def _stepfunctions(self) -> Any:
        return self._client("stepfunctions")

    @cached_property
    def _sns(self) -> Any:
        return self._client("sns")


def _query(table: str, metric_type: str, since: datetime, *, unwell: bool) -> dict[str, Any]:
    """The newest items of a type through the index, with the attributes that messages need."""
    paths = list(wanted(metric_type))
    words = {word for path in paths for word in path} | {"metric_type", "timestamp"}
    names = {word: f"#{number}" for number, word in enumerate(sorted(words | {"status"}))}
    values = {":type": {"S": metric_type}, ":since": {"S": format_utc(since)}}
    request: dict[str, Any] = {
        "TableName": table,
        "IndexName": _INDEX,
        "KeyConditionExpression": (
            f"{names['metric_type']} = :type AND {names['timestamp']} >= :since"
        ),
        "ProjectionExpression": ", ".join(".".join(names[word] for word in path) for path in paths),
        "ScanIndexForward": False,
        "Limit": _PAGE,
    }
    if unwell:
        # One that the processor has not seen yet has no status.
        status = names["status"]
        request["FilterExpression"] = f"attribute_not_exists({status}) OR {status} <> :ok"
        values[":ok"] = {"S": "ok"}
    else:
        del names["status"]  # DynamoDB refuses a name that nothing uses
    request["ExpressionAttributeNames"] = {number: word for word, number in names.items()}
    request["ExpressionAttributeValues"] = values
    return request
