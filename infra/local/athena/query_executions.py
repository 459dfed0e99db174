"""Query executions that run in the background and replace those of moto, which runs no SQL."""

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

from ..clients import Clients
from ..patching import original, patch
from .catalog import Query
from .query_engine import BytesLimitError, QueryEngine, ResultSet

# Error response: body, headers with the status
ErrorResponse = tuple[str, dict[str, int]]

_PAGE_ROWS = 1000


class QueryExecution(Execution):
    """A query execution with the real state of its query."""

    status: Any = "QUEUED"
    reason = ""
    scanned_bytes = 0
    inserted = 0
    role = ""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._interrupt: Callable[[], None] = lambda: None

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration of the work group."""
        configuration: dict[str, Any] = self.workgroup.configuration if self.workgroup else {}
        return configuration

    def set_interrupt(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt

    def stop(self) -> None:
        """Cancel the query unless it has ended."""
        if self.status in {"QUEUED", "RUNNING"}:
            self.end("CANCELLED", "Query was cancelled")
            self._interrupt()

    def end(self, status: str, reason: str = "") -> None:
        """Set the final state; only the first call has an effect."""
        if self.status in {"QUEUED", "RUNNING"}:
            self.reason, self.end_time = reason, time.time()
            self.status = status


class QueryExecutions:
    """The query executions of one local cloud."""

    def __init__(self, clients: Clients, role_of: Callable[[str], str], cache: Path) -> None:
        self._clients = clients
        self._role_of = role_of
        self._engine = QueryEngine(cache)
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="athena")
        self.submit = self._pool.submit

    def close(self) -> None:
        """Discard the queued queries and wait for the running ones."""
        self._pool.shutdown(cancel_futures=True)

    def start(self, response: AthenaResponse) -> str | ErrorResponse:
        """Handle StartQueryExecution."""
        backend, name = response.athena_backend, response._get_param("WorkGroup") or "primary"
        if name not in backend.work_groups:
            return response.error(f"WorkGroup {name} is not found.", 400)
        execution = QueryExecution(
            query=response._get_param("QueryString"),
            context=response._get_param("QueryExecutionContext") or {},
            config=response._get_param("ResultConfiguration") or {},
            workgroup=backend.work_groups[name],
            execution_parameters=response._get_param("ExecutionParameters"),
        )
        execution.role = self._role_of(response.get_access_key())
        backend.executions[execution.id] = execution
        self.submit(self._run, backend, execution)
        return json.dumps({"QueryExecutionId": execution.id})

    def _run(self, backend: AthenaBackend, execution: QueryExecution) -> None:
        if execution.status != "QUEUED":
            return
        execution.status = "RUNNING"

        def clients(service: str) -> Any:
            return self._clients(service, execution.role)

        context: Any = execution.context
        query = Query(
            sql=execution.query,
            clients=clients,
            role=execution.role.rpartition("/")[2],
            database=context.get("Database", "default"),
            parameters=execution.execution_parameters or (),
            bytes_limit=execution.configuration.get("BytesScannedCutoffPerQuery"),
        )
        try:
            result = self._engine.execute(query, execution.set_interrupt)
            execution.scanned_bytes = result.scanned_bytes
            execution.inserted = result.inserted
            backend.query_results[execution.id] = _query_results(result)
            _write_result(clients, execution, result)
            execution.end("SUCCEEDED")
        except BytesLimitError as error:
            execution.end("CANCELLED", str(error))
        except Exception as error:  # noqa: BLE001 - the caller polls until the query has ended
            execution.end("FAILED", str(error))


def install(clients: Clients, role_of: Callable[[str], str], cache: Path) -> Callable[[], None]:
    """Replace moto's query executions; return a function that stops them.

    A query has the permissions of the role that started it: `role_of` returns the role ARN of an
    access key, or '' for the administrator's. `cache` is a directory for fetched objects.
    """
    executions = QueryExecutions(clients, role_of, cache)

    def start_query_execution(response: AthenaResponse) -> str | ErrorResponse:
        return executions.start(response)

    patch(AthenaResponse, "start_query_execution", start_query_execution)
    patch(AthenaResponse, "stop_query_execution", _for_execution(_stop))
    patch(AthenaResponse, "get_query_execution", _for_execution(_describe))
    patch(AthenaResponse, "get_query_results", _for_execution(_page))
    patch(AthenaResponse, "get_named_query", _get_named_query)
    return executions.close


def _for_execution(
    handler: Callable[[AthenaResponse, QueryExecution], str | ErrorResponse],
) -> Callable[[AthenaResponse], str | ErrorResponse]:
    """Look up the request's execution for a handler; an unknown ID gets Athena's error."""

    def handle(response: AthenaResponse) -> str | ErrorResponse:
        query_id = response._get_param("QueryExecutionId")
        execution = response.athena_backend.executions.get(query_id)
        if not isinstance(execution, QueryExecution):
            return response.error(f"QueryExecution {query_id} was not found", 400)
        return handler(response, execution)

    return handle


def _stop(_: AthenaResponse, execution: QueryExecution) -> str:
    execution.stop()
    return "{}"


def _describe(response: AthenaResponse, execution: QueryExecution) -> str:
    body = json.loads(original(AthenaResponse, "get_query_execution")(response))
    detail = body["QueryExecution"]
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
    return json.dumps(body)


def _page(response: AthenaResponse, execution: QueryExecution) -> str | ErrorResponse:
    """Handle GetQueryResults: the first row is the header; the token is the next row's number."""
    if execution.status != "SUCCEEDED":
        return response.error(f"Query has not yet finished. Current state: {execution.status}", 400)
    if not _has_results(execution):
        return response.error("Could not find results", 400)
    results = response.athena_backend.query_results[execution.id]
    first = int(response._get_param("NextToken") or 0)
    last = first + min(int(response._get_param("MaxResults") or _PAGE_ROWS), _PAGE_ROWS)
    body = QueryResults(results.rows[first:last], results.column_info).to_dict()
    body["UpdateCount"] = execution.inserted
    if last < len(results.rows):
        body["NextToken"] = str(last)
    return json.dumps(body)


def _has_results(execution: QueryExecution) -> bool:
    """Whether the results' object still exists; true for an execution that wrote none."""
    location = (execution.config or {}).get("OutputLocation", "")
    bucket, _, key = location.removeprefix("s3://").partition("/")
    if not key.endswith(f"{execution.id}.csv"):
        return True
    partition, owner = s3_backends.bucket_accounts[bucket]
    return s3_backends[owner][partition].get_object(bucket, key) is not None


def _get_named_query(response: AthenaResponse) -> Any:
    query_id = response._get_param("NamedQueryId")
    if query_id not in response.athena_backend.named_queries:
        return response.error(f"NamedQuery {query_id} was not found", 400)
    return original(AthenaResponse, "get_named_query")(response)


def _write_result(clients: Clients, execution: QueryExecution, result: ResultSet) -> None:
    """Write the result as CSV to the work group's result location, if it has one."""
    configuration = execution.configuration.get("ResultConfiguration", {})
    if "OutputLocation" not in configuration:
        return
    location = f"{configuration['OutputLocation'].rstrip('/')}/{execution.id}.csv"
    execution.config = {**(execution.config or {}), "OutputLocation": location}
    bucket, _, key = location.removeprefix("s3://").partition("/")
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow([name for name, _ in result.columns])
    writer.writerows(result.rows)
    clients("s3").put_object(Bucket=bucket, Key=key, Body=text.getvalue().encode())


def _query_results(result: ResultSet) -> QueryResults:
    """Convert a result to moto's form, with the header as the first row."""
    rows = [{"Data": [{"VarCharValue": name} for name, _ in result.columns]}] * bool(result.columns)
    rows += [
        {"Data": [{} if value is None else {"VarCharValue": value} for value in row]}
        for row in result.rows
    ]
    info = [{"Name": name, "Label": name, "Type": kind} for name, kind in result.columns]
    return QueryResults(rows=rows, column_info=info)
