"""Embedded metric format (EMF): the metrics that CloudWatch Logs extracts from log lines.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_MAX_METRICS, _MAX_VALUES, _MAX_DIMENSIONS = 100, 100, 30
_MAX_AGE, _MAX_AHEAD = timedelta(days=14), timedelta(hours=2)


class EmbeddedMetricError(Exception):
    """A log line is in EMF, but invalid."""


@dataclass(frozen=True, slots=True)
class EmbeddedMetric:
    """Values of one metric with one set of dimensions."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    values: list[float]
    unit: str
    at: datetime


def parse_line(line: str, now: datetime) -> list[EmbeddedMetric]:
    """Return the metrics in a log line; empty if the line is not in EMF.

    Raises:
        EmbeddedMetricError: CloudWatch rejects the line.
    """
    if not line.lstrip().startswith("{") or '"_aws"' not in line:
        return []
    try:
        document = json.loads(line, parse_constant=_reject_constant)
    except ValueError as error:
        raise EmbeddedMetricError(f"invalid JSON: {error}") from error
    try:
        return list(_parse(document, now))
    except (KeyError, TypeError, AttributeError) as error:
        raise EmbeddedMetricError(f"{type(error).__name__}: {error}") from error


def _parse(document: Mapping[str, Any], now: datetime) -> Iterator[EmbeddedMetric]:
    at = datetime.fromtimestamp(document["_aws"]["Timestamp"] / 1000, UTC)
    if not now - _MAX_AGE < at < now + _MAX_AHEAD:
        raise EmbeddedMetricError(f"{at} is more than 14 days old or 2 hours ahead")
    for directive in document["_aws"]["CloudWatchMetrics"]:
        if len(directive["Metrics"]) > _MAX_METRICS:
            raise EmbeddedMetricError(f"more than {_MAX_METRICS} metrics")
        for names in directive["Dimensions"]:
            if len(names) > _MAX_DIMENSIONS:
                raise EmbeddedMetricError(f"more than {_MAX_DIMENSIONS} dimensions")
            dimensions = {name: _string(document[name]) for name in names}
            for metric in directive["Metrics"]:
                name = metric["Name"]
                yield EmbeddedMetric(
                    namespace=_string(directive["Namespace"]),
                    name=name,
                    dimensions=dimensions,
                    values=_values(document[name], name),
                    unit=metric.get("Unit", "None"),
                    at=at,
                )


def _values(member: Any, name: str) -> list[float]:
    values = member if isinstance(member, list) else [member]
    if not 0 < len(values) <= _MAX_VALUES:
        raise EmbeddedMetricError(f"{name} has {len(values)} values, not 1 to {_MAX_VALUES}")
    for value in values:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise EmbeddedMetricError(f"{name}: {value!r} is not a number")
    return [float(value) for value in values]


def _string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise EmbeddedMetricError(f"{value!r} is not a non-empty string")
    return value


def _reject_constant(constant: str) -> Any:
    raise EmbeddedMetricError(f"{constant} is not a JSON number")
