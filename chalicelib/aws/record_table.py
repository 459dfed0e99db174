"""The API's reads of the table: implements `api.service.Table`.

DynamoDB deletes an item up to two days after it expires, so each read leaves out expired items.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from ..api import measurements
from ..api.host_history import Host
from ..api.parameters import TimeRange
from ..api.records import PageToken, RecordsQuery
from ..model.dynamodb import INDEX_NAME, Item
from ..model.metric_types import METRIC_TYPES
from ..model.windows import format_utc, parse_utc
from .errors import translated
from .store import read_batch

# Parallel requests; each one reads up to a megabyte of the index, or a hundred items.
_WORKERS = 8
_BATCH = 100

# The requests for one page of records, whose response must stay below Lambda's 6 MB; for the newest
# part of a host's history; and for a host that is not in it.
_PAGE_REQUESTS = 3
_RECENT_REQUESTS = 2
_SEARCH_REQUESTS = 12

# How long the averages of the fleet's older windows are cached, for several users at a time.
_CACHE_SECONDS = 60

# Sorts before and after every timestamp.
_FIRST, _LAST = "0", "9"

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class TableReader:
    """Reads records that have not expired: by page, by window, and by key."""

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

    def page(self, query: RecordsQuery, now: datetime) -> tuple[Sequence[Item], PageToken | None]:
        host = Host(query.resource_id) if query.resource_id else None
        request = _query(
            self._table, query.metric_type, now, times=_times(query.time_range), host=host
        )
        request["Limit"] = 1_000 if host else query.limit
        if query.after:
            request["ExclusiveStartKey"] = _start(query.metric_type, query.after)
        found: list[Item] = []
        after: PageToken | None = None
        for items, last in self._pages(request, _PAGE_REQUESTS):
            found += items
            after = _page_token(last) if last else None
            if len(found) > query.limit or (len(found) == query.limit and last):
                return found[: query.limit], _page_token(found[query.limit - 1])
        return found, after

    # --- The fleet --------------------------------------------------------------------------

    def newest(self, now: datetime) -> datetime | None:
        # A host whose clock is ahead must not make every other host missing.
        times = _FIRST, format_utc(now)
        return max(
            (end for name in METRIC_TYPES if (end := self._newest(name, times, now))), default=None
        )

    def _newest(self, metric_type: str, times: tuple[str, str], now: datetime) -> datetime | None:
        request = _query(self._table, metric_type, now, times=times, paths=[("timestamp",)])
        items, _ = next(self._pages(request | {"Limit": 1}, 1))
        return parse_utc(items[0]["timestamp"]["S"]) if items else None

    def recent(
        self, since: datetime, averages_until: datetime, now: datetime, *, fresh: bool = False
    ) -> Mapping[str, Sequence[Item]]:
        until = format_utc(averages_until)
        # A timestamp followed by any text sorts directly after the timestamp.
        tasks = [(name, measurements.paths(name), (f"{until}~", _LAST)) for name in METRIC_TYPES]
        key = format_utc(since), until
        older = None if fresh else self._cached(key)
        if older is None:
            tasks += [(name, measurements.average_paths(name), key) for name in METRIC_TYPES]

        def read(task: tuple[str, Sequence[measurements.Path], tuple[str, str]]) -> list[Item]:
            metric_type, paths, times = task
            request = _query(self._table, metric_type, now, times=times, paths=paths)
            return [item for items, _ in self._pages(request) for item in items]

        found = _in_parallel(read, tasks)
        if older is None:
            older = found[len(METRIC_TYPES) :]
            self._older = key, self._clock() + _CACHE_SECONDS, older
        return {name: found[at] + older[at] for at, name in enumerate(METRIC_TYPES)}

    def _cached(self, key: tuple[str, str]) -> list[list[Item]] | None:
        """The older windows from the cache; they change only by late points and replays."""
        cached, until, older = self._older
        return older if cached == key and self._clock() < until else None

    # --- One host ---------------------------------------------------------------------------

    def recent_of(
        self, host: Host, time_range: TimeRange, now: datetime
    ) -> tuple[Mapping[str, Sequence[Item]], datetime | None]:
        def read(metric_type: str) -> tuple[list[Item], str]:
            return self._of_host(host, metric_type, time_range, now, _RECENT_REQUESTS)

        by_type = dict(zip(METRIC_TYPES, _in_parallel(read, METRIC_TYPES), strict=True))
        reached = max(each for _, each in by_type.values())
        found: dict[str, Sequence[Item]] = {name: each for name, (each, _) in by_type.items()}
        return found, parse_utc(reached) if reached else None

    def search(self, host: Host, time_range: TimeRange, now: datetime) -> Sequence[Item]:
        for metric_type in METRIC_TYPES:
            found, _ = self._of_host(host, metric_type, time_range, now, _SEARCH_REQUESTS)
            if found:
                return found
        return []

    def _of_host(
        self, host: Host, metric_type: str, time_range: TimeRange, now: datetime, requests: int
    ) -> tuple[list[Item], str]:
        """The host's newest records, and since when they are complete; empty if all are."""
        paths = measurements.paths(metric_type, components=True)
        request = _query(
            self._table, metric_type, now, times=_times(time_range), host=host, paths=paths
        )
        found: list[Item] = []
        reached = ""
        for items, last in self._pages(request, requests):
            found += items
            reached = last["timestamp"]["S"] if last else ""
        return found, reached

    def ends(self, moments: Collection[datetime], now: datetime) -> Collection[datetime]:
        def read(moment: datetime) -> datetime | None:
            return self._newest(METRIC_TYPES[0], (_FIRST, format_utc(moment)), now)

        return {end for end in _in_parallel(read, moments) if end}

    def items(
        self, keys: Mapping[str, Sequence[Item]], now: datetime, *, whole: bool = False
    ) -> Mapping[str, Sequence[Item]]:
        batches = [
            (metric_type, of_type[start : start + _BATCH])
            for metric_type, of_type in keys.items()
            for start in range(0, len(of_type), _BATCH)
        ]

        def read(batch: tuple[str, Sequence[Item]]) -> list[Item]:
            metric_type, keys_of_type = batch
            paths = [] if whole else measurements.paths(metric_type, components=True)
            return self._batch(keys_of_type, paths)

        found: dict[str, list[Item]] = {name: [] for name in keys}
        for (metric_type, _), items in zip(batches, _in_parallel(read, batches), strict=True):
            found[metric_type] += [
                item for item in items if int(item["expires_at"]["N"]) > now.timestamp()
            ]
        return found

    def _batch(self, keys: Sequence[Item], paths: Sequence[measurements.Path]) -> list[Item]:
        request: Any = {"Keys": list(keys)}
        if paths:
            request |= _projection([*paths, ("expires_at",)])
        return read_batch(self._client("dynamodb"), self._table, request, self._sleep)

    def _pages(
        self, request: dict[str, Any], most: int = 10_000
    ) -> Iterator[tuple[list[Item], Item | None]]:
        """The items of each request, and its last key if there may be more."""
        last: Item | None = None
        for _ in range(most):
            start = {"ExclusiveStartKey": last} if last else {}
            with translated("query", f"{self._table}/{INDEX_NAME}"):
                response = self._client("dynamodb").query(**request | start)
            last = response.get("LastEvaluatedKey")
            yield response["Items"], last
            if not last:
                return


def _query(
    table: str,
    metric_type: str,
    now: datetime,
    *,
    times: tuple[str, str],
    host: Host | None = None,
    paths: Sequence[measurements.Path] = (),
) -> dict[str, Any]:
    """A query of the index, newest first."""
    conditions = {"resource_id": host.resource_id} if host else {}
    if host and host.account_id:
        conditions["account_id"] = host.account_id
    if host and host.region:
        conditions["region"] = host.region
    request: dict[str, Any] = {
        "TableName": table,
        "IndexName": INDEX_NAME,
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


def _projection(paths: Sequence[measurements.Path]) -> dict[str, Any]:
    """The attributes to read; each name has a placeholder, because some are reserved words."""
    names = {
        word: f"#p{number}" for number, word in enumerate(sorted({w for p in paths for w in p}))
    }
    return {
        "ProjectionExpression": ", ".join(".".join(names[word] for word in path) for path in paths),
        "ExpressionAttributeNames": {name: word for word, name in names.items()},
    }


def _times(time_range: TimeRange) -> tuple[str, str]:
    return format_utc(time_range.start), format_utc(time_range.stop)


def _start(metric_type: str, after: PageToken) -> Item:
    timestamp, identity = after
    return {
        "metric_type": {"S": metric_type},
        "timestamp": {"S": timestamp},
        "metric_id": {"S": identity},
    }


def _page_token(item: Item) -> PageToken:
    return item["timestamp"]["S"], item["metric_id"]["S"]


def _in_parallel(read: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> list[_Result]:
    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        return list(pool.map(read, tasks))
