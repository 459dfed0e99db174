"""Run a query in Athena and read its whole result, with progress and cost."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws import athena
from chalicelib.model.named_queries import NamedQuery
from chalicelib.model.query_results import Column, Row, typed_rows

from ..command_line import CommandError
from .deployment import Stage

# Dollars for each TB scanned, and the minimum that is billed for each query:
# https://aws.amazon.com/athena/pricing/
DOLLARS_PER_TB = 5.0
_TB = 2**40
_MIN_BILLED_BYTES = 10 * 2**20

_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows of a query as Athena's text, None for NULL, and the query's statistics."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    scanned_bytes: int
    seconds: float

    @property
    def dollars(self) -> float:
        """The price of the query in Athena, without S3 requests."""
        return DOLLARS_PER_TB * max(self.scanned_bytes, _MIN_BILLED_BYTES) / _TB

    def values(self) -> Iterator[dict[str, Any]]:
        """The rows as Python values by column name."""
        names = [column.name for column in self.columns]
        for row in typed_rows(self.columns, self.rows):
            yield dict(zip(names, row, strict=True))


def named_queries(stage: Stage) -> list[NamedQuery]:
    """The named queries of the stage's work group, sorted by name."""
    found = athena.list_named_queries(stage.client("athena"), stage.work_group)
    return sorted(found, key=lambda each: each.name)


def run_query(
    stage: Stage,
    sql: str,
    literals: Sequence[str] = (),
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> QueryResult:
    """Run a query and wait for its result; an exception, such as Ctrl-C, stops the query.

    Raises:
        CommandError: the query failed, was stopped, or exceeded the work group's scan limit.
    """
    client = stage.client("athena")
    identity = athena.start_query(
        client, sql, literals, work_group=stage.work_group, database=stage.database
    )
    try:
        execution = athena.wait_for_query(
            client,
            identity,
            poll_seconds=_POLL_SECONDS,
            progress=lambda running: progress(_describe_progress(running)),
        )
    except BaseException:
        _stop(client, identity)
        raise
    if execution["Status"]["State"] != "SUCCEEDED":
        raise CommandError(_describe_failure(execution["Status"], identity))
    pages = list(athena.read_pages(client, execution))
    statistics = execution["Statistics"]
    return QueryResult(
        pages[0].columns,
        [row for page in pages for row in page.rows],
        scanned_bytes=statistics.get("DataScannedInBytes", 0),
        seconds=statistics.get("TotalExecutionTimeInMillis", 0) / 1000,
    )


def _stop(client: Any, identity: str) -> None:
    try:
        client.stop_query_execution(QueryExecutionId=identity)
    except ClientError as error:
        raise CommandError(f"query {identity} could not be stopped: {error}") from error


def _describe_progress(execution: Mapping[str, Any]) -> str:
    scanned = execution.get("Statistics", {}).get("DataScannedInBytes", 0)
    return f"{execution['Status']['State'].lower()}, {format_bytes(scanned)} scanned"


def _describe_failure(status: Mapping[str, Any], identity: str) -> str:
    reason = status.get("StateChangeReason", "Athena gives no reason")
    if "scanned limit" in reason:
        reason += "; query fewer days, or restrict the days: dt BETWEEN '…' AND '…'"
    return f"query {identity} {status['State']}: {reason}"


def format_bytes(count: int) -> str:
    """A number of bytes with a unit, for example 1.5 MB."""
    amount = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if amount < 1024 or unit == "GB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
