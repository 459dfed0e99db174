"""The metric sources, and how each one reports bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from .metric_types import rate_of

Source = Literal["host", "cloudwatch", "node_exporter", "external"]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source's numbers.

    `byte_totals` says whether `bytes_sent` and `bytes_received` are counters since boot
    ("since_boot") or averages of the sums over a metric period ("per_period", as CloudWatch's).
    """

    byte_totals: Literal["since_boot", "per_period"] = "since_boot"

    @property
    def has_counters(self) -> bool:
        return self.byte_totals == "since_boot"

    def rate(self, name: str, period_seconds: int) -> tuple[str, float]:
        """The measurement with the traffic of `name`, and the seconds to divide it by."""
        return (rate_of(name), 1.0) if self.has_counters else (name, float(period_seconds))


SOURCES: Mapping[str, SourceSpec] = {
    "host": SourceSpec(),
    "cloudwatch": SourceSpec(byte_totals="per_period"),
    "node_exporter": SourceSpec(),
    "external": SourceSpec(),
}

SOURCE_NAMES: tuple[Source, ...] = get_args(Source)
