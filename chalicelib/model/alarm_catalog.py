"""Titles, meanings and first actions of the alarms in infra/observability.yaml.

docs/runbooks has a page for each alarm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .metric_types import MetricType

Severity = Literal["alarm", "warning"]

# How an alarm's hosts are found; notify.affected_hosts has a rule for each.
HostRule = Literal["none", "breach", "disk_full", "disk_filling", "missing"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm; `name` is the one in CloudWatch without prefix and stage suffix.

    `host_rule` selects the hosts that its message names, from the records of `metric_type`.
    `page` is the name of its runbook page if it is not the alarm's own.
    """

    name: str
    title: str
    severity: Severity
    meaning: str
    action: str
    host_rule: HostRule = "none"
    metric_type: MetricType = "cpu"
    page: str = ""

    @property
    def runbook(self) -> str:
        """The file name of its page in docs/runbooks."""
        return f"{self.page or self.name}.md"


_ALARMS = (
    Alarm(
        "HighCPU",
        "CPU high",
        "alarm",
        "CPU utilization was above its critical threshold for at least 15 minutes of one window.",
        "Find which process uses the CPU and when it started; then stop it, or give the host more"
        " cores.",
        host_rule="breach",
        metric_type="cpu",
    ),
    Alarm(
        "HighMemory",
        "Memory high",
        "alarm",
        "Memory usage was above its critical threshold for at least 15 minutes of one window.",
        "Find which process grows; restart it, or give the host more memory before the kernel"
        " kills a process.",
        host_rule="breach",
        metric_type="memory",
    ),
    Alarm(
        "DiskNearlyFull",
        "Disk nearly full",
        "alarm",
        "A file system has little space left; writes to it will fail soon.",
        "Delete or move files, or enlarge the volume.",
        host_rule="disk_full",
        metric_type="disk",
    ),
    Alarm(
        "DiskFillsUp",
        "Disk filling up",
        "alarm",
        "If a file system keeps growing as it did in the last window, it will be full within the"
        " time below.",
        "Find what grows; free space or stop it before the disk is full.",
        host_rule="disk_filling",
        metric_type="disk",
    ),
    Alarm(
        "HostsMissing",
        "Hosts missing",
        "alarm",
        "Expected hosts did not report: they are down, unreachable, or their agent is not running.",
        "Check that the hosts run and can be reached.",
        host_rule="missing",
        metric_type="cpu",
    ),
    Alarm(
        "PipelineStopped",
        "Pipeline stopped",
        "alarm",
        "No run has succeeded for two schedule intervals, so no host is being monitored.",
        "Check that the schedule rule is enabled and why the last runs failed.",
    ),
    Alarm(
        "RunFailed",
        "Run failed",
        "alarm",
        "A run of the pipeline failed, timed out or was stopped; the records of its other branches"
        " are stored.",
        "Find and fix the cause, then send the failed work again: python -m infra redrive.",
    ),
    Alarm(
        "CollectorErrors",
        "Collector errors",
        "warning",
        "data-collector failed. It is retried three times; if every retry fails, the run fails and"
        " a separate e-mail reports it.",
        "If it persists, read the error in the log of data-collector.",
    ),
    Alarm(
        "ProcessorErrors",
        "Processor errors",
        "warning",
        "log-processor failed. It is retried twice; then the event goes to the dead-letter queue.",
        "If it persists, read the error in the log of log-processor.",
    ),
    Alarm(
        "NotifierErrors",
        "Notifier errors",
        "alarm",
        "The function that sends these e-mails failed: e-mails may be missing.",
        "Read the error in the log of notifier; then python -m infra redrive sends the missing"
        " e-mails.",
    ),
    Alarm(
        "DeadLettersWaiting",
        "Dead letters waiting",
        "alarm",
        "Events failed after all retries; they stay in the dead-letter queue for up to 14 days.",
        "See the events and their errors: python -m infra redrive --list. Fix the cause, then run"
        " python -m infra redrive.",
    ),
    Alarm(
        "QuarantineNotEmpty",
        "Rejected records in quarantine",
        "warning",
        "Objects in raw-metrics/ contain entries that are not valid records; the valid records"
        " beside them are stored.",
        "See the entries and the reasons: python -m infra quarantine list.",
    ),
    Alarm(
        "DynamoDBThrottle",
        "DynamoDB throttling",
        "warning",
        "DynamoDB throttled reads or writes of the table or its index; they are retried.",
        "If it persists, check that no record is missing: python -m infra verify.",
    ),
    Alarm(
        "LambdaDuration",
        "Function near its timeout",
        "warning",
        "An invocation took more than 80 % of its timeout; at the timeout it is stopped.",
        "Lower CHUNK_TARGETS, or give the function more memory, which also gives it more CPU.",
    ),
    Alarm(
        "FunctionMemory",
        "Function near its memory limit",
        "warning",
        "An invocation used most of its memory; at the limit it is killed.",
        "Lower CHUNK_TARGETS, or give the function more memory.",
    ),
    Alarm(
        "SeriesBudget",
        "CloudWatch metric budget exceeded",
        "warning",
        "Runs request more CloudWatch metrics than planned; AWS bills $0.01 for 1,000.",
        "Narrow EC2_TAGS or REGIONS, or lower MAX_SERIES_PER_RUN.",
    ),
    Alarm(
        "Page",
        "Immediate action required",
        "alarm",
        "At least one alarm that cannot wait is in ALARM; each has an e-mail of its own.",
        "Read those e-mails, the oldest first.",
    ),
)

ALARMS: Mapping[str, Alarm] = {each.name: each for each in _ALARMS}


def find_alarm(name: str, description: str) -> Alarm:
    """The alarm with this name; an unknown one is described by its CloudWatch description."""
    if name in ALARMS:
        return ALARMS[name]
    meaning = description or "This release of the notifier does not know the alarm."
    return Alarm(name, name, "alarm", meaning, "See the dashboard.", page="README")
