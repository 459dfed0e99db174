"""Metrics, events and logs of executions."""

import json
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..background import log_and_continue
from ..clients import Clients
from ..cloudwatch.service_metrics import ServiceMetrics

_POLL_SECONDS = 0.5

# Fields with the same name in DescribeExecution and the event; null in the event if missing.
_EVENT_FIELDS = (
    *("executionArn", "stateMachineArn", "name", "status", "error", "cause"),
    *("input", "inputDetails", "output", "outputDetails"),
)


class Executions:
    """Polls executions; records their metrics, and the event and log of each ended one."""

    def __init__(self, clients: Clients, service_metrics: ServiceMetrics) -> None:
        self._clients = clients
        self._service_metrics = service_metrics
        self._started: set[str] = set()
        self._ended: set[str] = set()

    def run(self, stopping: threading.Event) -> None:
        """Poll the executions of every state machine until `stopping` is set."""
        while not stopping.wait(_POLL_SECONDS):
            sfn = self._clients("stepfunctions")
            for machine in sfn.list_state_machines()["stateMachines"]:
                with log_and_continue(machine["name"]):
                    self._record(machine["stateMachineArn"])

    def _record(self, machine_arn: str) -> None:
        sfn = self._clients("stepfunctions")
        for execution in sfn.list_executions(stateMachineArn=machine_arn)["executions"]:
            arn = execution["executionArn"]
            if arn not in self._started:
                self._started.add(arn)
                self._service_metrics.record_execution_start(machine_arn, execution)
            if arn in self._ended or execution["status"] == "RUNNING":
                continue
            self._ended.add(arn)
            self._service_metrics.record_execution_end(machine_arn, execution)
            with log_and_continue(f"event of {arn}"):
                described = sfn.describe_execution(executionArn=arn)
                self._clients("events").put_events(Entries=[status_change(described)])
            with log_and_continue(f"log of {arn}"):
                self._log(machine_arn, arn)

    def _log(self, machine_arn: str, arn: str) -> None:
        """Write the history of an execution to the log groups of its state machine."""
        sfn, logs = self._clients("stepfunctions"), self._clients("logs")
        machine = sfn.describe_state_machine(stateMachineArn=machine_arn)
        stream = f"states/{arn.rpartition(':')[2]}/{int(time.time())}"
        history = sfn.get_execution_history(executionArn=arn)["events"]
        events = [
            {
                "timestamp": _milliseconds(event["timestamp"]),
                "message": json.dumps(
                    {
                        "id": str(event["id"]),
                        "type": event["type"],
                        "execution_arn": arn,
                        "previous_event_id": str(event.get("previousEventId", 0)),
                    }
                ),
            }
            for event in history
        ]
        configuration = machine.get("loggingConfiguration", {})
        for destination in configuration.get("destinations", []):
            group = destination["cloudWatchLogsLogGroup"]["logGroupArn"].split(":")[6]
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def status_change(execution: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status change event of an execution as an entry of PutEvents.

    `execution` is a response of DescribeExecution.
    https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
    """
    times = {name: _milliseconds(execution[name]) for name in ("startDate", "stopDate")}
    detail = {name: execution.get(name) for name in _EVENT_FIELDS} | times
    return {
        "Source": "aws.states",
        "DetailType": "Step Functions Execution Status Change",
        "Resources": [execution["executionArn"]],
        "Detail": json.dumps(detail),
    }


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
