"""Step Functions: what is told of an execution that has ended."""

import json
import threading
import time

from .shared import Clients, going_on

_POLL_SECONDS = 0.5


class Executions:
    """The history of each finished execution, in its state machine's log group."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._logged: set[str] = set()

    def run(self, stopping: threading.Event) -> None:
        """Look for finished executions, until it is time to stop."""
        while not stopping.wait(_POLL_SECONDS):
            sfn = self._clients("stepfunctions")
            for machine in sfn.list_state_machines()["stateMachines"]:
                with going_on(machine["name"]):
                    self._log(machine["stateMachineArn"])

    def _log(self, machine_arn: str) -> None:
        sfn, logs = self._clients("stepfunctions"), self._clients("logs")
        for execution in sfn.list_executions(stateMachineArn=machine_arn)["executions"]:
            arn = execution["executionArn"]
            if arn in self._logged or execution["status"] == "RUNNING":
                continue
            self._logged.add(arn)
            machine = sfn.describe_state_machine(stateMachineArn=machine_arn)
            stream = f"states/{execution['name']}/{int(time.time())}"
            history = sfn.get_execution_history(executionArn=arn)["events"]
            events = [
                {
                    "timestamp": int(event["timestamp"].timestamp() * 1000),
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
