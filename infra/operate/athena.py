"""Athena, asked: the named queries of a stage's work group, and a query with its answer."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.model.named_queries import NamedQuery, read_named_query

from ..command_line import CommandError
from .deployment import Stage

# Athena's price for each TB that is read, in dollars, and the least that a query is billed for:
# https://aws.amazon.com/athena/pricing/
DOLLARS_A_TB = 5.0
_TB = 2**40
_LEAST_BYTES = 10 * 2**20

_GOING_ON = frozenset({"QUEUED", "RUNNING"})
_POLL_SECONDS = 0.25

_NUMBERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("tinyint", "smallint", "integer", "bigint"), int),
    **dict.fromkeys(("double", "float", "real", "decimal"), float),
    "boolean": lambda text: text == "true",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer and its type in Athena's words."""

    name: str
    kind: str

    @property
    def numeric(self) -> bool:
        return self.kind != "boolean" and self.kind in _NUMBERS

    def value(self, text: str | None) -> Any:
        """Athena's text as a Python value; text where that has no closer one."""
        return text if text is None else _NUMBERS.get(self.kind, str)(text)


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query as Athena's text, None for NULL, and what it took."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | None]]
    scanned_bytes: int
    seconds: float

    @property
    def dollars(self) -> float:
        """What Athena bills; S3's requests are not in it."""
        return DOLLARS_A_TB * max(self.scanned_bytes, _LEAST_BYTES) / _TB

    def values(self) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            pairs = zip(self.columns, row, strict=True)
            yield {column.name: column.value(text) for column, text in pairs}


def named_queries(stage: Stage) -> list[NamedQuery]:
    """The named queries of the stage's work group, by name."""
    athena = stage.client("athena")
    pages = athena.get_paginator("list_named_queries").paginate(WorkGroup=stage.work_group)
    found = (
        athena.get_named_query(NamedQueryId=identity)["NamedQuery"]
        for page in pages
        for identity in page["NamedQueryIds"]
    )
    return sorted(map(read_named_query, found), key=lambda each: each.name)


def ask(
    stage: Stage,
    sql: str,
    literals: Sequence[str] = (),
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Answer:
    """Run a query to its end; stop it if this is interrupted.

    Raises:
        CommandError: it failed, was stopped, or read more than the work group lets it.
    """
    athena = stage.client("athena")
    bound = {"ExecutionParameters": list(literals)} if literals else {}
    identity = athena.start_query_execution(
        QueryString=sql,
        WorkGroup=stage.work_group,
        QueryExecutionContext={"Database": stage.database},
        **bound,
    )["QueryExecutionId"]
    try:
        execution = _wait(athena, identity, progress)
    except BaseException:
        _stop(athena, identity)
        raise
    status, statistics = execution["Status"], execution["Statistics"]
    if status["State"] != "SUCCEEDED":
        raise CommandError(_why(status, identity))
    columns, rows = _read(athena, identity, execution.get("StatementType", "DML"))
    return Answer(
        columns,
        rows,
        scanned_bytes=statistics.get("DataScannedInBytes", 0),
        seconds=statistics.get("TotalExecutionTimeInMillis", 0) / 1000,
    )


def _wait(athena: Any, identity: str, progress: Callable[[str], None]) -> dict[str, Any]:
    while True:
        execution: dict[str, Any] = athena.get_query_execution(QueryExecutionId=identity)[
            "QueryExecution"
        ]
        state = execution["Status"]["State"]
        if state not in _GOING_ON:
            return execution
        scanned = execution.get("Statistics", {}).get("DataScannedInBytes", 0)
        progress(f"{state.lower()}, {size(scanned)} read")
        time.sleep(_POLL_SECONDS)


def _stop(athena: Any, identity: str) -> None:
    try:
        athena.stop_query_execution(QueryExecutionId=identity)
    except ClientError as error:
        raise CommandError(f"query {identity} could not be stopped: {error}") from error


def _why(status: dict[str, Any], identity: str) -> str:
    reason = status.get("StateChangeReason", "Athena gives no reason")
    if "scanned limit" in reason:
        reason += "; ask for fewer days, or name the days: dt BETWEEN '…' AND '…'"
    return f"query {identity} {status['State']}: {reason}"


def _read(
    athena: Any, identity: str, statement: str
) -> tuple[list[Column], list[list[str | None]]]:
    columns: list[Column] = []
    rows: list[list[str | None]] = []
    for page in athena.get_paginator("get_query_results").paginate(QueryExecutionId=identity):
        result = page["ResultSet"]
        described = result["ResultSetMetadata"]["ColumnInfo"]
        columns = [Column(each["Name"], each["Type"]) for each in described]
        rows += ([each.get("VarCharValue") for each in row["Data"]] for row in result["Rows"])
    # The first row of a SELECT repeats the columns' names.
    return columns, rows[1:] if statement == "DML" else rows


def size(count: int) -> str:
    """Bytes as people say them."""
    amount = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if amount < 1024 or unit == "GB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
