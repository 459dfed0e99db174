"""Linux machines that run Prometheus's node_exporter, asked over http.

A record's resource is its target, `host:port`, as it was listed: that is known before the
target answers and when it does not, so `missing` and the records speak of the same thing, and
the identity of the window before can be computed. The name that the machine gives itself is
not: it is known only from an answer, can change, and clones share it. It is the label `nodename`.
"""

import math
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from datetime import UTC, datetime

import msgspec

from ...model import records
from ...model.errors import CollectionError, InvalidRecordError
from ...model.records import SCHEMA_VERSION, Record
from ...model.settings import Settings
from . import (
    inventory as instances,
)
from .cloudwatch import FleetOpener
from .http import get_lines
from .inventory import Instance, Mark
from .node_exporter_samples import (
    FAMILIES,
    Scrape,
    measure,
    read_samples,
)
from .protocol import Harvest, Inventory, Scope, Target

_AT_ONCE = 16
# For all targets together: the rest of the function's 30 s is for storing.
_BUDGET_SECONDS = 20.0

Resolver = Callable[[str, int], Iterable[str]]


def create(settings: Settings, open_fleets: FleetOpener | None = None) -> "NodeExporterSource":
    return NodeExporterSource(
        settings.node_exporter_targets,
        open_fleets=open_fleets,
        timeout=settings.node_exporter_timeout,
        max_bytes=settings.node_exporter_max_bytes,
    )


def resolve(name: str, port: int) -> Iterable[str]:
    """Every address, v4 and v6, that DNS has for a name."""
    return {str(each[4][0]) for each in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)}


class NodeExporterSource:
    """Asks every target at the same time; one record per target and metric type."""

    def __init__(
        self,
        entries: Sequence[str],
        *,
        timeout: float,
        max_bytes: int,
        open_fleets: FleetOpener | None = None,
        resolver: Resolver = resolve,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._entries = entries
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._open_fleets = open_fleets
        self._resolver = resolver
        self._now = now

    def targets(self, scope: Scope, start: str = "") -> Inventory:
        """Each host, each address of a `dns+` name, each instance with an `ec2+` tag."""
        inventory = Inventory()
        found: list[str] = []
        listed = [entry for entry in self._entries if not entry.startswith("ec2+")]
        for entry in () if start else listed:
            try:
                found += self._expand(entry)
            except (OSError, UnicodeError) as error:
                inventory.failures.append(f"node_exporter {entry}: {error}")
        tagged = [entry for entry in self._entries if entry.startswith("ec2+")]
        if tagged:
            found += self._tagged(tagged, scope, start, inventory)
        again = set(listed) if start else set()
        inventory.targets = [Target(name) for name in dict.fromkeys(found) if name not in again]
        return inventory

    def _expand(self, entry: str) -> list[str]:
        name = entry.removeprefix("dns+")
        if name == entry:
            return [entry]
        host, port = _split(name)
        addresses = sorted(self._resolver(host, port))
        if not addresses:
            raise OSError("the name has no address")
        return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in addresses]

    def _tagged(
        self, entries: Sequence[str], scope: Scope, start: str, inventory: Inventory
    ) -> list[str]:
        """The private addresses of the running instances that carry one of the tags."""
        if self._open_fleets is None:
            inventory.failures.append("node_exporter: there is no way to EC2 from here")
            return []
        fleets, unreachable = self._open_fleets(scope)
        part = instances.part(fleets, msgspec.json.decode(start or b"{}", type=Mark))
        for reason in (*unreachable, *part.failures):
            inventory.failures.append(f"node_exporter {', '.join(entries)}: {reason}")
        if part.rest:
            inventory.rest = msgspec.json.encode(part.rest).decode()
        return [
            f"{instance.address}:{port}"
            for tag, port in (_split(entry.removeprefix("ec2+")) for entry in entries)
            for _, found in part.found
            for instance in sorted(found, key=lambda each: each.address)
            if instance.address and _carries(instance, tag)
        ]

    def collect(self, scope: Scope, targets: Sequence[Target]) -> Harvest:
        """The records of all targets that answered in full and in time."""
        harvest = Harvest()
        names = [target.name for target in targets]
        for target, outcome in zip(names, self._ask_all(scope, names), strict=True):
            if isinstance(outcome, Record):
                harvest.records.append(outcome)
            else:
                harvest.missing.append(target)
                harvest.failures.append(f"node_exporter {target}: {outcome}")
        return harvest

    def _ask_all(self, scope: Scope, targets: Sequence[str]) -> Iterator[Record | str]:
        rounds = math.ceil(len(targets) / _AT_ONCE)
        patience = min(_BUDGET_SECONDS, self._timeout * rounds + 1)
        pool = ThreadPoolExecutor(max_workers=_AT_ONCE)
        asked = [pool.submit(self._ask, scope, target) for target in targets]
        wait(asked, timeout=patience)
        # Not waited for: a DNS server that does not answer holds a thread beyond any deadline.
        pool.shutdown(wait=False, cancel_futures=True)
        for each in asked:
            yield _outcome(each, f"no turn or no answer within the {patience:g} s of all targets")

    def _ask(self, scope: Scope, target: str) -> Record | str:
        """The record of one target, or why there is none."""
        host, port = _split(target)
        lines = get_lines(host, port, "/metrics", timeout=self._timeout, max_bytes=self._max_bytes)
        try:
            with closing(lines):
                scrape = Scrape(read_samples(lines, FAMILIES[scope.metric_type]))
            return self._record(scope, target, scrape)
        except CollectionError as error:
            return str(error)

    def _record(self, scope: Scope, target: str, scrape: Scrape) -> Record:
        nodename = {"nodename": scrape.nodename} if scrape.nodename else {}
        record = Record(
            schema_version=SCHEMA_VERSION,
            timestamp=scope.window.end,
            metric_type=scope.metric_type,
            resource_id=target,
            source="node_exporter",
            window_seconds=scope.window.seconds,
            execution_id=scope.execution_id,
            collected_at=self._now(),
            measurements=measure(scope.metric_type, scrape),
            labels={"instance": target} | nodename,
        )
        return _storable(record.identified(account_id=scope.account_id, region=scope.region))


def _split(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)


def _outcome(asked: "Future[Record | str]", late: str) -> Record | str:
    return asked.result() if asked.done() and not asked.cancelled() else late


def _storable(record: Record) -> Record:
    """The record, if the processor and the table will take it; names in it are the target's."""
    encoded = records.encode(record)
    if len(encoded) > records.MAX_RECORD_BYTES:
        raise CollectionError(f"its record would have {len(encoded)} bytes")
    try:
        return records.decode(encoded)
    except InvalidRecordError as error:
        raise CollectionError(f"what it says makes no record: {error}") from error


def _carries(instance: Instance, tag: str) -> bool:
    name, _, value = tag.partition("=")
    return instance.tags.get(name) == value
