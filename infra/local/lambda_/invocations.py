"""Synchronous and asynchronous invocations, with retries and dead letters."""

import base64
import json
import sched
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from moto.awslambda.models import LambdaFunction

from chalicelib.model.windows import format_utc

from ..clients import Clients
from .environment import FunctionSpec, Invocation
from .functions import Functions

# Delays before the retries of an asynchronous invocation, as on AWS.
ASYNC_RETRY_SECONDS = (60.0, 120.0)
_RETRY_POLL_SECONDS = 0.05


class Invocations:
    """Invokes moto's functions, and retries failed asynchronous invocations."""

    def __init__(
        self, clients: Clients, functions: Functions, retry_seconds: Sequence[float]
    ) -> None:
        self._clients = clients
        self._functions = functions
        self._retry_seconds = retry_seconds
        self._pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="event")
        self._lock = threading.Lock()
        self._pending = 0
        self._retries = sched.scheduler()

    @property
    def idle(self) -> bool:
        """Whether no asynchronous invocation is pending or running."""
        with self._lock:
            return self._pending == 0

    @property
    def only_retries_left(self) -> bool:
        """Whether every pending asynchronous invocation is waiting for its next retry."""
        with self._lock:
            return self._pending == len(self._retries.queue)

    def run_retries(self, stopping: threading.Event) -> None:
        """Run due retries until `stopping` is set."""
        while not stopping.wait(_RETRY_POLL_SECONDS):
            self.run_due_retries()

    def run_due_retries(self) -> None:
        """Submit the retries whose delay has passed."""
        self._retries.run(blocking=False)

    def close(self) -> None:
        """Discard the pending retries."""
        for retry in self._retries.queue:
            self._retries.cancel(retry)
            self._end()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def invoke(
        self, function: LambdaFunction, body: Any, headers: Any, response_headers: dict[str, str]
    ) -> bytes:
        """Handle Lambda's Invoke; return the response payload, empty for an asynchronous one."""
        payload = body.encode() if isinstance(body, str) else body or b"{}"
        if headers.get("X-Amz-Invocation-Type") == "Event":
            self._submit(function, payload)
            return b""
        invocation = self._functions.invoke(spec_of(function), payload)
        if invocation.error:
            response_headers["x-amz-function-error"] = "Unhandled"
        response_headers["x-amz-log-result"] = _log_tail_header(invocation)
        return invocation.payload

    def _submit(self, function: LambdaFunction, payload: bytes) -> None:
        with self._lock:
            self._pending += 1
        self._pool.submit(self._attempt, function, payload, 0)

    def _attempt(self, function: LambdaFunction, payload: bytes, retried: int) -> None:
        """Attempt an asynchronous invocation; a retry waits outside of the thread pool."""
        will_retry = False
        try:
            config: Mapping[str, Any] = {}
            if function.event_invoke_config:
                # moto keeps the earlier configurations too.
                config = function.event_invoke_config[-1].response()
            retries = int(config.get("MaximumRetryAttempts", 2))
            invocation = self._functions.invoke(spec_of(function), payload)
            if not invocation.error:
                return
            if will_retry := retried < retries:
                self._retry_later(function, payload, retried)
                return
            destination = (
                config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
            )
            if destination:
                self._dead_letter(destination, function, payload, invocation, retried + 1)
        finally:
            if not will_retry:
                self._end()

    def _end(self) -> None:
        with self._lock:
            self._pending -= 1

    def _retry_later(self, function: LambdaFunction, payload: bytes, retried: int) -> None:
        arguments = (self._attempt, function, payload, retried + 1)
        self._retries.enter(self._retry_seconds[retried], 0, self._pool.submit, arguments)

    def _dead_letter(
        self,
        queue_arn: str,
        function: LambdaFunction,
        payload: bytes,
        invocation: Invocation,
        attempts: int,
    ) -> None:
        # Lambda sends with the function's role, and needs no permission to look up the URL.
        url = self._clients("sqs").get_queue_url(QueueName=queue_arn.rpartition(":")[2])["QueueUrl"]
        sqs = self._clients("sqs", function.role)
        record = {
            "version": "1.0",
            "timestamp": format_utc(datetime.now(UTC)),
            "requestContext": {
                "requestId": invocation.request_id,
                "functionArn": f"{function.function_arn}:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": attempts,
            },
            "requestPayload": json.loads(payload),
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "responsePayload": json.loads(invocation.payload),
        }
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(record))


def spec_of(function: LambdaFunction) -> FunctionSpec:
    """Return the specification of a function deployed in moto."""
    return FunctionSpec(
        name=function.function_name,
        arn=function.function_arn,
        role=function.role,
        handler=str(function.handler),
        runtime=str(function.run_time),
        region=function.region,
        memory_mb=int(function.memory_size),
        timeout=float(function.timeout),
        environment=dict(function.environment_vars),
        code=function.code_bytes,
    )


def _log_tail_header(invocation: Invocation) -> str:
    """Return the value of `X-Amz-Log-Result`."""
    return base64.b64encode(invocation.log_tail.encode()).decode()
