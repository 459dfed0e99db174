"""Athena: queries that are really run, in the background, in the place of moto's."""

import csv
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from moto.athena.models import AthenaBackend, Execution, QueryResults
from moto.athena.responses import AthenaResponse
from moto.s3.models import s3_backends

from .catalog import Question
from .query_engine import Answer, BytesLimitError, QueryEngine

# (service, role ARN or "" for the administrator)
Clients = Callable[[str, str], Any]
Failure = tuple[str, dict[str, int]]

_PAGE_ROWS = 1000


class _QueryExecution(Execution):
    """An execution whose state is the query's own, not one that moto lets pass by itself."""

    status: Any = "QUEUED"
    reason = ""
    scanned_bytes = 0
    inserted = 0
    owner = ""

    def __init__(self, **what: Any) -> None:
        super().__init__(**what)
        self._interrupt: Callable[[], None] = lambda: None

    @property
    def configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = self.workgroup.configuration if self.workgroup else {}
        return configuration

    def started(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt

    def stop(self) -> None:
        if self.status in {"QUEUED", "RUNNING"}:
            self.end("CANCELLED", "Query was cancelled")
            self._interrupt()

    def end(self, status: str, reason: str = "") -> None:
        """How it ended; the first end counts."""
        if self.status in {"QUEUED", "RUNNING"}:
            self.reason, self.end_time = reason, time.time()
            self.status = status


class Athena:
    """The queries of one local cloud."""

    def __init__(self, clients: Clients, role_of: Callable[[str], str], cache: Path) -> None:
        self._clients = clients
        self._role_of = role_of
        self._engine = QueryEngine(cache)
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="athena")
        self.submit = self._pool.submit

    def close(self) -> None:
        """Stop; the query under way is waited for."""
        self._pool.shutdown(cancel_futures=True)

    def start(self, response: AthenaResponse) -> str | Failure:
        backend, name = response.athena_backend, response._get_param("WorkGroup") or "primary"
        if name not in backend.work_groups:
            return response.error(f"WorkGroup {name} is not found.", 400)
        execution = _QueryExecution(
            query=response._get_param("QueryString"),
            context=response._get_param("QueryExecutionContext") or {},
            config=response._get_param("ResultConfiguration") or {},
            workgroup=backend.work_groups[name],
            execution_parameters=response._get_param("ExecutionParameters"),
        )
        execution.owner = self._role_of(response.get_access_key())
        backend.executions[execution.id] = execution
        self.submit(self._run, backend, execution)
        return json.dumps({"QueryExecutionId": execution.id})

    def _run(self, backend: AthenaBackend, execution: _QueryExecution) -> None:
        if execution.status != "QUEUED":
            return
        execution.status = "RUNNING"

        def clients(service: str) -> Any:
            return self._clients(service, execution.owner)

        context: Any = execution.context
        question = Question(
            sql=execution.query,
            clients=clients,
            owner=execution.owner.rpartition("/")[2],
            database=context.get("Database", "default"),
            parameters=execution.execution_parameters or (),
            limit=execution.configuration.get("BytesScannedCutoffPerQuery"),
        )
        try:
            answer = self._engine.answer(question, execution.started)
            execution.scanned_bytes = answer.scanned_bytes
            execution.inserted = answer.inserted
            backend.query_results[execution.id] = _results(answer)
            _store(clients, execution, answer)
            execution.end("SUCCEEDED")
        except BytesLimitError as error:
            execution.end("CANCELLED", str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller polls until told
            execution.end("FAILED", str(error))


def install(clients: Clients, role_of: Callable[[str], str], cache: Path) -> Callable[[], None]:
    """Let moto's Athena run its queries here, in the background, as Athena does.

    A query has the permissions of who started it: `role_of` tells the role of an access key.
    Returns what stops it.
    """
    athena = Athena(clients, role_of, cache)

    def start_query_execution(response: AthenaResponse) -> str | Failure:
        return athena.start(response)

    AthenaResponse.start_query_execution = start_query_execution  # type: ignore[method-assign, assignment]  # in the place of moto's
    AthenaResponse.stop_query_execution = _known(_stop)  # type: ignore[method-assign, assignment]  # in the place of moto's
    AthenaResponse.get_query_execution = _known(_describe)  # type: ignore[method-assign, assignment]  # in the place of moto's
    AthenaResponse.get_query_results = _known(_page)  # type: ignore[method-assign, assignment]  # in the place of moto's
    AthenaResponse.get_named_query = _get_named_query  # type: ignore[method-assign, assignment]  # in the place of moto's
    return athena.close


_MOTO_GET_QUERY_EXECUTION = AthenaResponse.get_query_execution
_MOTO_GET_NAMED_QUERY = AthenaResponse.get_named_query


def _known(
    answer: Callable[[AthenaResponse, _QueryExecution], str | Failure],
) -> Callable[[AthenaResponse], str | Failure]:
    """An answer about an execution; of one that nobody started, Athena's error."""

    def answered(response: AthenaResponse) -> str | Failure:
        identity = response._get_param("QueryExecutionId")
        execution = response.athena_backend.executions.get(identity)
        if not isinstance(execution, _QueryExecution):
            return response.error(f"QueryExecution {identity} was not found", 400)
        return answer(response, execution)

    return answered


def _stop(_: AthenaResponse, execution: _QueryExecution) -> str:
    execution.stop()
    return "{}"


def _describe(response: AthenaResponse, execution: _QueryExecution) -> str:
    answer = json.loads(_MOTO_GET_QUERY_EXECUTION(response))
    detail = answer["QueryExecution"]
    if execution.query.lstrip().upper().startswith("INSERT"):
        detail["StatementType"] = "DML"
    if execution.reason:
        detail["Status"]["StateChangeReason"] = execution.reason
    if execution.status in {"QUEUED", "RUNNING"}:
        del detail["Status"]["CompletionDateTime"]
    milliseconds = int(1000 * (execution.end_time - execution.start_time))
    detail["Statistics"] |= {
        "DataScannedInBytes": execution.scanned_bytes,
        "EngineExecutionTimeInMillis": milliseconds,
        "TotalExecutionTimeInMillis": milliseconds,
    }
    return json.dumps(answer)


def _page(response: AthenaResponse, execution: _QueryExecution) -> str | Failure:
    """Some rows, the header first of all; the token is the number of the next row."""
    if execution.status != "SUCCEEDED":
        return response.error(f"Query has not yet finished. Current state: {execution.status}", 400)
    if not _is_kept(execution):
        return response.error("Could not find results", 400)
    whole = response.athena_backend.query_results[execution.id]
    first = int(response._get_param("NextToken") or 0)
    last = first + min(int(response._get_param("MaxResults") or _PAGE_ROWS), _PAGE_ROWS)
    answer = QueryResults(whole.rows[first:last], whole.column_info).to_dict()
    answer["UpdateCount"] = execution.inserted
    if last < len(whole.rows):
        answer["NextToken"] = str(last)
    return json.dumps(answer)


def _is_kept(execution: _QueryExecution) -> bool:
    """Whether the results' object is still there, where there was one."""
    location = (execution.config or {}).get("OutputLocation", "")
    bucket, _, key = location.removeprefix("s3://").partition("/")
    if not key.endswith(f"{execution.id}.csv"):
        return True
    partition, owner = s3_backends.bucket_accounts[bucket]
    return s3_backends[owner][partition].get_object(bucket, key) is not None


def _get_named_query(response: AthenaResponse) -> str | Failure:
    identity = response._get_param("NamedQueryId")
    if identity not in response.athena_backend.named_queries:
        return response.error(f"NamedQuery {identity} was not found", 400)
    return _MOTO_GET_NAMED_QUERY(response)


def _store(clients: Callable[[str], Any], execution: _QueryExecution, answer: Answer) -> None:
    """The answer as CSV at the work group's result location."""
    result = execution.configuration.get("ResultConfiguration", {})
    if "OutputLocation" not in result:
        return
    location = f"{result['OutputLocation'].rstrip('/')}/{execution.id}.csv"
    execution.config = {**(execution.config or {}), "OutputLocation": location}
    bucket, _, key = location.removeprefix("s3://").partition("/")
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow([name for name, _ in answer.columns])
    writer.writerows(answer.rows)
    clients("s3").put_object(Bucket=bucket, Key=key, Body=text.getvalue().encode())


def _results(answer: Answer) -> QueryResults:
    rows = [{"Data": [{"VarCharValue": name} for name, _ in answer.columns]}] * bool(answer.columns)
    rows += [
        {"Data": [{} if value is None else {"VarCharValue": value} for value in row]}
        for row in answer.rows
    ]
    info = [{"Name": name, "Label": name, "Type": kind} for name, kind in answer.columns]
    return QueryResults(rows=rows, column_info=info)
