"""The notifier's reads and writes on AWS: implements `notifier.NotifierPorts`."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..model.dynamodb import INDEX_NAME, Item
from ..model.windows import format_utc
from ..notify.affected_hosts import attribute_paths
from ..notify.messages import Message
from .clients import Clients
from .errors import translated

if TYPE_CHECKING:
    from collections.abc import Sequence

# The items that one request reads, the requests of one search, and the items that are enough.
_PAGE = 500
_MAX_PAGES = 40
_MAX_ITEMS = 1_000


class AwsNotifierPorts:
    """The table's index, the state machine's executions and the topics."""

    def __init__(self, table: str, client: Callable[[str], Any] | None = None) -> None:
        self._table = table
        self._client = client or Clients()

    def recent(self, metric_type: str, since: datetime, *, unhealthy: bool) -> list[Item]:
        request = _query(self._table, metric_type, since, unhealthy=unhealthy)
        found: list[Item] = []
        for _ in range(_MAX_PAGES):
            with translated("query", f"{self._table}/{INDEX_NAME}"):
                response = self._client("dynamodb").query(**request)
            found += response["Items"]
            if "LastEvaluatedKey" not in response or len(found) >= _MAX_ITEMS:
                break
            request["ExclusiveStartKey"] = response["LastEvaluatedKey"]
        return found[:_MAX_ITEMS]

    def executions(self, machine: str, since: datetime) -> list[tuple[datetime, str]]:
        found: list[tuple[datetime, str]] = []
        request = {"stateMachineArn": machine, "maxResults": 100}
        while True:
            with translated("list executions of", machine):
                response = self._client("stepfunctions").list_executions(**request)
            page: Sequence[tuple[datetime, str]] = [
                (each["startDate"].astimezone(UTC), each["status"])
                for each in response["executions"]
            ]
            found += [each for each in page if each[0] >= since]
            if "nextToken" not in response or page[-1][0] < since:
                return found
            request["nextToken"] = response["nextToken"]

    def publish(self, topic: str, message: Message) -> None:
        with translated("publish to", topic):
            self._client("sns").publish(
                TopicArn=topic,
                Subject=message.subject,
                Message=message.structured(),
                MessageStructure="json",
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in message.attributes.items()
                },
            )


def _query(table: str, metric_type: str, since: datetime, *, unhealthy: bool) -> dict[str, Any]:
    """The newest items of a type from the index, with the attributes that messages use."""
    paths = list(attribute_paths(metric_type))
    words = {word for path in paths for word in path} | {"metric_type", "timestamp"}
    names = {word: f"#{number}" for number, word in enumerate(sorted(words | {"status"}))}
    values = {":type": {"S": metric_type}, ":since": {"S": format_utc(since)}}
    request: dict[str, Any] = {
        "TableName": table,
        "IndexName": INDEX_NAME,
        "KeyConditionExpression": (
            f"{names['metric_type']} = :type AND {names['timestamp']} >= :since"
        ),
        "ProjectionExpression": ", ".join(".".join(names[word] for word in path) for path in paths),
        "ScanIndexForward": False,
        "Limit": _PAGE,
    }
    if unhealthy:
        # An item that has not been processed yet has no status.
        status = names["status"]
        request["FilterExpression"] = f"attribute_not_exists({status}) OR {status} <> :ok"
        values[":ok"] = {"S": "ok"}
    else:
        del names["status"]  # DynamoDB rejects an unused name
    request["ExpressionAttributeNames"] = {number: word for word, number in names.items()}
    request["ExpressionAttributeValues"] = values
    return request
