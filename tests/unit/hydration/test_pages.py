"""Which pages have arrived: the arithmetic, against a plain list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.hydration.pages import PAGE_SIZE, PageMap, pages_in

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("length", "count"), [(0, 0), (1, 1), (PAGE_SIZE, 1), (PAGE_SIZE + 1, 2)])
def test_a_part_of_a_page_counts_as_one(length: int, count: int) -> None:
    assert pages_in(length) == count


def test_an_access_is_served_when_every_page_it_touches_is_there() -> None:
    pages = PageMap(10 * PAGE_SIZE)
    pages.arrived(2, 4)
    assert pages.is_there(2 * PAGE_SIZE, 2 * PAGE_SIZE)
    assert pages.is_there(3 * PAGE_SIZE + 100, 1)
    assert not pages.is_there(2 * PAGE_SIZE - 1, 2)
    assert not pages.is_there(3 * PAGE_SIZE, PAGE_SIZE + 1)


def test_beyond_the_limit_everything_is_there() -> None:
    pages = PageMap(3 * PAGE_SIZE - 10)
    assert pages.is_there(3 * PAGE_SIZE, 1 << 40)
    assert not pages.is_there(2 * PAGE_SIZE, 1 << 40)


def test_a_page_that_is_lost_is_missing_again() -> None:
    pages = PageMap(2 * PAGE_SIZE)
    pages.arrived(0, 2)
    pages.lost(1)
    pages.lost(1)
    assert pages.missing == 1
    assert list(pages.missing_runs(0, 2)) == [(1, 2)]


_range = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted)


@given(limit=st.integers(0, 30), steps=st.lists(st.tuples(st.sampled_from(["arrive", "retire"]), _range)))
def test_runs_and_counts_agree_with_a_list_of_pages(limit: int, steps: list[tuple[str, list[int]]]) -> None:
    pages, model = PageMap(limit * PAGE_SIZE), [False] * limit
    for step, (first, last) in steps:
        if step == "arrive":
            new = model[first:last].count(False)
            model[first:last] = [True] * len(model[first:last])
            assert pages.arrived(first, last) == new
        else:
            gone = model[last:].count(False)
            del model[last:]
            assert pages.retire(last) == gone
        assert pages.missing == model.count(False)
        assert len(pages) == len(model)
        runs = [page for first, last in pages.missing_runs(0, 50) for page in range(first, last)]
        assert runs == [page for page, there in enumerate(model) if not there]
        assert pages.is_there(first * PAGE_SIZE, PAGE_SIZE) == (first >= len(model) or model[first])
