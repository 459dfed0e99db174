"""What moto does otherwise than AWS, mended."""

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

_MOTO_CALL_ACTION = DynamoHandler.call_action
_MOTO_START_EXECUTION = StepFunctionsParserBackend.start_execution
_MOTO_STOP_EXECUTION = StepFunctionResponse.stop_execution
_MOTO_NEXT_STATE_NAME: Any = Environment.next_state_name
_MOTO_REFLECT = BaseExecutionWorkerCommunication._reflect_execution_status
_SHARED_LOADER = cache(create_loader)
_ONE_AT_A_TIME = threading.RLock()
_ENDING = threading.Lock()


def install() -> None:
    """Put what is mended in the place of moto's own; a second time changes nothing."""
    # moto lists botocore's service models again for every service that it serves.
    vars(moto_utils)["create_loader"] = _SHARED_LOADER
    StepFunctionResponse.stop_execution = _stop_execution  # type: ignore[method-assign, assignment]  # in the place of moto's
    StepFunctionsParserBackend.start_execution = _start_execution  # type: ignore[method-assign, assignment]  # in the place of moto's
    BaseExecutionWorkerCommunication._reflect_execution_status = _reflect  # type: ignore[method-assign]  # in the place of moto's
    Environment.next_state_name = _MOTO_NEXT_STATE_NAME.setter(_set_next_state_name)  # type: ignore[method-assign]  # in the place of moto's
    vars(execution_worker)["ExecutionData"] = _execution_data
    for module in (branches_decl, iteration_worker):
        vars(module)["CustomErrorName"] = _error_name
    DynamoHandler.call_action = _call_dynamodb  # type: ignore[method-assign]  # in the place of moto's
    Role.put_policy = _put_policy  # type: ignore[method-assign, assignment]  # in the place of moto's


def _call_dynamodb(handler: DynamoHandler) -> Any:
    # In moto a read of a key that is not there yet can undo a write of it at the same moment,
    # and two conditional writes can both find their condition true.
    with _ONE_AT_A_TIME:
        return _MOTO_CALL_ACTION(handler)


def _start_execution(
    backend: StepFunctionsParserBackend, arn: str, name: str | None, *rest: Any
) -> Any:
    # moto calls every execution that comes without a name None.
    return _MOTO_START_EXECUTION(backend, arn, name or str(uuid.uuid4()), *rest)


def _stop_execution(response: StepFunctionResponse) -> Any:
    # moto forgets why somebody stops an execution, and leaves its end to threads that trip
    # over the stop: one then FAILED, or was RUNNING for ever.
    arn = response._get_param("executionArn")
    execution: Any = response.stepfunction_backend.describe_execution(arn)
    with _ENDING:
        told = _MOTO_STOP_EXECUTION(response)
        if execution.status == "RUNNING":
            execution.error = response._get_param("error")
            execution.cause = response._get_param("cause")
            execution.stop_date = datetime.now(UTC)
            execution.exec_status = ExecutionStatus.ABORTED
    return told


def _reflect(worker: BaseExecutionWorkerCommunication) -> None:
    with _ENDING:
        if worker.execution.status == "RUNNING":
            _MOTO_REFLECT(worker)  # type: ignore[no-untyped-call]  # moto's has no types


def _set_next_state_name(environment: Environment, name: str) -> None:
    if not isinstance(environment.program_state(), ProgramStopped):
        _MOTO_NEXT_STATE_NAME.fset(environment, name)


def _error_name(error_name: str | None) -> ErrorName:
    # moto takes what ends a branch or an item to be an error of somebody's own, and trips over
    # Step Functions'.
    if error_name is not None and error_name.startswith("States."):
        kind: Any = StatesErrorNameType
        return StatesErrorName(typ=kind.from_name(error_name))
    return CustomErrorName(error_name=error_name)


def _put_policy(role: Role, name: str, policy: Any) -> None:
    # CloudFormation brings a dictionary, which moto would answer with in Python's notation.
    role.policies[name] = policy if isinstance(policy, str) else json.dumps(policy)


def _execution_data(**fields: Any) -> dict[str, Any]:
    # On AWS the context object holds text; moto's datetime breaks States.Format.
    return fields | {"StartTime": _milliseconds(fields["StartTime"])}


def _milliseconds(moment: datetime) -> str:
    """`2026-11-22T18:00:00.000Z`, as the context object has it on AWS."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
