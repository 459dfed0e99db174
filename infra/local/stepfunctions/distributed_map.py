"""Distributed Map states as AWS runs them, where moto's differ.

moto's ResultWriter writes a manifest that names no files, for whichever map run of the
execution started last; its workers call themselves once for each item, so that a long list
overflows the stack; its ItemReader takes one page of a listing, and none of an empty one; and
its SDK integration does not know that Step Functions' own API begins its names small.
"""

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from moto.stepfunctions.parser.asl.component.state.exec.state_map.item_reader.eval import (
    resource_eval_s3 as reader,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import (
    distributed_iteration_component as distributed,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor import (
    distributed_item_processor_worker as worker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor.map_run_record import (  # noqa: E501 - as long as moto names it
    MapRunRecord,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.job import Job
from moto.stepfunctions.parser.asl.component.state.exec.state_map.result_writer.resource_eval.resource_eval_s3 import (  # noqa: E501 - as long as moto names it
    ResourceEvalS3,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (  # noqa: E501 - as long as moto names it
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment

_MOTO_EVAL_SDK_TASK = StateTaskServiceAwsSdk._eval_service_task
_MOTO_MAP_RUN = distributed.DistributedIterationComponent._map_run

# A map state and its ResultWriter are evaluated by one thread, one after the other.
_last = threading.local()


def install() -> None:
    """Put what is mended in the place of moto's own."""
    distributed.DistributedIterationComponent._map_run = _map_run  # type: ignore[method-assign, assignment]  # in the place of moto's
    worker.DistributedItemProcessorWorker._eval_pool = _eval_pool  # type: ignore[method-assign]  # in the place of moto's
    cast(Any, ResourceEvalS3)._handle_put_object = staticmethod(_put_results)
    cast(Any, StateTaskServiceAwsSdk)._eval_service_task = _eval_sdk_task
    cast(Any, reader.ResourceEvalS3)._handle_list_objects_v2 = staticmethod(_list_objects)


def _map_run(
    component: distributed.DistributedIterationComponent,
    env: Environment,
    eval_input: distributed.DistributedIterationComponentEvalInput,
) -> None:
    inputs = env.stack[-1]
    _MOTO_MAP_RUN(component, env, eval_input)
    _last.run = (eval_input.map_run_record, inputs, env.stack[-1])


def _eval_pool(
    self: worker.DistributedItemProcessorWorker, job: Job | None, worker_frame: Environment
) -> None:
    while job is not None:
        frame = worker_frame.open_inner_frame()
        self._eval_job(env=frame, job=job)
        worker_frame.delete_frame(frame)
        stopped = self.stopped()  # type: ignore[no-untyped-call]  # moto has no types here
        following = None if stopped else self._job_pool.next_job()
        if following is None:
            # Before the last job is closed: with it, the state machine goes on.
            self._env.delete_frame(worker_frame)
        self._job_pool.close_job(job)
        job = following


def _list_objects(env: Environment, runtime_part: Any, credentials: Any) -> None:
    parameters = env.stack.pop()
    s3 = ResourceEvalS3._get_s3_client(runtime_part, credentials)
    pages = s3.get_paginator("list_objects_v2").paginate(**parameters)
    env.stack.append([_listed(entry) for page in pages for entry in page.get("Contents", [])])


def _listed(entry: dict[str, Any]) -> dict[str, Any]:
    """An object as it is listed to a map: JSON has no moment, so it is seconds since 1970."""
    return {
        "Etag": entry["ETag"],
        "Key": entry["Key"],
        "LastModified": entry["LastModified"].timestamp(),
        "Size": entry["Size"],
        "StorageClass": entry.get("StorageClass", "STANDARD"),
    }


def _eval_sdk_task(
    task: StateTaskServiceAwsSdk, env: Environment, *, normalised_parameters: Any, **rest: Any
) -> None:
    parameters, own = normalised_parameters, task.resource.api_name == "sfn"
    if own:
        parameters = {name[0].lower() + name[1:]: value for name, value in parameters.items()}
    _MOTO_EVAL_SDK_TASK(task, env=env, normalised_parameters=parameters, **rest)
    if own:
        env.stack.append(_capitalized(env.stack.pop()))


def _capitalized(value: Any) -> Any:
    if isinstance(value, dict):
        return {name[0].upper() + name[1:]: _capitalized(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_capitalized(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _put_results(env: Environment, runtime_part: Any, credentials: Any) -> None:
    parameters = env.stack.pop()
    env.stack.pop()  # the results, which are in the files from here on
    record, inputs, outputs = _last.run
    folder = "/".join(part for part in (parameters["Prefix"].strip("/"), _identity(record)) if part)
    files = {"SUCCEEDED": _children(record, inputs, outputs, failed=False)}
    files["FAILED"] = _children(record, inputs, outputs, failed=True)
    s3 = ResourceEvalS3._get_s3_client(runtime_part, credentials)
    named: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for status, children in files.items():
        if children:
            body, key = json.dumps(children).encode(), f"{folder}/{status}_0.json"
            s3.put_object(Bucket=parameters["Bucket"], Key=key, Body=body)
            named[status].append({"Key": key, "Size": len(body)})
    manifest = {
        "DestinationBucket": parameters["Bucket"],
        "MapRunArn": record.map_run_arn,
        "ResultFiles": named,
    }
    key = f"{folder}/manifest.json"
    s3.put_object(Bucket=parameters["Bucket"], Key=key, Body=json.dumps(manifest).encode())
    details = {"Bucket": parameters["Bucket"], "Key": key}
    env.stack.append({"MapRunArn": record.map_run_arn, "ResultWriterDetails": details})


def _identity(record: MapRunRecord) -> str:
    return str(record.map_run_arn).rpartition(":")[2]


def _children(
    record: MapRunRecord, inputs: Sequence[Any], outputs: Sequence[Any], *, failed: bool
) -> list[dict[str, Any]]:
    """The child executions as AWS's result files have them. moto keeps no error of a failed one."""
    stopped = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    ending: Any = {"Status": "FAILED", "Error": "States.TaskFailed", "Cause": ""}
    return [
        {
            "ExecutionArn": f"{record.map_run_arn.replace(':mapRun:', ':execution:')}-{number}",
            "Input": json.dumps(given),
            "InputDetails": {"Included": True},
            "Name": f"{_identity(record)}-{number}",
            "StateMachineArn": record.map_state_machine_arn,
            "StartDate": record.start_date.isoformat(timespec="milliseconds"),
            "StopDate": stopped,
            **(ending if failed else _succeeded(taken)),
        }
        for number, (given, taken) in enumerate(zip(inputs, outputs, strict=True))
        if (taken is None) == failed
    ]


def _succeeded(output: Any) -> dict[str, Any]:
    included = {"Included": True}
    return {"Status": "SUCCEEDED", "Output": json.dumps(output), "OutputDetails": included}
