"""DescribeInstances for thousands of instances, in pages of instances.

moto counts reservations where AWS counts instances, so MaxResults does not limit a reservation
of a hundred instances. moto also takes 3 ms to serialize one instance as XML, for each of the
four branches that call at the same time; here a serialized page is cached.
"""

import copy
import threading
from collections.abc import Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.instances import Instance, Reservation
from moto.ec2.responses.instances import InstanceResponse

from ..patching import original, patch

# Status, headers, body
Response = tuple[int, dict[str, Any], Any]


class _PageCache:
    """Serialized responses by their content."""

    _MAX_PAGES = 1_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._responses: dict[Any, Response] = {}

    def serialize(
        self, response: InstanceResponse, page: Sequence[tuple[Reservation, Instance]], token: Any
    ) -> Response:
        key = (token, tuple(_cache_key(response, *each) for each in page))
        with self._lock:
            if key not in self._responses:
                reservations = [_single_instance(*each) for each in page]
                result = {"Reservations": reservations, "NextToken": token}
                if len(self._responses) >= self._MAX_PAGES:
                    self._responses.clear()
                self._responses[key] = response.serialized(ActionResult(result))
            status, headers, body = self._responses[key]
            return status, dict(headers), body


def install() -> None:
    """Replace moto's DescribeInstances for requests with MaxResults and without instance IDs."""
    cache = _PageCache()

    def describe_instances(response: InstanceResponse) -> Any:
        size = int(response._get_param("MaxResults", 0))
        if not size or response._get_param("InstanceIds", []):
            return original(InstanceResponse, "describe_instances")(response)
        response.error_on_dryrun()
        filters = response._filters_from_querystring()
        found = [
            (reservation, instance)
            for reservation in response.ec2_backend.describe_instances(filters=filters)
            for instance in reservation.instances
        ]
        token = response._get_param("NextToken")
        start = 1 + [instance.id for _, instance in found].index(token) if token else 0
        page = found[start : start + size]
        has_more = len(found) > start + size
        return cache.serialize(response, page, page[-1][1].id if has_more else None)

    patch(InstanceResponse, "describe_instances", describe_instances)


def _cache_key(response: InstanceResponse, reservation: Reservation, instance: Instance) -> Any:
    """Return an instance's identity and the attributes that change: its state and its tags."""
    tags = response.ec2_backend.tags.get(instance.id, {})
    state = instance.state
    return reservation.id, instance.id, instance.instance_type, state, tuple(sorted(tags.items()))


def _single_instance(reservation: Reservation, instance: Instance) -> Reservation:
    single = copy.copy(reservation)
    single.instances = [instance]
    return single
