"""How the functions tell of themselves: metrics and structured logs, both as log lines.

CloudWatch makes metrics of the lines in embedded metric format:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

from ..model.settings import NAMESPACE
from .metrics import Metric, finite, of_invocation

# In one line CloudWatch takes this many values of a metric.
_MAX_VALUES = 100

# Its service is the function's name, which each invocation brings.
logger = Logger(service="infra-monitoring", utc=True, use_rfc3339=True)


def emit(metrics: Iterable[Metric]) -> None:
    """Print metrics, those of the same dimensions and moment together.

    Where the stage names no namespace there are none; Settings.from_environ says that.
    """
    if not os.environ.get(NAMESPACE):
        return
    for _, group in groupby(metrics, key=lambda each: (each.dimensions, each.at)):
        together = list(group)
        for start in range(0, max(len(each.values) for each in together), _MAX_VALUES):
            _print_line(together, start)


def _print_line(metrics: list[Metric], start: int) -> None:
    # Not through add_metric, whose time grows with the square of the values.
    values = {
        each.name: {
            "Unit": each.unit,
            "Value": finite(each.values[start : start + _MAX_VALUES]),
        }
        for each in metrics
    }
    line = EphemeralMetrics(
        metric_set={name: each for name, each in values.items() if each["Value"]},
        dimension_set=dict(metrics[0].dimensions),
    )
    if line.metric_set:
        if metrics[0].at is not None:
            line.set_timestamp(metrics[0].at)
        line.flush_metrics()


@contextmanager
def observed(event: Mapping[str, Any], context: Any) -> Iterator[None]:
    """One invocation of a function: its IDs on every log line, and its metrics at the end.

    `execution_id` is the state machine's, or else the ID of the event itself. What is raised
    goes on; its text is not logged here, for Lambda does so.
    """
    logger.append_keys(
        service=context.function_name,
        function_request_id=context.aws_request_id,
        execution_id=(event.get("detail") or {}).get("execution_id") or event.get("id"),
    )
    started, failed = time.perf_counter(), True
    try:
        yield
        failed = False
    except Exception as error:
        logger.error("failed", error=type(error).__name__)  # noqa: TRY400 - see above
        raise
    finally:
        emit(
            of_invocation(
                context.function_name,
                failed=failed,
                milliseconds=1000 * (time.perf_counter() - started),
                megabytes=peak_megabytes(),
            )
        )


def peak_megabytes(status: Path = Path("/proc/self/status")) -> float:
    """The most memory that this process had (MiB, as Lambda counts).

    getrusage would also tell of the process that started this one.
    """
    (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024
