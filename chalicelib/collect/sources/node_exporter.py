"""Linux hosts that run Prometheus's node_exporter, scraped over HTTP or HTTPS.

The resource_id of a record is its target, `host:port`, without the optional `https://`. The target
is known even if it does not respond, so records and missing hosts have the same name, and the
metric_id of the previous window can be computed. The host's own name is unsuitable: it is known
only from a response, it can change, and cloned hosts share it. It becomes the label `nodename`.
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
from .cloudwatch import FleetOpener
from .http import get_lines
from .inventory import Instance, InventoryCursor, read_page
from .node_exporter_samples import FAMILIES, Scrape, measure, read_samples
from .protocol import CollectionResult, Inventory, Scope, Target

_MAX_CONCURRENT = 16
# For all targets of an invocation. The remainder of the function's 30 s is for storing.
_BUDGET_SECONDS = 20.0

_HTTPS = "https://"

Resolver = Callable[[str, int], Iterable[str]]


def create(settings: Settings, open_fleets: FleetOpener | None = None) -> "NodeExporterSource":
    return NodeExporterSource(
        settings.node_exporter_targets,
        open_fleets=open_fleets,
        timeout=settings.node_exporter_timeout,
        max_bytes=settings.node_exporter_max_bytes,
    )


def resolve(name: str, port: int) -> Iterable[str]:
    """All IPv4 and IPv6 addresses of a DNS name."""
    return {str(each[4][0]) for each in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)}


class NodeExporterSource:
    """Scrapes targets concurrently; one record per target and metric type."""

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
        self._static = [entry for entry in entries if not entry.startswith("ec2+")]
        self._tagged = [entry for entry in entries if entry.startswith("ec2+")]
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._open_fleets = open_fleets
        self._resolver = resolver
        self._now = now

    def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # nosec B107 # not a password
        """List static targets, the addresses of `dns+` names, and instances with an `ec2+` tag.

        Only instances are paged; the first page also has all other targets.
        """
        inventory = Inventory()
        found = [] if page_token else self._list_static(inventory)
        if self._tagged:
            found += self._list_tagged(scope, page_token, inventory)
        listed = set(self._static) if page_token else set()
        inventory.targets = [Target(name) for name in dict.fromkeys(found) if name not in listed]
        return inventory

    def _list_static(self, inventory: Inventory) -> list[str]:
        found: list[str] = []
        for entry in self._static:
            try:
                found += self._expand(entry)
            except (OSError, UnicodeError) as error:
                inventory.failures.append(f"node_exporter {entry}: {error}")
        return found

    def _expand(self, entry: str) -> list[str]:
        name = entry.removeprefix("dns+")
        if name == entry:
            return [entry]
        host, port = _split(name)
        addresses = sorted(self._resolver(host, port))
        if not addresses:
            raise OSError("the name has no address")
        return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in addresses]

    def _list_tagged(self, scope: Scope, page_token: str, inventory: Inventory) -> list[str]:
        """The private addresses of one page of running instances that have one of the tags."""
        if self._open_fleets is None:
            inventory.failures.append("node_exporter: EC2 is not available here")
            return []
        fleets, unreachable = self._open_fleets(scope)
        cursor = msgspec.json.decode(page_token or b"{}", type=InventoryCursor)
        page = read_page(fleets, cursor)
        for reason in (*unreachable, *page.failures):
            inventory.failures.append(f"node_exporter {', '.join(self._tagged)}: {reason}")
        if page.next_cursor:
            inventory.next_page = msgspec.json.encode(page.next_cursor).decode()
        return [
            f"{instance.address}:{port}"
            for tag, port in (_split(entry.removeprefix("ec2+")) for entry in self._tagged)
            for _, instances in page.found
            for instance in sorted(instances, key=lambda each: each.address)
            if instance.address and _has_tag(instance, tag)
        ]

    def collect(self, scope: Scope, targets: Sequence[Target]) -> CollectionResult:
        """Collect the records of all targets that send a complete response in time."""
        result = CollectionResult()
        names = [target.name for target in targets]
        for target, outcome in zip(names, self._scrape_all(scope, names), strict=True):
            if isinstance(outcome, Record):
                result.records.append(outcome)
            else:
                result.missing.append(target.removeprefix(_HTTPS))
                result.failures.append(f"node_exporter {target}: {outcome}")
        return result

    def _scrape_all(self, scope: Scope, targets: Sequence[str]) -> Iterator[Record | str]:
        rounds = math.ceil(len(targets) / _MAX_CONCURRENT)
        budget = min(_BUDGET_SECONDS, self._timeout * rounds + 1)
        pool = ThreadPoolExecutor(max_workers=_MAX_CONCURRENT)
        scrapes = [pool.submit(self._scrape, scope, target) for target in targets]
        wait(scrapes, timeout=budget)
        # Do not wait: a DNS server that does not respond blocks a thread beyond any deadline.
        pool.shutdown(wait=False, cancel_futures=True)
        for scrape in scrapes:
            yield _outcome(scrape, f"not scraped within the {budget:g} s for all targets")

    def _scrape(self, scope: Scope, target: str) -> Record | str:
        """The record of one target, or the reason why it has none."""
        address = target.removeprefix(_HTTPS)
        host, port = _split(address)
        lines = get_lines(
            host,
            port,
            "/metrics",
            tls=target.startswith(_HTTPS),
            timeout=self._timeout,
            max_bytes=self._max_bytes,
        )
        try:
            with closing(lines):
                scrape = Scrape(read_samples(lines, FAMILIES[scope.metric_type]))
            return self._record(scope, address, scrape)
        except CollectionError as error:
            return str(error)

    def _record(self, scope: Scope, address: str, scrape: Scrape) -> Record:
        nodename = {"nodename": scrape.nodename} if scrape.nodename else {}
        record = Record(
            schema_version=SCHEMA_VERSION,
            timestamp=scope.window.end,
            metric_type=scope.metric_type,
            resource_id=address,
            source="node_exporter",
            window_seconds=scope.window.seconds,
            execution_id=scope.execution_id,
            collected_at=self._now(),
            measurements=measure(scope.metric_type, scrape),
            labels={"instance": address} | nodename,
        )
        return _validated(record.identified(account_id=scope.account_id, region=scope.region))


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _outcome(scrape: "Future[Record | str]", late: str) -> Record | str:
    return scrape.result() if scrape.done() and not scrape.cancelled() else late


def _validated(record: Record) -> Record:
    """The record after the checks of the processor, because names in it come from the target."""
    encoded = records.encode(record)
    if len(encoded) > records.MAX_RECORD_BYTES:
        raise CollectionError(f"the record would have {len(encoded)} bytes")
    try:
        return records.decode(encoded)
    except InvalidRecordError as error:
        raise CollectionError(f"the response does not make a valid record: {error}") from error


def _has_tag(instance: Instance, tag: str) -> bool:
    name, _, value = tag.partition("=")
    return instance.tags.get(name) == value
