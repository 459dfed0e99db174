"""Metrics and structured logs of the functions, both written as log lines.

CloudWatch extracts metrics from lines in embedded metric format:
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
from .metrics import Metric, finite, invocation_metrics

# The most values of one metric in one line.
_MAX_VALUES = 100

# Each invocation sets its service to the name of the function.
logger = Logger(service="infra-monitoring", utc=True, use_rfc3339=True)


def emit(metrics: Iterable[Metric]) -> None:
    """Print metrics; those with the same dimensions and time share lines.

    Without a namespace in the environment nothing is printed; Settings.from_environ reports that.
    """
    if not os.environ.get(NAMESPACE):
        return
    for _, group in groupby(metrics, key=lambda each: (each.dimensions, each.at)):
        together = list(group)
        for start in range(0, max(len(each.values) for each in together), _MAX_VALUES):
            _print_line(together, start)


def _print_line(metrics: list[Metric], start: int) -> None:
    # add_metric is not used: its run time grows with the square of the number of values.
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
def instrumented(event: Mapping[str, Any], context: Any) -> Iterator[None]:
    """Add the IDs of an invocation to every log line, and emit its metrics at the end.

    `execution_id` is that of the state machine, or else the ID of the event. Exceptions are
    passed on; Lambda logs their text.
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
            invocation_metrics(
                context.function_name,
                failed=failed,
                milliseconds=1000 * (time.perf_counter() - started),
                megabytes=peak_megabytes(),
            )
        )


def peak_megabytes(status: Path = Path("/proc/self/status")) -> float:
    """The peak memory of this process in MiB, the unit that Lambda uses.

    getrusage is not used: its value includes the process that started this one.
    """
    (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024
