"""Read and delete the messages of the dead-letter queue."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.model.execution_history import join_reason

from .deployment import Stage
from .executions import Execution, end_reason, parse_execution

# Long enough to read and resubmit all messages before they become visible to others again.
_VISIBILITY_TIMEOUT_SECONDS = 300

# The events that the EventBridge rule Failures of infra/maintenance.yaml sends to the queue.
_STATUS_CHANGE = "Step Functions Execution Status Change"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of the queue: an event that was not delivered, or a failed execution.

    `payload` is the event, `execution` the failed execution. `target_arn` is empty if the message
    cannot be resubmitted. `subject` is an object key, an execution or an event.
    """

    receipt_handle: str
    sent_at: datetime
    target_arn: str
    subject: str
    reason: str
    payload: str
    execution: Execution | None = None


class DeadLetterQueue:
    """The queue as a context manager; on exit, messages not deleted become visible again."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._sqs = stage.client("sqs")
        self._received: set[str] = set()

    def __enter__(self) -> "DeadLetterQueue":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._received:
            with suppress(ClientError):  # the handle may have expired; the message is visible then
                self._sqs.change_message_visibility(
                    QueueUrl=self._stage.queue_url, ReceiptHandle=handle, VisibilityTimeout=0
                )

    def __iter__(self) -> Iterator[DeadLetter]:
        while messages := self._sqs.receive_message(
            QueueUrl=self._stage.queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,  # long polling queries all servers; 0 could miss messages
            VisibilityTimeout=_VISIBILITY_TIMEOUT_SECONDS,
            MessageAttributeNames=["All"],
            AttributeNames=["SentTimestamp"],
        ).get("Messages"):
            self._received |= {each["ReceiptHandle"] for each in messages}
            yield from (parse_dead_letter(each, self._stage) for each in messages)

    def delete(self, dead_letter: DeadLetter) -> None:
        self._sqs.delete_message(
            QueueUrl=self._stage.queue_url, ReceiptHandle=dead_letter.receipt_handle
        )
        self._received.remove(dead_letter.receipt_handle)


def parse_dead_letter(message: Mapping[str, Any], stage: Stage) -> DeadLetter:
    """Parse a message from EventBridge or from an on-failure destination of Lambda."""
    sent = int(message["Attributes"]["SentTimestamp"]) / 1000
    attributes = {
        name: each.get("StringValue", "")
        for name, each in message.get("MessageAttributes", {}).items()
    }
    execution = None
    try:
        body = json.loads(message["Body"])
        if "TARGET_ARN" in attributes:
            event, arn, subject = body, attributes["TARGET_ARN"], _subject(body)
            reason = f"{attributes.get('ERROR_CODE')}: {attributes.get('ERROR_MESSAGE')}"
        elif body.get("detail-type") == _STATUS_CHANGE:
            event, detail = body, body["detail"]
            arn, subject, reason = detail["stateMachineArn"], detail["name"], end_reason(detail)
            started_at = datetime.fromtimestamp(detail["startDate"] / 1000, UTC)
            execution = parse_execution(detail | {"startDate": started_at}, stage)
        else:
            event, arn = body["requestPayload"], body["requestContext"]["functionArn"]
            subject, reason = _subject(event), _destination_reason(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        event, arn, subject = None, "", f"message {message['MessageId']}"
        reason = "the message is neither from Lambda nor from EventBridge"
    target_arn = arn.removesuffix(":$LATEST")
    if arn and not _belongs_to(stage, target_arn):
        target_arn, execution = "", None
        reason = f"the target {arn} is not part of stage {stage.name}"
    return DeadLetter(
        receipt_handle=message["ReceiptHandle"],
        sent_at=datetime.fromtimestamp(sent, UTC),
        target_arn=target_arn,
        subject=subject,
        reason=reason,
        payload=json.dumps(event),
        execution=execution,
    )


def _belongs_to(stage: Stage, arn: str) -> bool:
    return arn in stage.state_machine_arns or (
        arn.split(":")[2:3] == ["lambda"] and arn.rpartition(":")[2] in stage.function_names
    )


def _destination_reason(record: Mapping[str, Any]) -> str:
    response = record.get("responsePayload") or {}
    error = join_reason(response.get("errorType"), response.get("errorMessage"))
    return error or str(record["requestContext"].get("condition", ""))


def _subject(event: Mapping[str, Any]) -> str:
    key = event.get("detail", {}).get("object", {}).get("key")
    return str(key or f"{event['detail-type']} of {event['time']}")
