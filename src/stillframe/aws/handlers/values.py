"""Reading the members of a request that several operations share."""

from collections.abc import Mapping, Sequence
from typing import Any


def tags_of(members: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """The `tags` of a request as pairs of key and value."""
    return [(tag["key"], tag.get("value", "")) for tag in members.get("tags") or ()]


def page_of(members: Mapping[str, Any]) -> dict[str, Any]:
    """The two members that every list operation has."""
    return {"max_results": members.get("maxResults"), "next_token": members.get("nextToken") or None}


def megabytes(size: float | None) -> float | None:
    """Bytes as the megabytes of the API (2**20 bytes)."""
    return None if size is None else size / 1048576
