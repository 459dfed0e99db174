"""Pages of the instances of many accounts and Regions."""

from collections.abc import Sequence

from chalicelib.collect.sources.inventory import (
    PAGE_INSTANCES,
    PAGE_LOCATIONS,
    Instance,
    InstancePage,
    InventoryCursor,
    read_page,
)
from chalicelib.model.errors import StorageError


class FakeAccount:
    """An account with `count` instances. As with EC2, a page can exceed the limit."""

    def __init__(self, region: str, count: int, *, denied: bool = False) -> None:
        self.account_id, self.region = "123456789012", region
        self.count, self.denied = count, denied

    def instances(self, page_token: str, limit: int) -> tuple[Sequence[Instance], str]:
        if self.denied:
            raise StorageError("describe instances in", self.region, "AccessDenied", "no")
        first = int(page_token or 0)
        end = min(self.count, first + -(-limit // 200) * 200)
        found = [Instance(f"{self.region}-{n}", {}, "", {}) for n in range(first, end)]
        return found, str(end) if end < self.count else ""


def all_pages(*accounts: FakeAccount) -> list[InstancePage[FakeAccount]]:
    pages: list[InstancePage[FakeAccount]] = []
    cursor = InventoryCursor()
    while len(pages) < 50:
        pages.append(read_page(accounts, cursor))
        next_cursor = pages[-1].next_cursor
        if next_cursor is None:
            return pages
        cursor = next_cursor
    raise AssertionError("the pages do not end")


def names(pages: Sequence[InstancePage[FakeAccount]]) -> list[str]:
    return [each.instance_id for page in pages for _, found in page.found for each in found]


def test_a_small_fleet_is_one_page() -> None:
    (page,) = all_pages(FakeAccount("a", 3), FakeAccount("b", 0))
    assert names([page]) == ["a-0", "a-1", "a-2"]


def test_a_large_location_has_several_pages_without_duplicates() -> None:
    pages = all_pages(FakeAccount("a", 2 * PAGE_INSTANCES + 1), FakeAccount("b", 7))
    found = names(pages)
    assert len(pages) == 3
    assert (len(found), len(set(found))) == (2 * PAGE_INSTANCES + 8,) * 2


def test_a_page_exceeds_its_limit_by_at_most_one_ec2_page() -> None:
    pages = all_pages(FakeAccount("a", 150), FakeAccount("b", 2 * PAGE_INSTANCES))
    assert max(len(names([page])) for page in pages) <= PAGE_INSTANCES + 200


def test_many_small_locations_have_several_pages() -> None:
    pages = all_pages(*(FakeAccount(f"r{number}", 1) for number in range(2 * PAGE_LOCATIONS + 1)))
    assert [len(page.found) for page in pages] == [PAGE_LOCATIONS, PAGE_LOCATIONS, 1]


def test_a_denied_location_is_reported_once_and_the_others_are_listed() -> None:
    pages = all_pages(
        FakeAccount("a", 1),
        FakeAccount("b", 1, denied=True),
        FakeAccount("c", PAGE_INSTANCES),
        FakeAccount("d", 2),
    )
    failures = [sentence for page in pages for sentence in page.failures]
    assert failures == ["123456789012/b: describe instances in b: AccessDenied: no"]
    assert len(names(pages)) == PAGE_INSTANCES + 3


def test_a_location_removed_between_two_pages_does_not_stop_the_others() -> None:
    first = read_page(
        [FakeAccount("a", 2 * PAGE_INSTANCES), FakeAccount("b", 1)], InventoryCursor()
    )
    assert first.next_cursor is not None
    assert names([read_page([FakeAccount("b", 1)], first.next_cursor)]) == ["b-0"]
