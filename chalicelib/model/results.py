"""The collector's result for the state machine, and merging the results of chunks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, convert, to_builtins

# The names of missing hosts in a result. The state of a run is limited to 256 KB, and people read
# the first few names; the stored records have the rest.
MAX_NAMES = 20

# Fields whose presence decides how the state machine continues.
_ROUTES = ("manifest", "more")


class Result(Struct, frozen=True, kw_only=True):
    """The result of one metric type of a run, or of a chunk of it.

    `expected` and `reporting` count hosts; `missing` has the first names of expected hosts without
    a record, `missing_count` their number; `failures` and `notes` are sentences; `series` counts
    the requested CloudWatch metrics. With the status PLANNED nothing is measured yet: `chunks` are
    events for collectors of some targets each, or the object `manifest` has these events, or `more`
    is the event that continues planning.
    """

    metric_type: str
    status: str
    records: int = 0
    expected: int = 0
    reporting: int = 0
    missing: list[str] = []
    missing_count: int = 0
    failures: list[str] = []
    notes: list[str] = []
    series: int = 0
    duration_ms: int = 0
    chunks: list[dict[str, Any]] = []
    manifest: str = ""
    more: dict[str, Any] = {}
    summary: str = ""


def report(result: Result) -> dict[str, Any]:
    """The result as JSON values, with a `summary` for people."""
    values: dict[str, Any] = to_builtins(result)
    values = {name: value for name, value in values.items() if value or name not in _ROUTES}
    return values | {"missing": result.missing[:MAX_NAMES], "summary": summarize(result)}


def summarize(result: Result) -> str:
    """The result in a few lines, short enough for a phone."""
    lines = [
        f"{result.metric_type}: {_count(result.records, 'record')} from"
        f" {_count(result.reporting, 'host')} in {result.duration_ms} ms"
    ]
    if result.missing_count:
        names = ", ".join(result.missing[:5])
        more = ", ..." if result.missing_count > 5 else ""
        lines.append(f"  missing {result.missing_count} of {result.expected}: {names}{more}")
    lines += [f"  {sentence}" for sentence in [*result.failures, *result.notes]]
    return "\n".join(lines)


def merge(planned: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result of a metric type from its plan and the results of its chunks.

    A result that is not a plan is returned unchanged. If a chunk failed, the merged result is
    FAILED and has the form of a failed branch; the records of the other chunks are stored.
    """
    if planned["status"] != "PLANNED":
        return dict(planned)
    plan = convert(planned, Result)
    done = [convert(each, Result) for each in chunks if each.get("status") == "SUCCEEDED"]
    failed = [each for each in chunks if each.get("status") != "SUCCEEDED"]
    missing = [name for each in done for name in each.missing]
    result = Result(
        metric_type=plan.metric_type,
        status="FAILED" if failed else "SUCCEEDED",
        records=sum(each.records for each in done),
        expected=plan.expected,
        reporting=sum(each.reporting for each in done),
        missing=missing[:MAX_NAMES],
        missing_count=sum(each.missing_count for each in done),
        failures=distinct([*plan.failures, *(text for each in done for text in each.failures)]),
        notes=distinct([*plan.notes, *(text for each in done for text in each.notes)]),
        series=sum(each.series for each in done),
        duration_ms=max((each.duration_ms for each in done), default=0),
    )
    merged = report(result)
    if failed:
        causes = distinct([str(each.get("cause", ""))[:300] for each in failed])
        merged["error"] = "ChunksFailed"
        merged["cause"] = f"{len(failed)} of {len(chunks)} chunks failed: {'; '.join(causes[:3])}"
    return merged


def distinct(sentences: Iterable[str]) -> list[str]:
    """The sentences without duplicates, in the order of their first occurrence."""
    return list(dict.fromkeys(sentences))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
