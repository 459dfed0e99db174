"""The state machine and CloudWatch's alarms: implements `api.runs` and `api.alarms`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import msgspec

from ..model.errors import StorageError
from ..model.execution_history import Event
from ..model.settings import ApiSettings
from .errors import translated

# Histories are read in parallel. Those of ended executions never change and are cached.
_WORKERS = 5
_MAX_CACHED = 100

Client = Callable[[str], Any]


class Pipeline:
    """The executions of the stage's state machine."""

    def __init__(self, settings: ApiSettings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._cache: dict[str, Sequence[Event]] = {}

    def executions(self, limit: int) -> Sequence[Mapping[str, Any]]:
        return self._list(maxResults=limit)[:limit]

    def is_running(self) -> bool:
        return bool(self._list(maxResults=1, statusFilter="RUNNING"))

    def _list(self, **request: Any) -> Sequence[Mapping[str, Any]]:
        with translated("list executions of", self._machine):
            response = self._sfn.list_executions(stateMachineArn=self._machine, **request)
        found: Sequence[Mapping[str, Any]] = response["executions"]
        return found

    def histories(self, executions: Sequence[Mapping[str, Any]]) -> Sequence[Sequence[Event]]:
        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            return list(pool.map(self._history, executions))

    def _history(self, execution: Mapping[str, Any]) -> Sequence[Event]:
        arn = execution["executionArn"]
        if arn in self._cache:
            return self._cache[arn]
        with translated("read history of", arn):
            events = list(read_history(self._sfn, arn))
        if execution["status"] != "RUNNING":
            if len(self._cache) >= _MAX_CACHED:
                self._cache.pop(next(iter(self._cache)))
            self._cache[arn] = events
        return events

    def start(self, name: str, document: Mapping[str, str]) -> None:
        text = msgspec.json.encode(document).decode()
        try:
            with translated("start execution of", self._machine):
                self._sfn.start_execution(stateMachineArn=self._machine, name=name, input=text)
        except StorageError as error:
            if error.code != "ExecutionAlreadyExists":
                raise

    @property
    def _sfn(self) -> Any:
        return self._client("stepfunctions")

    @cached_property
    def _machine(self) -> str:
        """The state machine's ARN; derived from its name if it is not in the settings."""
        if self._settings.pipeline:
            return self._settings.pipeline
        with translated("get the account of", "the credentials"):
            sts = self._client("sts")
            account = sts.get_caller_identity()["Account"]
        return (
            f"arn:{sts.meta.partition}:states:{sts.meta.region_name}:{account}"
            f":stateMachine:InfraMonitoring-Pipeline-Orch{self._settings.suffix}"
        )


def read_history(client: Any, arn: str) -> Iterator[Event]:
    """The events of an execution, oldest first; raises botocore's errors."""
    pages = client.get_paginator("get_execution_history")
    for page in pages.paginate(executionArn=arn):
        yield from page["events"]


class CloudWatchAlarms:
    """CloudWatch's alarms."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self, prefix: str) -> Iterable[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        with translated("describe alarms", f"{prefix}*"):
            pages = (
                self._client("cloudwatch")
                .get_paginator("describe_alarms")
                .paginate(AlarmNamePrefix=prefix, AlarmTypes=["MetricAlarm", "CompositeAlarm"])
            )
            for page in pages:
                found += [*page.get("CompositeAlarms", ()), *page.get("MetricAlarms", ())]
        return found
