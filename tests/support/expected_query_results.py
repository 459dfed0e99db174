"""Expected results of the named queries, computed with polars from the raw objects."""

import math
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import polars as pl

from tests.support.trace_history import Line

EPOCH_DAYS = pl.col("ts").dt.epoch("us") / 86_400e6
WEIGHTED = (pl.col("avg") * pl.col("samples")).sum() / pl.col("samples").sum()

Rows = list[tuple[Any, ...]]


def latest(lines: Sequence[Line]) -> pl.DataFrame:
    """The measurements; of restated ones, the one collected last."""
    identity = ["resource_id", "metric_type", "measurement", "ts"]
    frame = pl.DataFrame(lines, infer_schema_length=None)
    return frame.sort("collected").unique(identity, keep="last", maintain_order=True)


class ExpectedResults:
    """The expected rows of each named query, as Python values."""

    def __init__(self, lines: Sequence[Line], today: date) -> None:
        self._all = pl.DataFrame(lines, infer_schema_length=None)
        self._latest = latest(lines)
        self._today = today

    def rows(self, query: str, **query_params: Any) -> Rows:
        build: Callable[..., pl.DataFrame] = getattr(self, query.replace("-", "_"))
        return build(**query_params).rows()

    def _since(self, days: int, frame: pl.DataFrame | None = None) -> pl.DataFrame:
        first = self._today - timedelta(days=days - 1)
        rows = self._latest if frame is None else frame
        return rows.filter(pl.col("dt") >= str(first))

    def _measured(
        self, days: int, metric_type: str = "cpu", measurement: str = "utilization"
    ) -> pl.DataFrame:
        kind = pl.col("metric_type") == metric_type
        return self._since(days).filter(kind, pl.col("measurement") == measurement)

    def trend(self, days: int = 7, resource: str = "", **metric: str) -> pl.DataFrame:
        named = pl.col("resource_id") == resource if resource else pl.lit(True)
        rows = self._measured(days, **metric).filter(named)
        # The status depends on the 95th percentile: docs/records.md.
        critical = pl.when(pl.col("p95") >= 80).then(pl.lit("critical"))
        status = critical.when(pl.col("p95") >= 70).then(pl.lit("warning")).otherwise(pl.lit("ok"))
        status_of_type = status if metric.get("metric_type", "cpu") == "cpu" else pl.lit("ok")
        chosen = rows.select(
            "resource_id", "ts", "avg", "p95", "max", status_of_type.alias("status")
        )
        return chosen.sort("resource_id", "ts")

    def daily(self, days: int = 30, **metric: str) -> pl.DataFrame:
        grouped = self._measured(days, **metric).group_by("resource_id", "dt")
        found = grouped.agg(
            WEIGHTED.alias("average"), pl.col("min").min(), pl.col("max").max(), pl.len()
        )
        return found.sort("resource_id", "dt")

    def top_hosts(self, days: int = 7, hosts: int = 10, **metric: str) -> pl.DataFrame:
        grouped = self._measured(days, **metric).group_by("resource_id")
        found = grouped.agg(WEIGHTED.alias("average"), pl.col("p95").max(), pl.col("max").max())
        ranked = found.sort("average", descending=True).head(hosts).with_row_index("place", 1)
        return ranked.select("place", "resource_id", "average", "p95", "max")

    def breach_hours(self, days: int = 28) -> pl.DataFrame:
        week = (pl.col("ts") - pl.duration(seconds=1)).dt.truncate("1w").dt.date().alias("week")
        rows = self._since(days).filter(pl.col("breach_seconds").is_not_null())
        grouped = rows.with_columns(week).group_by(
            "resource_id", "metric_type", "measurement", "week"
        )
        found = grouped.agg(
            (pl.col("breach_seconds").sum() / 3600).alias("breach"),
            (pl.col("window_seconds").sum() / 3600).alias("measured"),
        ).filter(pl.col("breach") > 0)
        return found.sort("week", "breach", "resource_id", descending=[False, True, False])

    def percentiles(self, days: int = 30, **metric: str) -> pl.DataFrame:
        rows = self._measured(days, **metric)
        found = []
        for (host,), group in rows.group_by("resource_id"):
            values = sorted(group["avg"])
            nearest = [
                values[math.ceil(share * len(values)) - 1] for share in (0.5, 0.9, 0.95, 0.99)
            ]
            found.append((host, *nearest, group["max"].max(), len(values)))
        names = ["resource_id", "p50", "p90", "p95", "p99", "peak", "windows"]
        frame = pl.DataFrame(found, schema=names, orient="row")
        return frame.sort("p95", "resource_id", descending=[True, False])

    def week_against_last(self, **metric: str) -> pl.DataFrame:
        whole = self._measured(15, **metric).filter(pl.col("dt") < str(self._today))
        this = pl.col("dt") >= str(self._today - timedelta(days=7))
        weeks = [
            whole.filter(which).group_by("resource_id").agg(WEIGHTED.alias(name))
            for which, name in ((this, "this"), (~this, "last"))
        ]
        joined = weeks[0].join(weeks[1], on="resource_id")
        difference = (pl.col("this") - pl.col("last")).alias("difference")
        percent = (100 * (pl.col("this") - pl.col("last")) / pl.col("last")).alias("percent")
        found = joined.with_columns(difference, percent)
        return found.sort(pl.col("difference").abs(), descending=True)

    def disk_forecast(self, days: int = 14, full_percent: float = 100) -> pl.DataFrame:
        rows = self._measured(days, "disk", "percent:/").with_columns(EPOCH_DAYS.alias("day"))
        slope = pl.cov("day", "last") / pl.col("day").var()
        start = pl.col("last").mean() - slope * pl.col("day").mean()
        left = (full_percent - start) / slope - pl.col("day").max()
        found = rows.sort("ts").group_by("resource_id", "measurement")
        return found.agg(
            pl.col("last").last().alias("now"),
            slope.alias("slope"),
            left.alias("left"),
            pl.len(),
            pl.col("ts").max(),
        ).filter(pl.col("slope") > 0)

    def idle_hosts(self, days: int = 14, below_percent: float = 5) -> pl.DataFrame:
        found = self._measured(days).group_by("resource_id")
        busy = found.agg(
            pl.col("max").max().alias("peak"),
            pl.col("p95").max(),
            WEIGHTED.alias("average"),
            pl.col("dt").n_unique().alias("days"),
            pl.len(),
        )
        return busy.filter(pl.col("peak") < below_percent).sort("average")

    def data_quality(self, days: int = 7) -> pl.DataFrame:
        lag = (pl.col("collected") - pl.col("ts")).dt.total_milliseconds() / 1000
        rows = self._since(days, self._all).with_columns(lag.alias("lag"))
        window = ["dt", "metric_type", "resource_id", "ts"]
        windows = rows.group_by(window).agg(
            pl.col("window_seconds").max(), pl.len().alias("lines"), pl.col("lag").max()
        )
        grouped = windows.group_by("dt", "metric_type").agg(
            pl.col("resource_id").n_unique().alias("hosts"),
            pl.len().alias("windows"),
            (100 * pl.col("window_seconds").sum() / (86_400 * pl.col("resource_id").n_unique())),
            pl.col("lines").sum(),
            (pl.col("lines") - 1).sum().alias("restated"),
            pl.lit(0).alias("unknown"),
            pl.lit(0).alias("resets"),
            pl.col("lag").max(),
        )
        return grouped.sort("dt", "metric_type")

    def by_label(self, days: int = 7, **metric: str) -> pl.DataFrame:
        grouped = self._measured(days, **metric).group_by("label")
        found = grouped.agg(
            pl.col("resource_id").n_unique().alias("hosts"),
            WEIGHTED.alias("average"),
            pl.col("p95").max(),
            pl.col("max").max(),
        )
        return found.sort("average", descending=True)
