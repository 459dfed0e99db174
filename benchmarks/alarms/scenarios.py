"""What is replayed: which hosts, at which threshold, and what goes wrong meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from .traces import (
    BUSY,
    CALM,
    DISK,
    NETWORK,
    START,
    Feed,
)

# web-1 and web-3 are the same trace, a week and 80 minutes apart: so each stretch of it lies twice
# in the windows, differently. Nobody recorded memory: web-2's is a third copy of that trace.
_LATER = timedelta(days=7, minutes=80)
_MEMORY = timedelta(days=3, minutes=35)

_WEB_2 = (
    Feed("web-2", "AWS/EC2", "CPUUtilization", CALM),
    Feed("web-2", "AWS/EC2", "NetworkIn", NETWORK, _MEMORY),
    Feed("web-2", "AWS/EC2", "DiskWriteBytes", DISK),
)
FLEET = (
    Feed("web-1", "AWS/EC2", "CPUUtilization", BUSY),
    Feed("web-1", "AWS/EC2", "NetworkIn", NETWORK),
    *_WEB_2,
    Feed("web-2", "CWAgent", "mem_used_percent", BUSY, _MEMORY),
    Feed("web-3", "AWS/EC2", "CPUUtilization", BUSY, _LATER),
    Feed("web-3", "AWS/EC2", "NetworkIn", NETWORK, _LATER),
)

# From the span's start on, three in the afternoon: a night without a tick, a host without a word
# from the next morning to the evening, two runs whose objects the processor fails at.
NIGHT = (timedelta(hours=6), timedelta(hours=16))
VANISHED = (timedelta(hours=19, minutes=10), timedelta(hours=29, minutes=20))
BURST, DEAD = timedelta(hours=33), timedelta(hours=42)
REDRIVEN = DEAD + timedelta(hours=5)
_SILENT = START + VANISHED[0], START + VANISHED[1]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet's two weeks; times are from the span's start on.

    No tick comes in `stopped`. `failing` has, for a tick, how many attempts of `log-processor`
    fail for each of its objects: of three, all are the last; what they leave in the dead-letter
    queue is sent again at `redriven`. A point is in CloudWatch `late` after its stamp.
    """

    name: str
    feeds: tuple[Feed, ...]
    days: float = 14
    cpu: float = 80
    memory: float = 90
    stopped: tuple[timedelta, timedelta] = (timedelta(0), timedelta(0))
    failing: Mapping[timedelta, int] = field(default_factory=dict)
    redriven: timedelta = timedelta(0)
    late: timedelta = timedelta(minutes=10)
    parameters: Mapping[str, str] = field(default_factory=dict)

    def ticks(self, at: timedelta) -> bool:
        """Whether the clock ticks there, if that is a tick's time."""
        return not self.stopped[0] <= at < self.stopped[1]


RECORDED = Scenario("as recorded", FLEET)
LOWER = Scenario("lower thresholds", FLEET, cpu=60, memory=60)
# One host, so that no other host's alarm can be taken for its own.
ALONE = Scenario("one host, lower threshold", FLEET[-2:], cpu=60)
# Half an hour from 05:40 on, twenty minutes before a window's edge and ten behind it, of which the
# run at the edge has five yet: only the window told again, with its late points, has the fifteen.
EDGE = Scenario(
    "late at an edge",
    (
        Feed("web-1", "AWS/EC2", "CPUUtilization", BUSY, timedelta(days=-7, minutes=5)),
        Feed("web-1", "AWS/EC2", "NetworkIn", NETWORK),
    ),
    days=1,
    cpu=60,
    late=timedelta(minutes=15),
)
# On hosts that are never in breach, so every mail is of what went wrong.
TROUBLE = Scenario(
    "trouble",
    (
        *_WEB_2,
        Feed("web-4", "AWS/EC2", "CPUUtilization", CALM, _LATER, silent=_SILENT),
        Feed("web-4", "AWS/EC2", "NetworkIn", NETWORK, _LATER, silent=_SILENT),
    ),
    stopped=NIGHT,
    failing={BURST: 1, DEAD: 3},
    redriven=REDRIVEN,
)
SCENARIOS = (RECORDED, LOWER, ALONE, EDGE, TROUBLE)
