"""What a collector reports to the state machine, and how chunks' reports become one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, convert, to_builtins

# Names of missing hosts that travel in a report: its size has a limit (256 KB of state for a
# run), and people read the first few. The stored records tell the rest.
NAMED = 20


_ROUTES = ("manifest", "more")


class Result(Struct, frozen=True, kw_only=True):
    """One metric type of one run, or a chunk of it.

    `expected` and `reporting` count resources; `missing` has the names of the first that
    should have reported and did not, `missing_count` how many there are; `failures` and
    `notes` are sentences; `series` counts the CloudWatch metrics requested. PLANNED: nothing
    is measured yet; each of `chunks` is the event for a collector of some of the targets, or
    the object `manifest` has these events, or `more` is the event that goes on planning.
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
    """The result as JSON-able data, with a `summary` for people."""
    plain: dict[str, Any] = to_builtins(result)
    # The state machine asks whether these are there.
    plain = {name: value for name, value in plain.items() if value or name not in _ROUTES}
    return plain | {"missing": result.missing[:NAMED], "summary": summarize(result)}


def summarize(result: Result) -> str:
    """One metric type in a few lines that a person reads on a phone."""
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
    """One report of a metric type from its plan and from the reports of its chunks.

    What was never planned, or has failed already, stays as it is.

    A chunk that failed for good makes the whole FAILED, in the form that a branch's own
    failure has; what the other chunks measured is stored.
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
        missing=missing[:NAMED],
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
    """Each sentence once, in the order of the first."""
    return list(dict.fromkeys(sentences))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
