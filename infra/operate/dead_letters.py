"""The dead-letter queue: what failed, why, and whom it was for."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.model.execution_history import join_reason

from .deployment import Stage
from .executions import Run, reason, run_of

# While messages are looked at and sent, nobody else sees them.
_HIDDEN_SECONDS = 300

# What EventBridge's rule Failures of infra/maintenance.yaml sends of the state machines.
_ENDED = "Step Functions Execution Status Change"


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of the dead-letter queue. One that cannot be sent again has no `target`.

    It is about an event that did not reach its target, `payload`, or about an execution, `run`.
    """

    receipt: str
    since: datetime
    target: str
    what: str
    why: str
    payload: str
    run: Run | None = None


class Letters:
    """The messages of the queue; those that are not deleted are seen again on leaving."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._sqs = stage.client("sqs")
        self._held: set[str] = set()

    def __enter__(self) -> "Letters":
        return self

    def __exit__(self, *_: object) -> None:
        for receipt in self._held:
            with suppress(ClientError):  # after so long a time they are seen already
                self._sqs.change_message_visibility(
                    QueueUrl=self._stage.queue_url, ReceiptHandle=receipt, VisibilityTimeout=0
                )

    def __iter__(self) -> Iterator[Letter]:
        while messages := self._sqs.receive_message(
            QueueUrl=self._stage.queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,  # asks every server of the queue; 0 would miss some
            VisibilityTimeout=_HIDDEN_SECONDS,
            MessageAttributeNames=["All"],
            AttributeNames=["SentTimestamp"],
        ).get("Messages"):
            self._held |= {each["ReceiptHandle"] for each in messages}
            yield from (read_letter(each, self._stage) for each in messages)

    def delete(self, letter: Letter) -> None:
        self._sqs.delete_message(QueueUrl=self._stage.queue_url, ReceiptHandle=letter.receipt)
        self._held.remove(letter.receipt)


def read_letter(message: Mapping[str, Any], stage: Stage) -> Letter:
    """A message: of Lambda's on-failure destination, of EventBridge, or of somebody else's."""
    sent = int(message["Attributes"]["SentTimestamp"]) / 1000
    attributes = {
        name: each.get("StringValue", "")
        for name, each in message.get("MessageAttributes", {}).items()
    }
    run = None
    try:
        body = json.loads(message["Body"])
        if "TARGET_ARN" in attributes:
            event, arn, what = body, attributes["TARGET_ARN"], _what(body)
            why = f"{attributes.get('ERROR_CODE')}: {attributes.get('ERROR_MESSAGE')}"
        elif body.get("detail-type") == _ENDED:
            event, detail = body, body["detail"]
            arn, what, why = detail["stateMachineArn"], detail["name"], reason(detail)
            started = datetime.fromtimestamp(detail["startDate"] / 1000, UTC)
            run = run_of(detail | {"startDate": started}, stage)
        else:
            event, arn = body["requestPayload"], body["requestContext"]["functionArn"]
            what, why = _what(event), _why(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        event, arn, what = None, "", f"message {message['MessageId']}"
        why = "it is neither of Lambda nor of EventBridge"
    target = arn.removesuffix(":$LATEST")
    if arn and not _is_ours(target, stage):
        target, run = "", None
        why = f"it is for {arn}, which is not of stage {stage.name}"
    return Letter(
        receipt=message["ReceiptHandle"],
        since=datetime.fromtimestamp(sent, UTC),
        target=target,
        what=what,
        why=why,
        payload=json.dumps(event),
        run=run,
    )


def _is_ours(arn: str, stage: Stage) -> bool:
    return arn in stage.machine_arns or (
        arn.split(":")[2:3] == ["lambda"] and arn.rpartition(":")[2] in stage.function_names
    )


def _why(record: Mapping[str, Any]) -> str:
    answer = record.get("responsePayload") or {}
    error = join_reason(answer.get("errorType"), answer.get("errorMessage"))
    return error or str(record["requestContext"].get("condition", ""))


def _what(event: Mapping[str, Any]) -> str:
    key = event.get("detail", {}).get("object", {}).get("key")
    return str(key or f"{event['detail-type']} of {event['time']}")
