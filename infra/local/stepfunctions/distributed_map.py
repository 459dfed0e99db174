"""Distributed Map states as on AWS, where moto differs.

- ResultWriter: moto writes a manifest without result files, for the Map Run of the execution that
  started last.
- Workers: moto's call themselves recursively for each item, so a long list overflows the stack.
- ItemReader: moto reads one page of a listing and fails for an empty one.
- AWS SDK integration: the parameters of Step Functions' own API start with a lowercase letter,
  which moto does not convert.
"""

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from moto.stepfunctions.parser.asl.component.state.exec.state_map.item_reader.eval import (
    resource_eval_s3 as reader,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import (
    distributed_iteration_component as distributed,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor import (
    distributed_item_processor_worker as worker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor.map_run_record import (  # noqa: E501 - moto's name
    MapRunRecord,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.job import Job
from moto.stepfunctions.parser.asl.component.state.exec.state_map.result_writer.resource_eval.resource_eval_s3 import (  # noqa: E501 - moto's name
    ResourceEvalS3,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (  # noqa: E501 - moto's name
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment

from ..patching import original, patch

# The latest Map Run of a thread: one thread evaluates a Map state and then its ResultWriter.
_latest = threading.local()


def install() -> None:
    """Replace moto's Map Runs, workers, ResultWriter, ItemReader and SDK integration."""
    patch(distributed.DistributedIterationComponent, "_map_run", _map_run)
    patch(worker.DistributedItemProcessorWorker, "_eval_pool", _eval_pool)
    patch(ResourceEvalS3, "_handle_put_object", staticmethod(_put_results))
    patch(StateTaskServiceAwsSdk, "_eval_service_task", _eval_sdk_task)
    patch(reader.ResourceEvalS3, "_handle_list_objects_v2", staticmethod(_list_objects))


def _map_run(
    component: distributed.DistributedIterationComponent,
    env: Environment,
    eval_input: distributed.DistributedIterationComponentEvalInput,
) -> None:
    inputs = env.stack[-1]
    original(distributed.DistributedIterationComponent, "_map_run")(component, env, eval_input)
    _latest.run = (eval_input.map_run_record, inputs, env.stack[-1])


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
            # First, because the state machine continues as soon as the last job is closed.
            self._env.delete_frame(worker_frame)
        self._job_pool.close_job(job)
        job = following


def _list_objects(env: Environment, runtime_part: Any, credentials: Any) -> None:
    parameters = env.stack.pop()
    s3 = ResourceEvalS3._get_s3_client(runtime_part, credentials)
    pages = s3.get_paginator("list_objects_v2").paginate(**parameters)
    env.stack.append(
        [_listed_object(entry) for page in pages for entry in page.get("Contents", [])]
    )


def _listed_object(entry: dict[str, Any]) -> dict[str, Any]:
    """Convert an entry of ListObjectsV2 to an item of a Map; the time becomes epoch seconds."""
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
    parameters, is_sfn = normalised_parameters, task.resource.api_name == "sfn"
    if is_sfn:
        parameters = {name[0].lower() + name[1:]: value for name, value in parameters.items()}
    eval_service_task = original(StateTaskServiceAwsSdk, "_eval_service_task")
    eval_service_task(task, env=env, normalised_parameters=parameters, **rest)
    if is_sfn:
        env.stack.append(_capitalized(env.stack.pop()))


def _capitalized(value: Any) -> Any:
    if isinstance(value, dict):
        return {name[0].upper() + name[1:]: _capitalized(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_capitalized(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _put_results(env: Environment, runtime_part: Any, credentials: Any) -> None:
    parameters = env.stack.pop()
    env.stack.pop()  # the results, which go to the files instead
    record, inputs, outputs = _latest.run
    folder = f"{parameters['Prefix'].strip('/')}/{_map_run_id(record)}".lstrip("/")
    files = {"SUCCEEDED": _child_executions(record, inputs, outputs, failed=False)}
    files["FAILED"] = _child_executions(record, inputs, outputs, failed=True)
    s3 = ResourceEvalS3._get_s3_client(runtime_part, credentials)
    result_files: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for status, children in files.items():
        if children:
            body, key = json.dumps(children).encode(), f"{folder}/{status}_0.json"
            s3.put_object(Bucket=parameters["Bucket"], Key=key, Body=body)
            result_files[status].append({"Key": key, "Size": len(body)})
    manifest = {
        "DestinationBucket": parameters["Bucket"],
        "MapRunArn": record.map_run_arn,
        "ResultFiles": result_files,
    }
    key = f"{folder}/manifest.json"
    s3.put_object(Bucket=parameters["Bucket"], Key=key, Body=json.dumps(manifest).encode())
    details = {"Bucket": parameters["Bucket"], "Key": key}
    env.stack.append({"MapRunArn": record.map_run_arn, "ResultWriterDetails": details})


def _map_run_id(record: MapRunRecord) -> str:
    return str(record.map_run_arn).rpartition(":")[2]


def _child_executions(
    record: MapRunRecord, inputs: Sequence[Any], outputs: Sequence[Any], *, failed: bool
) -> list[dict[str, Any]]:
    """Return the child executions as in AWS's result files; moto keeps no errors of failed ones."""
    stopped = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    failure: Any = {"Status": "FAILED", "Error": "States.TaskFailed", "Cause": ""}
    return [
        {
            "ExecutionArn": f"{record.map_run_arn.replace(':mapRun:', ':execution:')}-{number}",
            "Input": json.dumps(item),
            "InputDetails": {"Included": True},
            "Name": f"{_map_run_id(record)}-{number}",
            "StateMachineArn": record.map_state_machine_arn,
            "StartDate": record.start_date.isoformat(timespec="milliseconds"),
            "StopDate": stopped,
            **(failure if failed else _success(result)),
        }
        for number, (item, result) in enumerate(zip(inputs, outputs, strict=True))
        if (result is None) == failed
    ]


def _success(output: Any) -> dict[str, Any]:
    included = {"Included": True}
    return {"Status": "SUCCEEDED", "Output": json.dumps(output), "OutputDetails": included}
