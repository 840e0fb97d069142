"""The form of a request that Signature Version 4 signs (IAM user guide, "Create a signed request")."""

import hashlib
from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes

from stillframe.aws.messages import RawRequest

_UNRESERVED = "-_.~"


def canonical_request(request: RawRequest, *, signed_headers: Sequence[str], payload_hash: str) -> str:
    """The text whose hash is signed; `signed_headers` are lower-case and in the order the client gave."""
    lines = [f"{name}:{_header_value(request, name)}" for name in signed_headers]
    return "\n".join(
        [
            request.method,
            canonical_path(request.path),
            canonical_query(request.query),
            *lines,
            "",
            ";".join(signed_headers),
            payload_hash,
        ]
    )


def canonical_path(path: str) -> str:
    """The path as sent, dots resolved, encoded once more (every service but S3 does so)."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    trailing = "/" if kept and path.endswith("/") else ""
    return quote(f"/{'/'.join(kept)}{trailing}", safe=f"/{_UNRESERVED}", encoding="latin-1")


def canonical_query(query: str) -> str:
    """Names and values encoded strictly and sorted, by name and then by value."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return "&".join(
        f"{name}={value}" for name, value in sorted((_strict(n), _strict(v)) for n, _, v in pairs)
    )


def sha256_hex(data: bytes) -> str:
    """The hash in lower-case hexadecimal, as all of Signature Version 4 writes it."""
    return hashlib.sha256(data).hexdigest()


def _strict(text: str) -> str:
    return quote(unquote_to_bytes(text), safe=_UNRESERVED)


def _header_value(request: RawRequest, name: str) -> str:
    values = (value for key, value in request.headers if key == name)
    return ",".join(" ".join(value.split()) for value in values)
