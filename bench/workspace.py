"""The benchmark's own directory: on the checkout's disk, reachable for PostgreSQL's user, gone at the end."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.machine import file_system

_IN_MEMORY = {"tmpfs", "ramfs"}
_CHECKOUT = Path(__file__).resolve().parents[1]


@contextmanager
def workspace(directory: Path | None) -> Iterator[Path]:
    """A fresh directory, and everything that asks for a temporary one gets it below.

    It is made in `directory`, else in the first usable one on the disk of the checkout. Raises SystemExit with
    a sentence when there is none.
    """
    path = Path(tempfile.mkdtemp(prefix="sfbench-", dir=directory or _usable_parent()))
    path.chmod(0o711)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = str(path)
    try:
        yield path
    finally:
        tempfile.tempdir = None
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
        shutil.rmtree(path, ignore_errors=True)


def _usable_parent() -> Path:
    for parent in (Path(tempfile.gettempdir()), Path("/var/tmp"), _CHECKOUT.parent):
        if _is_usable(parent):
            return parent
    raise SystemExit("No usable directory on the disk of the checkout was found: name one with --directory.")


def _is_usable(parent: Path) -> bool:
    if not parent.is_dir() or not os.access(parent, os.W_OK) or file_system(parent) in _IN_MEMORY:
        return False
    passable = all(folder.stat().st_mode & stat.S_IXOTH for folder in (parent, *parent.parents))
    return parent.stat().st_dev == _CHECKOUT.stat().st_dev and (passable or os.geteuid() != 0)
