"""A cloud with two weeks of history, and how to ask of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

from infra.operate.athena import QueryResult, named_queries, run_query
from infra.operate.deployment import Stage
from tests.conftest import start_cloud, stop_cloud
from tests.support.expected_query_results import Expected, Rows
from tests.support.trace_history import History


class Asked:
    """A history and its cloud; unless it is compacted, `history` has its last two days only."""

    def __init__(self, history: History, *, compacted: bool) -> None:
        self.history = history
        # With a client of its own: this is made before a test's environment is there.
        self.stage = Stage("local", _clients={"athena": history.cloud.client("athena")})
        self.lines = history.rows()
        self.expected = Expected(self.lines, history.today)
        self.before = self.rows("metrics")
        if compacted:
            history.compact(*history.days)
        self.named = {each.name: each for each in named_queries(self.stage)}

    def ask(self, name: str, **given: Any) -> QueryResult:
        named = self.named[name]
        texts = {key: str(value) for key, value in given.items()}
        return run_query(self.stage, named.sql, named.literals(texts))

    def rows(self, table: str) -> Rows:
        """What identifies a row, and some of its values, sorted."""
        answer = run_query(
            self.stage,
            "SELECT resource_id, metric_type, measurement, ts, value_last, value_avg, samples"
            f" FROM {table} ORDER BY 1, 2, 3, 4",
        )
        return [typed(row, answer) for row in answer.rows]


def typed(row: Sequence[str | None], answer: QueryResult) -> tuple[Any, ...]:
    """A row's values, times as such."""
    times: dict[str, Callable[[str], Any]]
    times = {"timestamp": datetime.fromisoformat, "date": date.fromisoformat}
    return tuple(
        times.get(column.kind, column.convert)(text) if text is not None else None
        for column, text in zip(answer.columns, row, strict=True)
    )


@contextmanager
def cloud_with_history(*, compacted: bool) -> Iterator[Asked]:
    cloud = start_cloud("--no-tick")
    try:
        yield Asked(History(cloud), compacted=compacted)
    finally:
        stop_cloud(cloud)
