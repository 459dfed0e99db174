"""Instances of many accounts and regions, in parts that one invocation can take."""

from collections.abc import Sequence

from chalicelib.collect.sources import inventory as instances
from chalicelib.collect.sources.inventory import (
    PART_INSTANCES,
    PART_PLACES,
    Instance,
    Mark,
)
from chalicelib.model.errors import StorageError


class Pages:
    """An account with so many instances; it gives them as EC2 does, a page over what is asked."""

    def __init__(self, region: str, count: int, *, refuses: bool = False) -> None:
        self.account_id, self.region = "123456789012", region
        self.count, self.refuses = count, refuses

    def instances(self, start: str, most: int) -> tuple[Sequence[Instance], str]:
        if self.refuses:
            raise StorageError("describe instances in", self.region, "AccessDenied", "no")
        first = int(start or 0)
        end = min(self.count, first + -(-most // 200) * 200)
        found = [Instance(f"{self.region}-{n}", {}, "", {}) for n in range(first, end)]
        return found, str(end) if end < self.count else ""


def all_parts(*accounts: Pages) -> list[instances.Part[Pages]]:
    parts: list[instances.Part[Pages]] = []
    mark = Mark()
    while len(parts) < 50:
        parts.append(instances.part(accounts, mark))
        rest = parts[-1].rest
        if rest is None:
            return parts
        mark = rest
    raise AssertionError("there is no end of parts")


def names(parts: Sequence[instances.Part[Pages]]) -> list[str]:
    return [each.instance_id for part in parts for _, found in part.found for each in found]


def test_a_small_fleet_is_one_part() -> None:
    (part,) = all_parts(Pages("a", 3), Pages("b", 0))
    assert names([part]) == ["a-0", "a-1", "a-2"]


def test_a_large_place_is_cut_and_nothing_comes_twice() -> None:
    parts = all_parts(Pages("a", 2 * PART_INSTANCES + 1), Pages("b", 7))
    found = names(parts)
    assert len(parts) == 3
    assert (len(found), len(set(found))) == (2 * PART_INSTANCES + 8,) * 2


def test_a_part_has_no_more_than_a_page_too_many() -> None:
    parts = all_parts(Pages("a", 150), Pages("b", 2 * PART_INSTANCES))
    assert max(len(names([part])) for part in parts) <= PART_INSTANCES + 200


def test_many_small_places_are_several_parts() -> None:
    parts = all_parts(*(Pages(f"r{number}", 1) for number in range(2 * PART_PLACES + 1)))
    assert [len(part.found) for part in parts] == [PART_PLACES, PART_PLACES, 1]


def test_a_place_that_refuses_is_told_once_and_the_others_are_listed() -> None:
    parts = all_parts(
        Pages("a", 1), Pages("b", 1, refuses=True), Pages("c", PART_INSTANCES), Pages("d", 2)
    )
    failures = [sentence for part in parts for sentence in part.failures]
    assert failures == ["123456789012/b: describe instances in b: AccessDenied: no"]
    assert len(names(parts)) == PART_INSTANCES + 3


def test_a_place_that_goes_away_between_two_parts_does_not_stop_the_rest() -> None:
    first = instances.part([Pages("a", 2 * PART_INSTANCES), Pages("b", 1)], Mark())
    assert first.rest is not None
    assert names([instances.part([Pages("b", 1)], first.rest)]) == ["b-0"]
