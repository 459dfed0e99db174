"""Athena: functions that call it, and the adapter behind `api.queries.Queries`."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..model.errors import InvalidRequestError, StorageError, UnknownThingError
from ..model.named_queries import NamedQuery, read_named_query
from ..model.query_results import Column, Page
from .errors import translated

# The named queries of a stage change only when its template is deployed.
_CACHE_SECONDS = 300

# Athena's error for an unknown query execution and for a wrong page token.
_INVALID = "InvalidRequestException"

Execution = Mapping[str, Any]


def list_named_queries(client: Any, work_group: str) -> Iterator[NamedQuery]:
    """The named queries of a work group; raises botocore's errors."""
    pages = client.get_paginator("list_named_queries")
    for page in pages.paginate(WorkGroup=work_group):
        for identity in page["NamedQueryIds"]:
            response = client.get_named_query(NamedQueryId=identity)
            yield read_named_query(response["NamedQuery"])


def start_query(
    client: Any, sql: str, literals: Sequence[str] = (), *, work_group: str, database: str
) -> str:
    """Start a query with its parameters bound and return its id; raises botocore's errors."""
    bound = {"ExecutionParameters": list(literals)} if literals else {}
    response = client.start_query_execution(
        QueryString=sql,
        QueryExecutionContext={"Database": database},
        WorkGroup=work_group,
        **bound,
    )
    return str(response["QueryExecutionId"])


def describe_query(client: Any, identity: str) -> Execution:
    """State and statistics of a query; raises botocore's errors."""
    execution: Execution = client.get_query_execution(QueryExecutionId=identity)["QueryExecution"]
    return execution


def wait_for_query(
    client: Any,
    identity: str,
    *,
    poll_seconds: float,
    progress: Callable[[Execution], None] = lambda _: None,
) -> Execution:
    """Wait until a query has ended; `progress` is called after each poll.

    Raises botocore's errors.
    """
    while True:
        execution = describe_query(client, identity)
        if execution["Status"]["State"] not in ("QUEUED", "RUNNING"):
            return execution
        progress(execution)
        time.sleep(poll_seconds)


def read_page(
    client: Any, execution: Execution, *, limit: int = 999, token: str | None = None
) -> Page:
    """At most `limit` rows of a query that succeeded; raises botocore's errors."""
    # The first row of a SELECT's first page has the column names.
    header = int(execution.get("StatementType", "DML") == "DML" and not token)
    response = client.get_query_results(
        QueryExecutionId=execution["QueryExecutionId"],
        MaxResults=limit + header,
        **({"NextToken": token} if token else {}),
    )
    result = response["ResultSet"]
    rows = [[cell.get("VarCharValue") for cell in row["Data"]] for row in result["Rows"]]
    columns = [
        Column(each["Name"], each["Type"]) for each in result["ResultSetMetadata"]["ColumnInfo"]
    ]
    return Page(columns, rows[header:], response.get("NextToken"))


def read_pages(client: Any, execution: Execution) -> Iterator[Page]:
    """All pages of a query that succeeded; raises botocore's errors."""
    page = read_page(client, execution)
    yield page
    while page.next_token:
        page = read_page(client, execution, token=page.next_token)
        yield page


class Athena:
    """The named queries and the executions of one work group."""

    def __init__(
        self,
        client: Callable[[str], Any],
        work_group: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._work_group = work_group
        self._clock = clock
        self._cache: tuple[float, Sequence[NamedQuery]] | None = None

    @property
    def _athena(self) -> Any:
        return self._client("athena")

    def named(self) -> Sequence[NamedQuery]:
        now = self._clock()
        if self._cache is None or now - self._cache[0] > _CACHE_SECONDS:
            with translated("list named queries of", self._work_group):
                self._cache = now, list(list_named_queries(self._athena, self._work_group))
        return self._cache[1]

    def start(self, query: NamedQuery, literals: Sequence[str]) -> str:
        with translated("start query", query.name):
            return start_query(
                self._athena,
                query.sql,
                literals,
                work_group=self._work_group,
                database=query.database,
            )

    def execution(self, identity: str) -> Execution | None:
        try:
            with translated("describe query", identity):
                execution = describe_query(self._athena, identity)
        except StorageError as error:
            # The role may describe only executions of its own work group.
            if error.code in {_INVALID, "AccessDeniedException"}:
                return None
            raise
        return execution if execution.get("WorkGroup") == self._work_group else None

    def page(self, execution: Execution, limit: int, token: str | None) -> Page:
        try:
            with translated("read the result of query", execution["QueryExecutionId"]):
                return read_page(self._athena, execution, limit=limit, token=token)
        except StorageError as error:
            if error.code != _INVALID:
                raise
            if token:
                raise InvalidRequestError("cursor does not belong to this query") from error
            raise UnknownThingError("the rows were deleted; they are kept for 7 days") from error
