"""Fixes of moto where it differs from AWS, in DynamoDB, Step Functions and IAM."""

import json
import threading
import uuid
from datetime import UTC, datetime
from functools import cache
from typing import Any

from moto.core import utils as moto_utils
from moto.core.loaders import create_loader
from moto.dynamodb.responses import DynamoHandler
from moto.iam.models import Role
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import (
    CustomErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.error_name import ErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import (
    StatesErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import iteration_worker
from moto.stepfunctions.parser.asl.component.state.exec.state_parallel import branches_decl
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.program_state import ProgramStopped
from moto.stepfunctions.parser.backend import execution_worker
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from .patching import original, patch

_SHARED_LOADER = cache(create_loader)
_DYNAMODB_LOCK = threading.RLock()
_STATUS_LOCK = threading.Lock()


def install() -> None:
    """Install the fixes; a second call changes nothing."""
    # moto lists botocore's service models again for each service.
    patch(moto_utils, "create_loader", _SHARED_LOADER)
    patch(DynamoHandler, "call_action", _call_dynamodb)
    patch(Role, "put_policy", _put_policy)
    patch(StepFunctionsParserBackend, "start_execution", _start_execution)
    patch(StepFunctionResponse, "stop_execution", _stop_execution)
    patch(BaseExecutionWorkerCommunication, "_reflect_execution_status", _reflect_status)
    next_state_name = original(Environment, "next_state_name")
    patch(Environment, "next_state_name", next_state_name.setter(_set_next_state_name))
    patch(execution_worker, "ExecutionData", _execution_data)
    for module in (branches_decl, iteration_worker):
        patch(module, "CustomErrorName", _error_name)


def _call_dynamodb(handler: DynamoHandler) -> Any:
    # In moto, a read of a missing key can undo a concurrent write of that key, and two
    # concurrent conditional writes can both succeed.
    with _DYNAMODB_LOCK:
        return original(DynamoHandler, "call_action")(handler)


def _put_policy(role: Role, name: str, policy: Any) -> None:
    # CloudFormation passes a dictionary, which moto would return in Python's notation.
    role.policies[name] = policy if isinstance(policy, str) else json.dumps(policy)


def _start_execution(
    backend: StepFunctionsParserBackend, arn: str, name: str | None, *rest: Any
) -> Any:
    # moto names every execution without a name "None".
    start_execution = original(StepFunctionsParserBackend, "start_execution")
    return start_execution(backend, arn, name or str(uuid.uuid4()), *rest)


def _stop_execution(response: StepFunctionResponse) -> Any:
    # moto does not store the error and cause of a stop, and its worker threads can leave the
    # stopped execution FAILED or RUNNING.
    arn = response._get_param("executionArn")
    execution: Any = response.stepfunction_backend.describe_execution(arn)
    with _STATUS_LOCK:
        result = original(StepFunctionResponse, "stop_execution")(response)
        if execution.status == "RUNNING":
            execution.error = response._get_param("error")
            execution.cause = response._get_param("cause")
            execution.stop_date = datetime.now(UTC)
            execution.exec_status = ExecutionStatus.ABORTED
    return result


def _reflect_status(worker: BaseExecutionWorkerCommunication) -> None:
    with _STATUS_LOCK:
        if worker.execution.status == "RUNNING":
            original(BaseExecutionWorkerCommunication, "_reflect_execution_status")(worker)


def _set_next_state_name(environment: Environment, name: str) -> None:
    # In moto, setting the next state of a stopped execution raises an error.
    if not isinstance(environment.program_state(), ProgramStopped):
        original(Environment, "next_state_name").fset(environment, name)


def _error_name(error_name: str | None) -> ErrorName:
    # moto treats every error that ends a branch or an item as a custom error, and raises an
    # exception for a predefined one (States.…).
    if error_name is not None and error_name.startswith("States."):
        kind: Any = StatesErrorNameType
        return StatesErrorName(typ=kind.from_name(error_name))
    return CustomErrorName(error_name=error_name)


def _execution_data(**fields: Any) -> dict[str, Any]:
    # On AWS, times in the context object are strings; moto's datetime breaks States.Format.
    return fields | {"StartTime": _context_time(fields["StartTime"])}


def _context_time(moment: datetime) -> str:
    """Format as in the context object: `2026-11-22T18:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
