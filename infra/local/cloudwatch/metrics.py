"""Metrics of the local cloud: writing data and computing statistics.

The data is in moto's CloudWatch, so GetMetricData and ListMetrics return it, and data from
PutMetricData is included in the statistics.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from moto.cloudwatch.models import CloudWatchBackend

from . import metric_index


class Metrics:
    """The metrics of one account and region."""

    def __init__(self, backend: CloudWatchBackend) -> None:
        self._backend = backend

    def put(  # noqa: PLR0917 - the fields of PutMetricData
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        values: Sequence[float],
        unit: str,
        at: datetime,
    ) -> None:
        """Put values of a metric; `unit` is a CloudWatch unit, for example Count."""
        datum = {
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            "Unit": unit,
            # moto compares it with the times in API requests, which have no time zone.
            "Timestamp": at.astimezone(UTC).replace(tzinfo=None),
        }
        if values:
            self._backend.put_metric_data(namespace, [{**datum, "Values": list(values)}])

    def statistic(
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        statistic: str,
        *,
        start: datetime,
        period: int,
        periods: int,
    ) -> list[float | None]:
        """Return a statistic of each period of `period` seconds from `start`, oldest first.

        `statistic` is Sum, Average, Minimum, Maximum, SampleCount or a percentile such as p95.
        None stands for a period without data.
        """
        return metric_index.statistics(
            self._backend,
            (namespace, name, tuple(sorted(dimensions.items()))),
            statistic,
            start=start.timestamp(),
            period=period,
            periods=periods,
        )
