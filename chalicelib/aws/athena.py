"""Athena behind `api.answers.Queries`."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..api.queries import Page
from ..model.errors import InvalidRequestError, StorageError, UnknownThingError
from ..model.named_queries import NamedQuery, read_named_query
from .errors import translated

# A stage's named queries change with its template only.
_KEPT_SECONDS = 300

# What Athena calls an id that it does not know, or a token that is not its own.
_INVALID = "InvalidRequestException"


class Athena:
    """The named queries and the executions of one work group."""

    def __init__(
        self,
        client: Callable[[str], Any],
        work_group: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._of = client
        self._work_group = work_group
        self._clock = clock
        self._kept: tuple[float, Sequence[NamedQuery]] | None = None

    @property
    def _athena(self) -> Any:
        return self._of("athena")

    def named(self) -> Sequence[NamedQuery]:
        now = self._clock()
        if self._kept is None or now - self._kept[0] > _KEPT_SECONDS:
            self._kept = now, self._read_named()
        return self._kept[1]

    def _read_named(self) -> Sequence[NamedQuery]:
        found = []
        with translated("list named queries of", self._work_group):
            pages = self._athena.get_paginator("list_named_queries")
            for page in pages.paginate(WorkGroup=self._work_group):
                for identity in page["NamedQueryIds"]:
                    answer = self._athena.get_named_query(NamedQueryId=identity)
                    found.append(read_named_query(answer["NamedQuery"]))
        return found

    def start(self, query: NamedQuery, literals: Sequence[str]) -> str:
        bound = {"ExecutionParameters": list(literals)} if literals else {}
        with translated("start query", query.name):
            answer = self._athena.start_query_execution(
                QueryString=query.sql,
                QueryExecutionContext={"Database": query.database},
                WorkGroup=self._work_group,
                **bound,
            )
        return str(answer["QueryExecutionId"])

    def execution(self, identity: str) -> Mapping[str, Any] | None:
        try:
            with translated("describe query", identity):
                answer = self._athena.get_query_execution(QueryExecutionId=identity)
        except StorageError as error:
            # The role may look at executions of its own work group only.
            if error.code in {_INVALID, "AccessDeniedException"}:
                return None
            raise
        found: Mapping[str, Any] = answer["QueryExecution"]
        return found if found.get("WorkGroup") == self._work_group else None

    def page(self, identity: str, limit: int, after: str | None, *, titled: bool) -> Page:
        # Then the first row of the first page has the columns' names.
        extra = int(titled and not after)
        request: dict[str, Any] = {"MaxResults": limit + extra}
        if after:
            request["NextToken"] = after
        try:
            with translated("read answer of query", identity):
                answer = self._athena.get_query_results(QueryExecutionId=identity, **request)
        except StorageError as error:
            if error.code != _INVALID:
                raise
            if after:
                raise InvalidRequestError("cursor is not one of this query's") from error
            raise UnknownThingError("rows are kept for 7 days, and these are gone") from error
        result = answer["ResultSet"]
        rows = [[cell.get("VarCharValue") for cell in row["Data"]] for row in result["Rows"]]
        columns = [
            (each["Name"], each["Type"]) for each in result["ResultSetMetadata"]["ColumnInfo"]
        ]
        return Page(columns, rows[extra:], answer.get("NextToken"))
