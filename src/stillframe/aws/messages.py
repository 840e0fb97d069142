"""What comes in and goes out over HTTP, without any web framework in it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRequest:
    """One HTTP request. Names of headers are lower-case; `path` and `query` are as sent, still encoded.

    Header values are decoded as Latin-1, so that every byte survives to the signature check.
    """

    request_id: str
    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that lower-case name, or None."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """One HTTP response, and what the log line and the metrics say about it.

    `operation` is a name of the model or `unknown`, `code` the AWS error code or `OK`: both are bounded sets.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    operation: str
    code: str
    account: str | None
