"""EC2 for thousands of instances: DescribeInstances in pages of instances, written once.

moto counts reservations where AWS counts instances, so that MaxResults limits nothing for a
reservation of a hundred; and it takes 3 ms to write one instance as XML, for each of the four
branches that ask at the same moment.
"""

import copy
import threading
from collections.abc import Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.instances import Instance, Reservation
from moto.ec2.responses.instances import InstanceResponse

Answer = tuple[int, dict[str, Any], Any]


class _Pages:
    """Answers already written, by what they were written from."""

    _MOST = 1_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[Any, Answer] = {}

    def answer(
        self, response: InstanceResponse, page: Sequence[tuple[Reservation, Instance]], token: Any
    ) -> Answer:
        key = (token, tuple(_identity(response, *each) for each in page))
        with self._lock:
            if key not in self._answers:
                result = {"Reservations": [_alone(*each) for each in page], "NextToken": token}
                if len(self._answers) >= self._MOST:
                    self._answers.clear()
                self._answers[key] = response.serialized(ActionResult(result))
            status, headers, body = self._answers[key]
            return status, dict(headers), body


def install() -> None:
    """Answer paged requests here; one without MaxResults stays moto's."""
    if hasattr(InstanceResponse.describe_instances, "moto_own"):
        return
    pages = _Pages()
    moto_describe_instances = InstanceResponse.describe_instances

    def describe_instances(response: InstanceResponse) -> Any:
        size = int(response._get_param("MaxResults", 0))
        if not size or response._get_param("InstanceIds", []):
            return moto_describe_instances(response)
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
        more = len(found) > start + size
        return pages.answer(response, page, page[-1][1].id if more else None)

    describe_instances.moto_own = moto_describe_instances  # type: ignore[attr-defined]  # the one that was there before
    InstanceResponse.describe_instances = describe_instances  # type: ignore[method-assign, assignment]  # in the place of moto's


def _identity(response: InstanceResponse, reservation: Reservation, instance: Instance) -> Any:
    """What of an instance changes in the local cloud: its state and its tags."""
    tags = response.ec2_backend.tags.get(instance.id, {})
    state = instance.state
    return reservation.id, instance.id, instance.instance_type, state, tuple(sorted(tags.items()))


def _alone(reservation: Reservation, instance: Instance) -> Reservation:
    one = copy.copy(reservation)
    one.instances = [instance]
    return one
