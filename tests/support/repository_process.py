"""A process that writes snapshots until it is told to stop: `python repository_process.py DIRECTORY SEED COUNT`.

Prints the id of each committed snapshot, and one digest of what it contains.
"""

import hashlib
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.repository import BLOCK, contents, page, repository_in, store_files


def files_of(rnd: random.Random) -> dict[str, bytes]:
    """Some files; different processes choose among the same pages, so that they meet."""
    return {f"base/{number}": b"".join(page(rnd.randrange(8)) for _ in range(40)) for number in range(4)}


def digest(files: dict[str, bytes]) -> str:
    """Of names and bytes."""
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


def main(directory: str, seed: str, count: str) -> None:
    """Write that many snapshots, deleting some and sweeping when nobody else is at work."""
    rnd = random.Random(int(seed))
    repository = repository_in(Path(directory))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in range(int(count)):
        files = files_of(rnd)
        document = store_files(repository, files)
        assert contents(repository, document.snapshot_id) == files
        assert len(files["base/0"]) % BLOCK == 0
        sys.stdout.write(f"{document.snapshot_id} {digest(files)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
