"""Page tokens are opaque, belong to one list, and never surprise the parser."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.catalog import Page, PageKey
from stillframe.errors import InvalidRequest
from stillframe.service.pagination import paginate

pytestmark = pytest.mark.unit

START = datetime(2026, 11, 1, tzinfo=UTC)
ITEMS = [PageKey(created_at=START + timedelta(seconds=n), identity=(f"id-{n}",)) for n in range(7)]


def fetch(after: PageKey | None, limit: int) -> Page[PageKey]:
    """A listing of seven records that are their own place."""
    begin = 0 if after is None else ITEMS.index(after) + 1
    items = tuple(ITEMS[begin : begin + limit])
    return Page(items=items, next=items[-1] if begin + limit < len(ITEMS) else None)


def test_the_pages_of_a_list_make_up_the_whole_list() -> None:
    seen: list[PageKey] = []
    tokens: list[str] = []
    token: str | None = None
    for _ in range(10):
        page = paginate(fetch, purpose=("x",), max_results=2, next_token=token)
        seen += page.items
        token = page.next_token
        if token is None:
            break
        tokens.append(token)
    assert (seen, len(set(tokens))) == (ITEMS, 3)


def test_tokens_are_as_long_as_botocore_wants_them() -> None:
    token = paginate(fetch, purpose=("x",), max_results=1, next_token=None).next_token
    assert token is not None
    assert 8 <= len(token) <= 1024


def test_a_token_of_another_list_is_refused() -> None:
    token = paginate(fetch, purpose=("namespaces", "a"), max_results=1, next_token=None).next_token
    with pytest.raises(InvalidRequest):
        paginate(fetch, purpose=("namespaces", "b"), max_results=1, next_token=token)


def test_without_a_size_a_page_holds_a_hundred() -> None:
    asked: list[int] = []

    def remember(after: PageKey | None, limit: int) -> Page[PageKey]:
        asked.append(limit)
        return fetch(after, limit)

    paginate(remember, purpose=("x",), max_results=None, next_token=None)
    assert asked == [100]


@given(st.text(min_size=1, max_size=200))
def test_no_text_is_taken_for_a_token(text: str) -> None:
    with pytest.raises(InvalidRequest):
        paginate(fetch, purpose=("x",), max_results=1, next_token=text)
