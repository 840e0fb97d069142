"""Paths of files in a snapshot: relative to the data directory, parts joined by `/`, "" for itself."""

from stillframe.errors import InvalidRequest

_LONGEST = 4096


def checked_path(path: str) -> str:
    """The path, if a restore can create it inside of its target and nowhere else; else InvalidRequest."""
    parts = path.split("/") if path else []
    unsafe = any(part in {"", ".", ".."} or "\0" in part for part in parts)
    if unsafe or len(path) > _LONGEST or not _encodable(path):
        raise InvalidRequest(f"{path[:200]!r} cannot be the path of a file in a snapshot.")
    return path


def split(path: str) -> tuple[str, str]:
    """Directory and name."""
    directory, _, name = path.rpartition("/")
    return directory, name


def join(directory: str, name: str) -> str:
    """The path of a name in a directory."""
    return f"{directory}/{name}" if directory else name


def _encodable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
