"""Running EC2 instances of all accounts and Regions, in pages that fit one invocation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from ...model.errors import StorageError

# Limits of one page. An instance costs 0.3 ms of CPU (benchmarks/fleet_limits.py), and a function
# of 128 MB has 7 % of a core; each location needs its own AWS clients.
PAGE_INSTANCES = 2_000
PAGE_LOCATIONS = 8


@dataclass(frozen=True, slots=True)
class Instance:
    """A running EC2 instance; `address` is its private IP address, or ''."""

    instance_id: str
    labels: Mapping[str, str]
    address: str
    tags: Mapping[str, str]


class Account(Protocol):
    """One account in one Region."""

    account_id: str
    region: str

    def instances(self, page_token: str, limit: int) -> tuple[Sequence[Instance], str]:
        """About `limit` running instances that match the tag filter, and the next page token.

        Both tokens are '' for the first page and after the last one. Raises StorageError.
        """


AnyAccount = TypeVar("AnyAccount", bound=Account)


class InventoryCursor(Struct, frozen=True, rename={"location": "place"}):
    """The start of the next page: locations already done, and the page token of `location`.

    Part of the planning state that events carry as JSON.
    """

    done: tuple[str, ...] = ()
    location: str = ""
    token: str = ""


@dataclass(slots=True)
class InstancePage(Generic[AnyAccount]):
    """Instances of some locations, a sentence per failed location, and the next page's cursor."""

    found: list[tuple[AnyAccount, Sequence[Instance]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    next_cursor: InventoryCursor | None = None


def location(account: Account) -> str:
    """`<account ID>/<Region>`."""
    return f"{account.account_id}/{account.region}"


def read_page(accounts: Sequence[AnyAccount], cursor: InventoryCursor) -> InstancePage[AnyAccount]:
    """Read the page of instances that starts at the cursor."""
    page: InstancePage[AnyAccount] = InstancePage()
    done, remaining = set(cursor.done), PAGE_INSTANCES
    waiting = [each for each in accounts if location(each) not in done]
    for account in waiting[:PAGE_LOCATIONS]:
        if remaining <= 0:
            break
        current = location(account)
        token = cursor.token if current == cursor.location else ""
        try:
            instances, next_token = account.instances(token, remaining)
        except StorageError as error:
            page.failures.append(f"{current}: {error}")
        else:
            page.found.append((account, instances))
            remaining -= len(instances)
            if next_token:
                page.next_cursor = InventoryCursor(tuple(sorted(done)), current, next_token)
                return page
        done.add(current)
    if any(location(each) not in done for each in waiting):
        page.next_cursor = InventoryCursor(tuple(sorted(done)))
    return page
