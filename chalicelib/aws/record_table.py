"""What the API reads of the table: `api.records.Records`, `api.fleet.Fleet`, `api.history.History`.

Items stay for up to two days after they expire, so each read leaves out those that have.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from ..api import measurements as views
from ..api.host_history import Host
from ..api.parameters import Span
from ..api.records import Position, Wanted
from ..model.errors import StorageError
from ..model.items import Item
from ..model.records import METRIC_TYPES
from ..model.windows import format_utc, parse_utc
from .errors import translated

_INDEX = "metric_type-timestamp-index"

# Requests side by side; each reads up to a megabyte of the index, or a hundred items.
_WORKERS = 8
_BATCH = 100
_ATTEMPTS = 6

# Requests for one page of records, whose answer has to stay below Lambda's 6 MB; for the newest
# part of a host's history; and for a host that is not in there.
_PAGE_REQUESTS = 3
_NEAR_REQUESTS = 2
_SEARCH_REQUESTS = 12

# How long the fleet's older windows are kept, for several people who look at one time.
_KEPT_SECONDS = 60

# Before and after every timestamp, as text.
_EVER = ("0", "9")

_A = TypeVar("_A")
_B = TypeVar("_B")


class TableReader:
    """Records that have not expired: by pages, by windows, and by keys."""

    def __init__(
        self,
        client: Callable[[str], Any],
        table: str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep
        self._clock = clock
        self._older: tuple[tuple[str, str], float, list[list[Item]]] = ("", ""), 0.0, []

    @property
    def table(self) -> str:
        return self._table

    # --- Pages ------------------------------------------------------------------------------

    def page(self, wanted: Wanted, now: datetime) -> tuple[Sequence[Item], Position | None]:
        host = Host(wanted.resource_id) if wanted.resource_id else None
        request = _query(self._table, wanted.metric_type, now, times=_times(wanted.span), host=host)
        request["Limit"] = 1_000 if host else wanted.limit
        if wanted.after:
            request["ExclusiveStartKey"] = _start(wanted.metric_type, wanted.after)
        found: list[Item] = []
        after: Position | None = None
        for items, last in self._pages(request, _PAGE_REQUESTS):
            found += items
            after = _position(last) if last else None
            if len(found) > wanted.limit or (len(found) == wanted.limit and last):
                return found[: wanted.limit], _position(found[wanted.limit - 1])
        return found, after

    # --- The fleet --------------------------------------------------------------------------

    def newest(self, now: datetime) -> datetime | None:
        # One clock that is ahead must not make every other host one that is missing.
        times = _EVER[0], format_utc(now)
        return max(
            (end for name in METRIC_TYPES if (end := self._newest(name, times, now))), default=None
        )

    def _newest(self, metric_type: str, times: tuple[str, str], now: datetime) -> datetime | None:
        request = _query(self._table, metric_type, now, times=times, paths=[("timestamp",)])
        items, _ = next(self._pages(request | {"Limit": 1}, 1))
        return parse_utc(items[0]["timestamp"]["S"]) if items else None

    def recent(
        self, since: datetime, brief_until: datetime, now: datetime, *, fresh: bool = False
    ) -> Mapping[str, Sequence[Item]]:
        until = format_utc(brief_until)
        # Just above a timestamp is that timestamp with anything behind it.
        parts = [(name, views.paths(name), (f"{until}~", _EVER[1])) for name in METRIC_TYPES]
        key = format_utc(since), until
        older = None if fresh else self._kept(key)
        if older is None:
            parts += [(name, views.brief_paths(name), key) for name in METRIC_TYPES]

        def read(part: tuple[str, Sequence[views.Path], tuple[str, str]]) -> list[Item]:
            metric_type, paths, times = part
            request = _query(self._table, metric_type, now, times=times, paths=paths)
            return [item for items, _ in self._pages(request) for item in items]

        found = _side_by_side(read, parts)
        if older is None:
            older = found[len(METRIC_TYPES) :]
            self._older = key, self._clock() + _KEPT_SECONDS, older
        return {name: found[at] + older[at] for at, name in enumerate(METRIC_TYPES)}

    def _kept(self, key: tuple[str, str]) -> list[list[Item]] | None:
        """Windows that have ended change with late points and replays only."""
        kept, until, older = self._older
        return older if kept == key and self._clock() < until else None

    # --- One host ---------------------------------------------------------------------------

    def near(
        self, host: Host, span: Span, now: datetime
    ) -> tuple[Mapping[str, Sequence[Item]], datetime | None]:
        def read(metric_type: str) -> tuple[list[Item], str]:
            return self._of_host(host, metric_type, span, now, _NEAR_REQUESTS)

        answers = dict(zip(METRIC_TYPES, _side_by_side(read, METRIC_TYPES), strict=True))
        reached = max(each for _, each in answers.values())
        found: dict[str, Sequence[Item]] = {name: each for name, (each, _) in answers.items()}
        return found, parse_utc(reached) if reached else None

    def search(self, host: Host, span: Span, now: datetime) -> Sequence[Item]:
        for metric_type in METRIC_TYPES:
            found, _ = self._of_host(host, metric_type, span, now, _SEARCH_REQUESTS)
            if found:
                return found
        return []

    def _of_host(
        self, host: Host, metric_type: str, span: Span, now: datetime, requests: int
    ) -> tuple[list[Item], str]:
        """The host's newest records, and the timestamp down to which they are; empty for all."""
        paths = views.paths(metric_type, parts=True)
        request = _query(self._table, metric_type, now, times=_times(span), host=host, paths=paths)
        found: list[Item] = []
        reached = ""
        for items, last in self._pages(request, requests):
            found += items
            reached = last["timestamp"]["S"] if last else ""
        return found, reached

    def ends(self, moments: Collection[datetime], now: datetime) -> Collection[datetime]:
        def read(moment: datetime) -> datetime | None:
            return self._newest("cpu", (_EVER[0], format_utc(moment)), now)

        return {end for end in _side_by_side(read, moments) if end}

    def items(
        self, keys: Mapping[str, Sequence[Item]], now: datetime, *, whole: bool = False
    ) -> Mapping[str, Sequence[Item]]:
        batches = [
            (metric_type, of_type[start : start + _BATCH])
            for metric_type, of_type in keys.items()
            for start in range(0, len(of_type), _BATCH)
        ]

        def read(batch: tuple[str, Sequence[Item]]) -> list[Item]:
            metric_type, wanted = batch
            paths = [] if whole else views.paths(metric_type, parts=True)
            return self._batch(wanted, paths)

        found: dict[str, list[Item]] = {name: [] for name in keys}
        for (metric_type, _), items in zip(batches, _side_by_side(read, batches), strict=True):
            found[metric_type] += [
                item for item in items if int(item["expires_at"]["N"]) > now.timestamp()
            ]
        return found

    def _batch(self, keys: Sequence[Item], paths: Sequence[views.Path]) -> list[Item]:
        request: Any = {"Keys": list(keys)}
        if paths:
            request |= _projection([*paths, ("expires_at",)])
        found: list[Item] = []
        for attempt in range(_ATTEMPTS):
            with translated("read items", self._table):
                answer = self._client("dynamodb").batch_get_item(
                    RequestItems={self._table: request}
                )
            found += answer["Responses"].get(self._table, [])
            request = answer.get("UnprocessedKeys", {}).get(self._table)
            if not request:
                return found
            self._sleep(0.05 * 2**attempt)
        left = f"{len(request['Keys'])} left after {_ATTEMPTS} attempts"
        raise StorageError("read items", self._table, "Throttled", left)

    def _pages(
        self, request: dict[str, Any], most: int = 10_000
    ) -> Iterator[tuple[list[Item], Item | None]]:
        """The items of one request after the other, and where each ends if there may be more."""
        last: Item | None = None
        for _ in range(most):
            start = {"ExclusiveStartKey": last} if last else {}
            with translated("query", f"{self._table}/{_INDEX}"):
                answer = self._client("dynamodb").query(**request | start)
            last = answer.get("LastEvaluatedKey")
            yield answer["Items"], last
            if not last:
                return


def _query(
    table: str,
    metric_type: str,
    now: datetime,
    *,
    times: tuple[str, str],
    host: Host | None = None,
    paths: Sequence[views.Path] = (),
) -> dict[str, Any]:
    """A query of the index, newest first."""
    conditions = {"resource_id": host.resource_id} if host else {}
    if host and host.account_id:
        conditions["account_id"] = host.account_id
    if host and host.region:
        conditions["region"] = host.region
    request: dict[str, Any] = {
        "TableName": table,
        "IndexName": _INDEX,
        "KeyConditionExpression": "#type = :type AND #time BETWEEN :start AND :stop",
        "FilterExpression": " AND ".join(
            ["#expires > :now", *(f"#{name} = :{name}" for name in conditions)]
        ),
        "ExpressionAttributeNames": {
            "#type": "metric_type",
            "#time": "timestamp",
            "#expires": "expires_at",
            **{f"#{name}": name for name in conditions},
        },
        "ExpressionAttributeValues": {
            ":type": {"S": metric_type},
            ":start": {"S": times[0]},
            ":stop": {"S": times[1]},
            ":now": {"N": str(int(now.timestamp()))},
            **{f":{name}": {"S": value} for name, value in conditions.items()},
        },
        "ScanIndexForward": False,
    }
    if paths:
        projection = _projection(paths)
        projection["ExpressionAttributeNames"] |= request["ExpressionAttributeNames"]
        request |= projection
    return request


def _projection(paths: Sequence[views.Path]) -> dict[str, Any]:
    """The attributes to read; every name stands for itself, for some are reserved words."""
    names = {
        word: f"#p{number}" for number, word in enumerate(sorted({w for p in paths for w in p}))
    }
    return {
        "ProjectionExpression": ", ".join(".".join(names[word] for word in path) for path in paths),
        "ExpressionAttributeNames": {name: word for word, name in names.items()},
    }


def _times(span: Span) -> tuple[str, str]:
    return format_utc(span.start), format_utc(span.stop)


def _start(metric_type: str, after: Position) -> Item:
    timestamp, identity = after
    return {
        "metric_type": {"S": metric_type},
        "timestamp": {"S": timestamp},
        "metric_id": {"S": identity},
    }


def _position(item: Item) -> Position:
    return item["timestamp"]["S"], item["metric_id"]["S"]


def _side_by_side(work: Callable[[_A], _B], each: Iterable[_A]) -> list[_B]:
    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        return list(pool.map(work, each))
