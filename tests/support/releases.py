"""What the stored repositories of past releases hold, and how this release's was made.

A format that has shipped stays readable for ever. `python tests/support/releases.py` stores the repository of the
present release below `tests/compat/data/`; what is there already is never made anew. The key in it protects nothing.
"""

import random
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import stillframe
from stillframe.domain.identifiers import SnapshotId
from stillframe.repository import Repository
from support.repository import BLOCK, KEY, facts, page, pages, repository_in

DATA = Path(__file__).parents[1] / "compat" / "data"
FIRST, SECOND = SnapshotId(uuid.UUID(int=0xA)), SnapshotId(uuid.UUID(int=0xB))

_HEAP = pages(*range(12))
_SPARSE = page(100) + bytes(40 * BLOCK) + page(101)
_CHANGED = {3: page(203), 9: page(209)}
_TEXT = b"8\n"
_LARGE = random.Random(7).randbytes(4096) * 300


def _patched(original: bytes, changes: dict[int, bytes]) -> bytes:
    content = bytearray(original)
    for block, data in changes.items():
        content[block * BLOCK : (block + 1) * BLOCK] = data
    return bytes(content)


EXPECTED: dict[SnapshotId, dict[str, bytes]] = {
    FIRST: {"PG_VERSION": _TEXT, "base/5/100": _HEAP, "base/5/101": _SPARSE, "pg_xact/0000": _LARGE},
    SECOND: {
        "PG_VERSION": _TEXT,
        "base/5/100": _patched(_HEAP, _CHANGED),
        "base/5/101": _SPARSE,
        "base/5/102": b"",
        "pg_xact/0000": _LARGE,
    },
}


def store(directory: Path) -> None:
    """Everything the format can express: runs, deltas, zeros, inheritance, small and large files."""
    repository = repository_in(directory)
    _store_first(repository)
    _store_second(repository)


def _store_first(repository: Repository) -> None:
    with repository.begin_snapshot(key_id=KEY, snapshot_id=FIRST) as writer:
        for path in ("", "base", "base/5", "pg_notify", "pg_xact"):
            writer.add_directory(path, mode=0o700)
        for name, content in (("base/5/100", _HEAP), ("base/5/101", _SPARSE)):
            relation = writer.relation(name, mode=0o600, blocks=len(content) // BLOCK)
            relation.write_run(0, content)
            relation.close()
        for name, content in (("PG_VERSION", _TEXT), ("pg_xact/0000", _LARGE)):
            file = writer.file(name, mode=0o600)
            file.write(content)
            file.close()
        writer.commit(facts())


def _store_second(repository: Repository) -> None:
    with repository.begin_snapshot(key_id=KEY, snapshot_id=SECOND, parent=FIRST) as writer:
        for path in ("", "base", "base/5", "pg_notify", "pg_xact"):
            writer.inherit_directory(path)
        relation = writer.relation("base/5/100", mode=0o600, blocks=12)
        relation.inherit(0, 12)
        relation.write_scattered(_CHANGED.items())
        relation.close()
        writer.relation("base/5/102", mode=0o600, blocks=0).close()
        writer.commit(facts())


if __name__ == "__main__":
    target = DATA / stillframe.__version__
    if target.exists():
        sys.exit(f"{target} is there already, and stays as it is.")
    target.mkdir(parents=True)
    store(target)
