"""Print the report of a run."""

from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from chalicelib.model.metric_types import METRIC_TYPES

from ..local.lambda_.environment import Invocation
from .observation import QUERY, Observation

_STYLES = {
    "SUCCEEDED": "green",
    "ok": "green",
    "warning": "yellow",
    "critical": "bold red",
    "FAILED": "bold red",
    "OK": "green",
    "ALARM": "bold red",
    "INSUFFICIENT_DATA": "dim",
}
# Per account and month: https://aws.amazon.com/cloudwatch/pricing/
FREE_ALARM_METRICS = 10

# A cold start uses so much CPU that it changes the measured utilization.
WARM_RUN_NOTE = "Measured values come from a second, warm run; the e-mail shows the first."

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def print_report(console: Console, observation: Observation) -> None:
    """Print all sections of the report."""
    for title, section in (
        ("Run", _run(observation)),
        ("Branches", _branches(observation)),
        ("Measurements", _measurements(observation)),
        ("Stored", _stored(observation)),
        ("Functions", _functions(observation)),
        ("E-mail that would have been sent", _mails(observation)),
        ("Alarms", _alarms(observation)),
        ("Athena", _athena(observation)),
    ):
        console.print()
        console.print(Text(title, style="bold"))
        console.print(section)
    console.print()
    console.print(_result(observation))


def _run(observation: Observation) -> RenderableType:
    running = observation.status == "RUNNING"
    status = "still running" if running else observation.status
    return Text.assemble(
        (status, _STYLES.get(observation.status, "bold red")),
        f" {'after' if running else 'in'} {observation.seconds:.1f} s   ",
        (f"execution {observation.execution}", "dim"),
        f"\n{observation.reason}" if observation.reason else "",
    )


def _branches(observation: Observation) -> RenderableType:
    table = _table("branch", "status", right=("seconds", "records"))
    for branch in observation.branches:
        table.add_row(
            branch.state, _styled(branch.status), f"{branch.seconds:.2f}", str(branch.records)
        )
    return table


def _measurements(observation: Observation) -> RenderableType:
    table = _table("host", "type", "measurement", right=("value",), then=("status",))
    items = sorted(
        observation.items,
        key=lambda item: (item["resource_id"], METRIC_TYPES.index(item["metric_type"])),
    )
    for item in items:
        host, metric_type = item["resource_id"], item["metric_type"]
        for name, measurement in item["measurements"].items():
            table.add_row(
                host, metric_type, name, _value(measurement), _styled(_status(item, name))
            )
            host = metric_type = ""
    if any(not each.cold for each in observation.invocations.get("data-collector", ())):
        return Group(table, Text(WARM_RUN_NOTE, style="dim"))
    return table


def _status(item: dict[str, Any], measurement: str) -> str:
    """The record's status, for the measurement that determines it; otherwise ''."""
    has_status = measurement.partition(":")[0] in ("utilization", "percent")
    return item.get("status", "not enriched") if has_status else ""


def _stored(observation: Observation) -> RenderableType:
    enriched = sum("processed_at" in item for item in observation.items)
    table = _table("store", right=("count", "size"), then=("",))
    table.add_row("DynamoDB InfraMetrics", str(len(observation.items)), "", f"{enriched} enriched")
    for prefix, objects in observation.objects.items():
        size = _bytes(sum(size for _, size in objects)) if objects else ""
        table.add_row(f"S3 {prefix}", str(len(objects)), size, "")
    return table


def _functions(observation: Observation) -> RenderableType:
    """Median durations; a cold start has an init phase before its first invocation."""
    table = _table(
        "function", right=("cold", "warm", "errors", "init", "cold run", "warm run", "memory")
    )
    for name, invocations in sorted(observation.invocations.items()):
        cold = [each for each in invocations if each.cold]
        warm = [each for each in invocations if not each.cold]
        table.add_row(
            name,
            str(len(cold)),
            str(len(warm)),
            str(sum(each.error for each in invocations)),
            _median(cold, lambda each: each.init_ms or 0),
            _median(cold, lambda each: each.duration_ms),
            _median(warm, lambda each: each.duration_ms),
            f"{max(each.memory_mb for each in invocations):.0f} MB",
        )
    return table


def _mails(observation: Observation) -> RenderableType:
    if not observation.mails:
        return Text("none", style="dim")
    return Group(
        *(
            Panel(
                Text(mail.body.strip()),
                title=Text(mail.subject, style="bold"),
                title_align="left",
                subtitle=Text(f"to {mail.to}", style="dim"),
                subtitle_align="right",
                box=box.ROUNDED,
            )
            for mail in observation.mails
        )
    )


def _alarms(observation: Observation) -> RenderableType:
    """The state of each alarm, and the reason if it is ALARM."""
    table = _table("alarm", "state", then=("reason",))
    for alarm in observation.alarms:
        reason = alarm.reason if alarm.state == "ALARM" else ""
        table.add_row(alarm.name, _styled(alarm.state), reason)
    composite = sum(not alarm.metrics for alarm in observation.alarms)
    metrics = sum(alarm.metrics for alarm in observation.alarms)
    billed = max(0, metrics - FREE_ALARM_METRICS)
    cost = Text(
        f"{metrics} alarm metrics ({FREE_ALARM_METRICS} are free, {billed} at $0.10) and"
        f" {composite} composite at $0.50: ${billed * 0.1 + composite * 0.5:.2f} a month;"
        " $0 with AlarmSet=FreeTier",
        style="dim",
    )
    return Group(table, cost)


def _athena(observation: Observation) -> RenderableType:
    table = _table(*(column.name for column in observation.query_result.columns))
    for row in observation.query_result.rows:
        table.add_row(*(cell if cell is not None else "" for cell in row))
    scanned = Text(f"{_bytes(observation.scanned_bytes)} scanned", style="dim")
    return Group(
        Syntax(QUERY, "sql", background_color="default", theme="ansi_dark"), table, scanned
    )


def _result(observation: Observation) -> RenderableType:
    if observation.passed:
        return Text("All checks passed.", style="bold green")
    return Text("Some checks failed: see above.", style="bold red")


def _table(*left: str, right: Sequence[str] = (), then: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in then:
        table.add_column(name, overflow="fold")
    return table


def _styled(status: str) -> Text:
    return Text(status, style=_STYLES.get(status, ""))


def _value(measurement: dict[str, Any]) -> str:
    value = measurement["last"]
    if value is None:
        return "unknown"
    match measurement["unit"]:
        case "percent":
            return f"{value:.1f} %"
        case "bytes":
            return _bytes(value)
        case "bytes_per_second":
            return f"{_bytes(value)}/s"
        case _:
            return f"{value:g}"


def _bytes(value: float) -> str:
    unit = 0
    while value >= 1024 and unit < len(_BYTE_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_BYTE_UNITS[unit]}" if unit else f"{value:.0f} B"


def _median(invocations: Sequence[Invocation], of: Callable[[Invocation], float]) -> str:
    if not invocations:
        return "-"
    values = sorted(of(each) for each in invocations)
    return f"{values[len(values) // 2]:.0f} ms"
