"""The alarms of infra/observability.yaml, in people's words. docs/runbooks has a page for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["alarm", "warning"]

# How the hosts are found that an alarm is about; see `hosts`.
Suspects = Literal["none", "cpu breach", "memory breach", "disk full", "disk fills", "missing"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """What an alarm is called, what it means, and what to do first."""

    name: str
    title: str
    severity: Severity
    meaning: str
    action: str
    suspects: Suspects = "none"
    page: str = ""

    @property
    def runbook(self) -> str:
        """The file with the whole story, in docs/runbooks."""
        return f"{self.page or self.name}.md"


_REDRIVE = "Find the reason, mend it, then send again what failed: python -m infra redrive."

_KNOWN = (
    Alarm(
        "HighCPU",
        "CPU high",
        "alarm",
        "The CPU was above its critical threshold for a quarter of an hour or more of one window.",
        "Look which process it is, and since when; then stop it, or give the host more cores.",
        suspects="cpu breach",
    ),
    Alarm(
        "HighMemory",
        "Memory high",
        "alarm",
        "Memory was above its critical threshold for a quarter of an hour or more of one window.",
        "Look which process grows; restart it, or give the host more memory before the kernel"
        " kills one.",
        suspects="memory breach",
    ),
    Alarm(
        "DiskNearlyFull",
        "Disk nearly full",
        "alarm",
        "A file system has little space left; what writes to it will fail soon.",
        "Delete or move what is not needed, or enlarge the volume.",
        suspects="disk full",
    ),
    Alarm(
        "DiskFillsUp",
        "Disk fills up",
        "alarm",
        "At the pace of the last window a file system will be full within the time below.",
        "Find what grows; make room or stop it before the disk is full.",
        suspects="disk fills",
    ),
    Alarm(
        "HostsMissing",
        "Hosts missing",
        "alarm",
        "Hosts that should have reported did not: down, unreachable, or without their agent.",
        "Look whether the hosts run and can be reached.",
        suspects="missing",
    ),
    Alarm(
        "PipelineStopped",
        "Pipeline stopped",
        "alarm",
        "No run has succeeded for two of the clock's intervals: nobody is watching the hosts.",
        "Look whether the clock's rule is enabled and why the last runs failed.",
    ),
    Alarm(
        "RunFailed",
        "A run failed",
        "alarm",
        "A run of the pipeline failed, timed out or was stopped; what its other branches"
        " measured is stored.",
        _REDRIVE,
    ),
    Alarm(
        "CollectorErrors",
        "Errors of the collector",
        "warning",
        "data-collector failed. It is tried again three times; if that was of no use, the run"
        " fails and a mail of its own says so.",
        "If it stays: read the error in the log of data-collector.",
    ),
    Alarm(
        "ProcessorErrors",
        "Errors of the processor",
        "warning",
        "log-processor failed. It is tried again twice; then the event goes to the dead-letter"
        " queue.",
        "If it stays: read the error in the log of log-processor.",
    ),
    Alarm(
        "NotifierErrors",
        "Errors of the notifier",
        "alarm",
        "The function that writes these mails failed: mails may be missing.",
        "Read the error in the log of notifier; then python -m infra redrive sends what is"
        " missing.",
    ),
    Alarm(
        "DeadLettersWaiting",
        "Dead letters waiting",
        "alarm",
        "Events failed for good and wait in the dead-letter queue, for 14 days at most.",
        "See what and why: python -m infra redrive --list. Mend it, then python -m infra redrive.",
    ),
    Alarm(
        "QuarantineNotEmpty",
        "Lines in quarantine",
        "warning",
        "Somebody put lines into raw-metrics/ that are no records; their neighbours are stored.",
        "See which and why: python -m infra quarantine list.",
    ),
    Alarm(
        "DynamoDBThrottle",
        "DynamoDB throttles",
        "warning",
        "DynamoDB refused reads or writes of the table or its index; they are tried again.",
        "If it stays: python -m infra verify tells whether anything is missing.",
    ),
    Alarm(
        "LambdaDuration",
        "A function comes near its time-out",
        "warning",
        "An invocation took more than 80 % of its time-out; over it, it would be stopped.",
        "Lower CHUNK_TARGETS, or give the function more memory (it gets more CPU with it).",
    ),
    Alarm(
        "FunctionMemory",
        "A function comes near its memory limit",
        "warning",
        "An invocation used much of its memory; over the limit it would be killed.",
        "Lower CHUNK_TARGETS, or give the function more memory.",
    ),
    Alarm(
        "SeriesBudget",
        "Billed CloudWatch metrics over the budget",
        "warning",
        "Runs ask CloudWatch for more metrics than planned; AWS bills $0.01 for 1,000.",
        "Narrow EC2_TAGS or REGIONS, or lower MAX_SERIES_PER_RUN.",
    ),
    Alarm(
        "Page",
        "Somebody is needed now",
        "alarm",
        "At least one of the alarms that cannot wait is in ALARM; each has a mail of its own.",
        "Read those mails, the oldest first.",
    ),
)

ALARMS: Mapping[str, Alarm] = {each.name: each for each in _KNOWN}


def alarm_of(name: str, description: str) -> Alarm:
    """The alarm of a name less prefix and suffix.

    `LambdaDurationNotifier` is a LambdaDuration; one that is not known here says of itself
    what CloudWatch has as its description.
    """
    found = [each for known, each in ALARMS.items() if name.startswith(known)]
    if found:
        return max(found, key=lambda each: len(each.name))
    meaning = description or "An alarm that this release of the notifier does not know."
    return Alarm(name, name, "alarm", meaning, "Look at the dashboard.", page="README")
