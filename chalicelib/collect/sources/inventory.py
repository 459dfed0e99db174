"""The running EC2 instances of every account and region, in parts that one invocation can take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from ...model.errors import StorageError

# Of one part. Reading an instance costs 0.3 ms of CPU (benchmarks/fleet_limits.py), of which a
# function of 128 MB has 7 %; each place costs clients of its own.
PART_INSTANCES = 2_000
PART_PLACES = 8


@dataclass(frozen=True, slots=True)
class Instance:
    """A running EC2 instance; `address` is its private one, empty if it has none."""

    instance_id: str
    labels: Mapping[str, str]
    address: str
    tags: Mapping[str, str]


class Account(Protocol):
    """One account in one region."""

    account_id: str
    region: str

    def instances(self, start: str, most: int) -> tuple[Sequence[Instance], str]:
        """Some `most` running instances that the tag filter lets through, and what to go on with.

        `start` is what the call before said, empty at first; empty again after the last.
        Raises StorageError.
        """


AnyAccount = TypeVar("AnyAccount", bound=Account)


class Mark(Struct, frozen=True):
    """Where the next part begins: these places are done, and `place` is as far as `token`."""

    done: tuple[str, ...] = ()
    place: str = ""
    token: str = ""


@dataclass(slots=True)
class Part(Generic[AnyAccount]):
    """The instances of some places, a sentence for each that failed, and where the rest begins."""

    found: list[tuple[AnyAccount, Sequence[Instance]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rest: Mark | None = None


def place(account: Account) -> str:
    return f"{account.account_id}/{account.region}"


def part(accounts: Sequence[AnyAccount], mark: Mark) -> Part[AnyAccount]:
    """The part of all instances that begins at the mark."""
    taken: Part[AnyAccount] = Part()
    done, room = set(mark.done), PART_INSTANCES
    waiting = [each for each in accounts if place(each) not in done]
    for account in waiting[:PART_PLACES]:
        if room <= 0:
            break
        here = place(account)
        try:
            found, token = account.instances(mark.token if here == mark.place else "", room)
        except StorageError as error:
            taken.failures.append(f"{here}: {error}")
        else:
            taken.found.append((account, found))
            room -= len(found)
            if token:
                taken.rest = Mark(tuple(sorted(done)), here, token)
                return taken
        done.add(here)
    if any(place(each) not in done for each in waiting):
        taken.rest = Mark(tuple(sorted(done)))
    return taken
