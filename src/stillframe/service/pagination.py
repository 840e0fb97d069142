"""Opaque page tokens: authenticated by a digest of what they belong to, so that a token of one list, scope or
filter is refused by another. At least 8 characters, since botocore itself refuses shorter ones."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from stillframe.catalog import Page, PageKey
from stillframe.errors import InvalidRequest

Record = TypeVar("Record")

DEFAULT_PAGE = 100


@dataclass(frozen=True, slots=True)
class Listing(Generic[Record]):
    """One page of a list operation; `next_token` is None on the last one."""

    items: Sequence[Record]
    next_token: str | None


def paginate(
    fetch: Callable[[PageKey | None, int], Page[Record]],
    *,
    purpose: tuple[object, ...],
    max_results: int | None,
    next_token: str | None,
) -> Listing[Record]:
    """Fetch the page that the token points to.

    `purpose` names the list with its scope and filters. Raises InvalidRequest for a token that was not issued
    for it.
    """
    fingerprint = hashlib.blake2b(repr(purpose).encode(), digest_size=9).digest()
    after = _decode(next_token, fingerprint) if next_token else None
    page = fetch(after, max_results or DEFAULT_PAGE)
    return Listing(page.items, _encode(page.next, fingerprint) if page.next is not None else None)


def _encode(key: PageKey, fingerprint: bytes) -> str:
    position = json.dumps(key.as_tuple(), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(fingerprint + position).decode()


def _decode(token: str, fingerprint: bytes) -> PageKey:
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        if raw[: len(fingerprint)] != fingerprint:
            raise ValueError(token)
        return PageKey.from_tuple([str(text) for text in json.loads(raw[len(fingerprint) :])])
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest("The pagination token is not valid for this request.") from None
