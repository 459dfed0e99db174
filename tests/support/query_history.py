"""A local cloud with two weeks of history, and queries on it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

from infra.operate.athena import QueryResult, named_queries, run_query
from infra.operate.deployment import Stage
from tests.conftest import start_cloud, stop_cloud
from tests.support.expected_query_results import ExpectedResults, Rows
from tests.support.trace_history import History


class HistoryQueries:
    """Queries on a history; the view `history` has only the last two days unless compacted."""

    def __init__(self, history: History, *, compacted: bool) -> None:
        self.history = history
        # The client is passed in because the test's environment variables are not set yet.
        self.stage = Stage("local", _clients={"athena": history.cloud.client("athena")})
        self.lines = history.rows()
        self.expected = ExpectedResults(self.lines, history.today)
        self.before = self.rows("metrics")
        if compacted:
            history.compact(*history.days)
        self.named = {each.name: each for each in named_queries(self.stage)}

    def run(self, name: str, **query_params: Any) -> QueryResult:
        named = self.named[name]
        texts = {key: str(value) for key, value in query_params.items()}
        return run_query(self.stage, named.sql, named.literals(texts))

    def rows(self, table: str) -> Rows:
        """The key columns and some values of every row of a table, sorted."""
        result = run_query(
            self.stage,
            "SELECT resource_id, metric_type, measurement, ts, value_last, value_avg, samples"
            f" FROM {table} ORDER BY 1, 2, 3, 4",
        )
        return [typed(row, result) for row in result.rows]


def typed(row: Sequence[str | None], result: QueryResult) -> tuple[Any, ...]:
    """The values of a row as Python types, including dates and times."""
    times: dict[str, Callable[[str], Any]]
    times = {"timestamp": datetime.fromisoformat, "date": date.fromisoformat}
    return tuple(
        times.get(column.kind, column.convert)(text) if text is not None else None
        for column, text in zip(result.columns, row, strict=True)
    )


@contextmanager
def cloud_with_history(*, compacted: bool) -> Iterator[HistoryQueries]:
    cloud = start_cloud("--no-tick")
    try:
        yield HistoryQueries(History(cloud), compacted=compacted)
    finally:
        stop_cloud(cloud)
