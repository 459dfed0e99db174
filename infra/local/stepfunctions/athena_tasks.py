"""Step Functions' optimized integration with Athena, which moto lacks.

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

from ..patching import original, patch

_PARAMETERS = {
    "startqueryexecution": {
        *("QueryString", "WorkGroup", "QueryExecutionContext", "ResultConfiguration"),
        *("ExecutionParameters", "ClientRequestToken", "ResultReuseConfiguration"),
    },
    "getqueryresults": {"QueryExecutionId", "MaxResults", "NextToken"},
}
_POLL_SECONDS = 0.2


def install() -> None:
    """Add the integration to moto's Step Functions."""
    patch(state_task_factory, "state_task_service_for", _service_for)


def _service_for(service_name: str) -> Any:
    task: Any = _AthenaTask
    if service_name == "athena":
        return task()
    return original(state_task_factory, "state_task_service_for")(service_name)


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
        response = getattr(athena, self._get_boto_service_action())(**normalised_parameters)
        if self.resource.condition is ResourceCondition.Sync:
            response = self._wait(env, athena, response["QueryExecutionId"])
        env.stack.append(_to_json(response))

    def _wait(self, env: Environment, athena: Any, query_id: str) -> Any:
        """Wait for a query and return its description; stop it if the execution is stopped."""
        while True:
            response = athena.get_query_execution(QueryExecutionId=query_id)
            state = response["QueryExecution"]["Status"]["State"]
            if state == "SUCCEEDED":
                return response
            if state in {"FAILED", "CANCELLED"}:
                error = StatesErrorName(typ=StatesErrorNameType.StatesTaskFailed)
                cause = json.dumps(_to_json(response))
                raise FailureEventException(self._task_failed(env, error, cause))
            if not env.is_running():
                athena.stop_query_execution(QueryExecutionId=query_id)
            time.sleep(_POLL_SECONDS)

    def _from_error(self, env: Environment, ex: Exception) -> FailureEvent:
        if isinstance(ex, ClientError):
            detail = ex.response["Error"]
            error = CustomErrorName(f"Athena.{detail['Code']}")
            return self._task_failed(env, error, detail["Message"])
        return super()._from_error(env=env, ex=ex)

    def _task_failed(self, env: Environment, error: ErrorName, cause: str) -> FailureEvent:
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


def _to_json(response: dict[str, Any]) -> Any:
    """Return a boto3 response as JSON values, without its metadata."""
    kept = {name: each for name, each in response.items() if name != "ResponseMetadata"}
    return json.loads(json.dumps(kept, default=str))
