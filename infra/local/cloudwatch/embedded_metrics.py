"""Embedded metric format: what CloudWatch Logs makes of a log line that holds metrics.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_MAX_METRICS, _MAX_VALUES, _MAX_DIMENSIONS = 100, 100, 30
_OLDEST, _AHEAD = timedelta(days=14), timedelta(hours=2)


class EmbeddedMetricError(Exception):
    """A line claims to hold metrics, and CloudWatch would not take them."""


@dataclass(frozen=True, slots=True)
class EmbeddedMetric:
    """Values of one metric under one set of dimensions."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    values: list[float]
    unit: str
    at: datetime


def parse_line(line: str, now: datetime) -> list[EmbeddedMetric]:
    """The metrics in a log line; none in one that does not claim to have any.

    Raises:
        EmbeddedMetricError: says what is wrong with it.
    """
    if not line.lstrip().startswith("{") or '"_aws"' not in line:
        return []
    try:
        document = json.loads(line, parse_constant=_refuse)
    except ValueError as error:
        raise EmbeddedMetricError(f"it is no JSON: {error}") from error
    try:
        return list(_read(document, now))
    except (KeyError, TypeError, AttributeError) as error:
        raise EmbeddedMetricError(f"{type(error).__name__}: {error}") from error


def _read(document: Mapping[str, Any], now: datetime) -> Iterator[EmbeddedMetric]:
    at = datetime.fromtimestamp(document["_aws"]["Timestamp"] / 1000, UTC)
    if not now - _OLDEST < at < now + _AHEAD:
        raise EmbeddedMetricError(f"{at} is more than 14 days ago or 2 hours ahead")
    for directive in document["_aws"]["CloudWatchMetrics"]:
        if len(directive["Metrics"]) > _MAX_METRICS:
            raise EmbeddedMetricError(f"more than {_MAX_METRICS} metrics")
        for names in directive["Dimensions"]:
            if len(names) > _MAX_DIMENSIONS:
                raise EmbeddedMetricError(f"more than {_MAX_DIMENSIONS} dimensions")
            dimensions = {name: _text(document[name]) for name in names}
            for metric in directive["Metrics"]:
                name = metric["Name"]
                yield EmbeddedMetric(
                    namespace=_text(directive["Namespace"]),
                    name=name,
                    dimensions=dimensions,
                    values=_values(document[name], name),
                    unit=metric.get("Unit", "None"),
                    at=at,
                )


def _values(found: Any, name: str) -> list[float]:
    values = found if isinstance(found, list) else [found]
    if not 0 < len(values) <= _MAX_VALUES:
        raise EmbeddedMetricError(f"{name} has {len(values)} values: 1 to {_MAX_VALUES} are taken")
    for value in values:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise EmbeddedMetricError(f"{name} has {value!r}, which is no number")
    return [float(value) for value in values]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise EmbeddedMetricError(f"{value!r} is no text")
    return value


def _refuse(constant: str) -> Any:
    raise EmbeddedMetricError(f"{constant} is no number in JSON")
