"""A listing in pages shows what is there all the time exactly once, whatever happens between two pages."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.catalog import Catalog, PageKey
from stillframe.domain.access import Tag
from stillframe.domain.identifiers import Region
from stillframe.domain.namespace import Namespace
from stillframe.errors import InvalidRequest
from support.catalog import ACCOUNT, MORNING, REGION, a_namespace, later

pytestmark = pytest.mark.integration


def _walk(catalog: Catalog, limit: int, *, between: Callable[[], None] = lambda: None) -> list[str]:
    names: list[str] = []
    after: PageKey | None = None
    for _ in range(100):
        with catalog.transaction() as transaction:
            page = transaction.namespaces.page(after=after, limit=limit, account=ACCOUNT, region=REGION)
        names += [namespace.name for namespace in page.items]
        if page.next is None:
            return names
        assert len(page.items) == limit
        after = PageKey.from_tuple(page.next.as_tuple())
        between()
    raise AssertionError("the listing does not end")


def _fill(catalog: Catalog, namespaces: list[Namespace]) -> None:
    with catalog.transaction() as transaction:
        for namespace in namespaces:
            transaction.namespaces.insert(namespace)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(moments=st.lists(st.integers(0, 3), max_size=9), limit=st.integers(1, 10))
def test_the_pages_together_are_the_listing(shared_catalog: Catalog, moments: list[int], limit: int) -> None:
    with shared_catalog.transaction() as transaction:
        transaction.namespaces.delete(account=ACCOUNT)
    # Many of them were created at the same moment: the order must not depend on that alone.
    _fill(shared_catalog, [a_namespace(f"n{i}", created_at=later(m)) for i, m in enumerate(moments)])
    with shared_catalog.transaction() as transaction:
        whole = transaction.namespaces.list(account=ACCOUNT)
    assert _walk(shared_catalog, limit) == [namespace.name for namespace in whole]
    assert [namespace.created_at for namespace in whole] == sorted(
        namespace.created_at for namespace in whole
    )


def test_what_stays_is_listed_once_while_others_come_and_go(catalog: Catalog) -> None:
    staying = [a_namespace(f"stays{i:02}", created_at=later(i)) for i in range(20)]
    leaving = [a_namespace(f"leaves{i:02}", created_at=later(i)) for i in range(20)]
    _fill(catalog, [*staying, *leaving])
    counter = iter(range(1000))

    def disturb() -> None:
        number = next(counter)
        _fill(catalog, [a_namespace(f"comes{number}", created_at=later(number * 7 % 20))])
        with catalog.transaction() as transaction:
            transaction.namespaces.delete(name=f"leaves{number:02}")

    names = _walk(catalog, 3, between=disturb)
    assert [name for name in names if name.startswith("stays")] == [namespace.name for namespace in staying]
    assert len(names) == len(set(names))
    assert next(counter) > 5


def test_the_last_full_page_has_no_successor(catalog: Catalog) -> None:
    _fill(catalog, [a_namespace(name) for name in "abcd"])
    with catalog.transaction() as transaction:
        first = transaction.namespaces.page(limit=2)
        second = transaction.namespaces.page(limit=2, after=first.next)
        empty = transaction.namespaces.page(limit=2, region=Region("us-east-1"))
    assert first.next is not None
    assert second.next is None
    assert (len(first.items), len(second.items), empty.items, empty.next) == (2, 2, (), None)


def test_bounds_of_the_creation_time_are_inclusive(catalog: Catalog) -> None:
    _fill(catalog, [a_namespace(f"n{second}", created_at=later(second)) for second in range(5)])
    with catalog.transaction() as transaction:
        page = transaction.namespaces.page(limit=9, created_from=later(1), created_to=later(3))
        late = transaction.namespaces.page(limit=9, created_from=later(4))
    assert [namespace.name for namespace in page.items] == ["n1", "n2", "n3"]
    assert [namespace.name for namespace in late.items] == ["n4"]


def test_records_without_a_creation_time_are_paged_by_their_key(catalog: Catalog) -> None:
    tags = [Tag(resource_arn="arn", key=key, value="v") for key in ("a", "b", "ä", "€")]
    with catalog.transaction() as transaction:
        for tag in reversed(tags):
            transaction.tags.insert(tag)
        first = transaction.tags.page(limit=3)
        second = transaction.tags.page(limit=3, after=first.next)
    assert [*first.items, *second.items] == tags


@pytest.mark.parametrize(
    "key",
    [
        PageKey(created_at=None, identity=(str(uuid.uuid4()),)),
        PageKey(created_at=MORNING, identity=("no uuid",)),
        PageKey(created_at=MORNING, identity=(str(uuid.uuid4()), "more")),
    ],
)
def test_a_key_of_another_listing_is_refused(catalog: Catalog, key: PageKey) -> None:
    with pytest.raises(InvalidRequest), catalog.transaction() as transaction:
        transaction.namespaces.page(limit=1, after=key)


def test_a_key_far_away_in_time_is_harmless(catalog: Catalog) -> None:
    _fill(catalog, [a_namespace()])
    far = PageKey(created_at=datetime(9999, 1, 1, tzinfo=UTC), identity=(str(uuid.uuid4()),))
    with catalog.transaction() as transaction:
        assert transaction.namespaces.page(limit=1, after=far).items == ()
