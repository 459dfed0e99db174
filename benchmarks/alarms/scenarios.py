"""Scenarios for the replay: hosts, thresholds and incidents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from .traces import BUSY, CALM, DISK, NETWORK, START, HostTrace

# web-1 and web-3 replay the same trace, 7 days and 80 minutes apart, so that each part of it has
# two positions relative to the windows. There is no recorded memory trace: the memory of web-2 is a
# third copy of that trace.
_WEB_3_SHIFT = timedelta(days=7, minutes=80)
_MEMORY_SHIFT = timedelta(days=3, minutes=35)

_WEB_2 = (
    HostTrace("web-2", "AWS/EC2", "CPUUtilization", CALM),
    HostTrace("web-2", "AWS/EC2", "NetworkIn", NETWORK, _MEMORY_SHIFT),
    HostTrace("web-2", "AWS/EC2", "DiskWriteBytes", DISK),
)
FLEET = (
    HostTrace("web-1", "AWS/EC2", "CPUUtilization", BUSY),
    HostTrace("web-1", "AWS/EC2", "NetworkIn", NETWORK),
    *_WEB_2,
    HostTrace("web-2", "CWAgent", "mem_used_percent", BUSY, _MEMORY_SHIFT),
    HostTrace("web-3", "AWS/EC2", "CPUUtilization", BUSY, _WEB_3_SHIFT),
    HostTrace("web-3", "AWS/EC2", "NetworkIn", NETWORK, _WEB_3_SHIFT),
)

# Incidents, relative to the start of the replay at 15:00: a night without runs, a host without data
# from the next morning to the evening, and two runs whose objects cannot be processed.
STOPPED = (timedelta(hours=6), timedelta(hours=16))
SILENT = (timedelta(hours=19, minutes=10), timedelta(hours=29, minutes=20))
FAILS_ONCE, FAILS_ALWAYS = timedelta(hours=33), timedelta(hours=42)
REDRIVEN = FAILS_ALWAYS + timedelta(hours=5)
_SILENT_TIMES = START + SILENT[0], START + SILENT[1]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet and what happens to it. Times are relative to the start of the replay.

    Attributes:
        name: value of `--only`.
        host_traces: the traces of the hosts.
        days: length of the replay.
        cpu: critical threshold in percent.
        memory: critical threshold in percent.
        stopped: no run starts within this time.
        failing: failed attempts of `log-processor` for each object of a run, by the run's time;
            after three failed attempts the object is in the dead-letter queue.
        redriven: when the dead letters are redriven.
        late: delay until a point is available in CloudWatch.
        parameters: parameters of infra/observability.yaml.
    """

    name: str
    host_traces: tuple[HostTrace, ...]
    days: float = 14
    cpu: float = 80
    memory: float = 90
    stopped: tuple[timedelta, timedelta] = (timedelta(0), timedelta(0))
    failing: Mapping[timedelta, int] = field(default_factory=dict)
    redriven: timedelta = timedelta(0)
    late: timedelta = timedelta(minutes=10)
    parameters: Mapping[str, str] = field(default_factory=dict)

    def has_run(self, at: timedelta) -> bool:
        """Whether a run starts at a scheduled time."""
        return not self.stopped[0] <= at < self.stopped[1]


RECORDED = Scenario("as recorded", FLEET)
LOWER_THRESHOLDS = Scenario("lower thresholds", FLEET, cpu=60, memory=60)
# A single host, so that each alarm belongs to it.
SINGLE_HOST = Scenario("one host, lower threshold", FLEET[-2:], cpu=60)
# A breach of 30 minutes from 05:40: 20 minutes before the end of a window and 10 after it. The run
# at the window's end sees only 5 minutes of it. 15 minutes are reached only when the next run
# measures the window again with its late points.
LATE_AT_EDGE = Scenario(
    "late at an edge",
    (
        HostTrace("web-1", "AWS/EC2", "CPUUtilization", BUSY, timedelta(days=-7, minutes=5)),
        HostTrace("web-1", "AWS/EC2", "NetworkIn", NETWORK),
    ),
    days=1,
    cpu=60,
    late=timedelta(minutes=15),
)
# These hosts are never in breach, so every e-mail is about an incident.
INCIDENTS = Scenario(
    "trouble",
    (
        *_WEB_2,
        HostTrace("web-4", "AWS/EC2", "CPUUtilization", CALM, _WEB_3_SHIFT, silent=_SILENT_TIMES),
        HostTrace("web-4", "AWS/EC2", "NetworkIn", NETWORK, _WEB_3_SHIFT, silent=_SILENT_TIMES),
    ),
    stopped=STOPPED,
    failing={FAILS_ONCE: 1, FAILS_ALWAYS: 3},
    redriven=REDRIVEN,
)
SCENARIOS = (RECORDED, LOWER_THRESHOLDS, SINGLE_HOST, LATE_AT_EDGE, INCIDENTS)
