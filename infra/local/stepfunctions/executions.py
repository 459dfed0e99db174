"""Step Functions: what is told of an execution that has ended."""

import json
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..cloudwatch.service_metrics import ServiceMetrics
from ..shared import Clients, log_and_continue

_POLL_SECONDS = 0.5

# What DescribeExecution and the event call the same; what there is none of is null in the event.
_SAME = (
    *("executionArn", "stateMachineArn", "name", "status", "error", "cause"),
    *("input", "inputDetails", "output", "outputDetails"),
)


class Executions:
    """The metrics of each execution; when it has ended its event, and its history in the log."""

    def __init__(self, clients: Clients, service_metrics: ServiceMetrics) -> None:
        self._clients = clients
        self._service_metrics = service_metrics
        self._started: set[str] = set()
        self._told: set[str] = set()

    def run(self, stopping: threading.Event) -> None:
        """Look for ended executions, until it is time to stop."""
        while not stopping.wait(_POLL_SECONDS):
            sfn = self._clients("stepfunctions")
            for machine in sfn.list_state_machines()["stateMachines"]:
                with log_and_continue(machine["name"]):
                    self._tell_of(machine["stateMachineArn"])

    def _tell_of(self, machine_arn: str) -> None:
        sfn = self._clients("stepfunctions")
        for execution in sfn.list_executions(stateMachineArn=machine_arn)["executions"]:
            arn = execution["executionArn"]
            if arn not in self._started:
                self._started.add(arn)
                self._service_metrics.record_execution_start(machine_arn, execution)
            if arn in self._told or execution["status"] == "RUNNING":
                continue
            self._told.add(arn)
            self._service_metrics.record_execution_end(machine_arn, execution)
            with log_and_continue(f"the event of {arn}"):
                described = sfn.describe_execution(executionArn=arn)
                self._clients("events").put_events(Entries=[status_change(described)])
            with log_and_continue(f"the log of {arn}"):
                self._log(machine_arn, arn)

    def _log(self, machine_arn: str, arn: str) -> None:
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
    """The event of an execution as DescribeExecution has it, for PutEvents.

    https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
    """
    moments = {each: _milliseconds(execution[each]) for each in ("startDate", "stopDate")}
    detail = {name: execution.get(name) for name in _SAME} | moments
    return {
        "Source": "aws.states",
        "DetailType": "Step Functions Execution Status Change",
        "Resources": [execution["executionArn"]],
        "Detail": json.dumps(detail),
    }


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
