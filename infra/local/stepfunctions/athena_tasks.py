"""Step Functions' own integration with Athena, which moto's has not.

https://docs.aws.amazon.com/step-functions/latest/dg/connect-athena.html
"""

import json
import time
from typing import Any

from botocore.exceptions import ClientError
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import (
    CustomErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import (
    StatesErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task import state_task_factory
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import (
    ResourceCondition,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import (  # noqa: E501 - moto's name
    StateTaskService,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.utils import boto_client

_PARAMETERS = {
    "startqueryexecution": {
        *("QueryString", "WorkGroup", "QueryExecutionContext", "ResultConfiguration"),
        *("ExecutionParameters", "ClientRequestToken", "ResultReuseConfiguration"),
    },
    "getqueryresults": {"QueryExecutionId", "MaxResults", "NextToken"},
}
_POLL_SECONDS = 0.2
_MOTO_SERVICE_FOR: Any = vars(state_task_factory)["state_task_service_for"]


def install() -> None:
    """Let moto's Step Functions find the integration."""
    vars(state_task_factory)["state_task_service_for"] = _service_for


def _service_for(service_name: str) -> Any:
    task: Any = _AthenaTask
    return task() if service_name == "athena" else _MOTO_SERVICE_FOR(service_name)


class _AthenaTask(StateTaskService):
    def _get_supported_parameters(self) -> set[str] | None:
        return _PARAMETERS.get(self.resource.api_action.lower())

    def _eval_service_task(
        self,
        env: Environment,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> None:
        athena: Any = boto_client.boto_client_for(
            resource_runtime_part.region, "athena", state_credentials
        )
        answer = getattr(athena, self._get_boto_service_action())(**normalised_parameters)
        if self.resource.condition is ResourceCondition.Sync:
            answer = self._wait(env, athena, answer["QueryExecutionId"])
        env.stack.append(_plain(answer))

    def _wait(self, env: Environment, athena: Any, identity: str) -> Any:
        """The query's description when it has ended; it is stopped if the execution is."""
        while True:
            answer = athena.get_query_execution(QueryExecutionId=identity)
            state = answer["QueryExecution"]["Status"]["State"]
            if state == "SUCCEEDED":
                return answer
            if state in {"FAILED", "CANCELLED"}:
                error = StatesErrorName(typ=StatesErrorNameType.StatesTaskFailed)
                cause = json.dumps(_plain(answer))
                raise FailureEventException(self._failed(env, error, cause))
            if not env.is_running():
                athena.stop_query_execution(QueryExecutionId=identity)
            time.sleep(_POLL_SECONDS)

    def _from_error(self, env: Environment, ex: Exception) -> FailureEvent:
        if isinstance(ex, ClientError):
            detail = ex.response["Error"]
            error = CustomErrorName(f"Athena.{detail['Code']}")
            return self._failed(env, error, detail["Message"])
        return super()._from_error(env=env, ex=ex)

    def _failed(self, env: Environment, error: ErrorName, cause: str) -> FailureEvent:
        details: Any = EventDetails
        failed = TaskFailedEventDetails(
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
            error=error.error_name,
            cause=cause,
        )
        return FailureEvent(
            env=env,
            error_name=error,
            event_type=HistoryEventType.TaskFailed,
            event_details=details(taskFailedEventDetails=failed),
        )


def _plain(answer: dict[str, Any]) -> Any:
    """An answer of botocore's without its metadata, as JSON has it."""
    kept = {name: each for name, each in answer.items() if name != "ResponseMetadata"}
    return json.loads(json.dumps(kept, default=str))
