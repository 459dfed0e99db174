"""Enriched records as flat JSON lines in `processed/`, one per measurement, for SQL."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from ..model.enrichment import Enriched

_encoder = msgspec.json.Encoder()


def partition(enriched: Enriched) -> str:
    """The value of the partition column `dt`: the UTC day of the window's end."""
    return enriched.record.timestamp.strftime("%Y-%m-%d")


def lines(enriched: Enriched) -> Iterator[bytes]:
    """Yield one JSON line per measurement, without line end: a row of Athena's `metrics`."""
    record = enriched.record
    shared: dict[str, Any] = {
        "metric_id": str(record.metric_id),
        "ts": _sql_timestamp(record.timestamp),
        "metric_type": record.metric_type,
        "window_seconds": record.window_seconds,
        "resource_id": record.resource_id,
        "account_id": record.account_id,
        "region": record.region,
        "source": record.source,
        "counter_reset": enriched.counter_reset,
        "execution_id": record.execution_id,
        "labels": record.labels,
        "collection_lag_seconds": enriched.collection_lag_seconds,
        "source_object": enriched.source_object,
        "processed_at": _sql_timestamp(enriched.processed_at),
    }
    for name, measurement in record.measurements.items():
        yield _encoder.encode(
            shared
            | {
                "measurement": name,
                "unit": measurement.unit,
                "value_last": measurement.last,
                "value_avg": measurement.avg,
                "value_min": measurement.min,
                "value_max": measurement.max,
                "value_p95": measurement.p95,
                "samples": measurement.samples,
                "breach_seconds": measurement.breach_seconds,
                "status": enriched.statuses[name],
                "change": enriched.change.get(name),
            }
        )


def _sql_timestamp(moment: datetime) -> str:
    # The format of java.sql.Timestamp, which every JSON SerDe of Athena supports.
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
