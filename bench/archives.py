"""General backup programs, pointed at the live directory between pg_backup_start and pg_backup_stop: restic, borg."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from bench.measure import tree_bytes
from bench.programs import fresh, require_cluster, run
from bench.warehouse import Source, Warehouse
from stillframe.postgres.osfiles import sync_tree

_LEFT_OUT = ("pg_wal/*", "postmaster.pid", "postmaster.opts")


class Archive(ABC):
    """Two archives a copy: the directory, and then the label and the WAL from start to stop."""

    name: str
    guarantees: str
    rounds = 99

    def __init__(self, house: Warehouse, source: Source) -> None:
        self._house = house
        self._source = source
        self._root = fresh(house.root / self.name)
        self._target = house.root / f"{self.name}-restored"
        self._before = 0

    @property
    def returned(self) -> Path:
        """The data directory that came back: below the target, with all folders on the way."""
        return self._target / self._source.cluster.data_directory.relative_to("/")

    def prepare_copy(self) -> None:
        """An empty repository."""
        fresh(self._root)
        self._create_repository()
        self._before = 0

    def copy(self) -> None:
        """Both archives."""
        data = self._source.cluster.data_directory
        with self._house.service_connection(self._source) as session:
            session.execute("SELECT pg_backup_start('bench', fast => true)")
            self._store("data", [str(data)], left_out=[str(data / name) for name in _LEFT_OUT])
            stopped = session.execute(
                "SELECT labelfile, pg_walfile_name(lsn) FROM pg_backup_stop(wait_for_archive => false)"
            ).fetchone()
        assert stopped is not None
        (self._root / "backup_label").write_text(stopped[0])
        self._store("wal", [str(self._root / "backup_label"), *needed_wal(data, *stopped)])

    def prepare_next(self) -> None:
        """Keep what is stored: the next copy shares with it."""
        self._before = tree_bytes(self._root / "repository")

    def copy_next(self) -> None:
        """The same again."""
        self.copy()

    def stored(self) -> int:
        """What the repository has grown by."""
        return tree_bytes(self._root / "repository") - self._before

    def prepare_return(self) -> None:
        """An empty directory."""
        fresh(self._target)

    def bring_back(self) -> None:
        """Both archives, label and WAL put where a server looks for them, then fsync of every file."""
        for kind in ("data", "wal"):
            self._fetch(kind)
        label = self._target / (self._root / "backup_label").relative_to("/")
        label.rename(self.returned / "backup_label")
        sync_tree(self._target)

    def clean_return(self) -> None:
        """Remove the files."""
        require_cluster(self.returned)
        shutil.rmtree(self._target)

    def close(self) -> None:
        """Remove the repository."""
        shutil.rmtree(self._root, ignore_errors=True)

    @abstractmethod
    def _create_repository(self) -> None: ...

    @abstractmethod
    def _store(self, kind: str, paths: Sequence[str], *, left_out: Sequence[str] = ()) -> None:
        """An archive of that kind with these files, without those that these patterns match."""

    @abstractmethod
    def _fetch(self, kind: str) -> None:
        """The newest archive of that kind, below the target."""


class Restic(Archive):
    """restic in its default format, which compresses."""

    name = "restic"
    programs = (name,)
    guarantees = "fsync of the repository; compressed, encrypted, pages not checked"

    def _create_repository(self) -> None:
        self._restic("init")

    def _store(self, kind: str, paths: Sequence[str], *, left_out: Sequence[str] = ()) -> None:
        self._restic("backup", "--tag", kind, *(f"--exclude={pattern}" for pattern in left_out), *paths)

    def _fetch(self, kind: str) -> None:
        self._restic("restore", "latest", "--tag", kind, "--target", str(self._target))

    def _restic(self, *arguments: str) -> None:
        environment = {
            "RESTIC_REPOSITORY": str(self._root / "repository"),
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_CACHE_DIR": str(self._root / "cache"),
        }
        run("restic", "--quiet", *arguments, environment=environment)


class Borg(Archive):
    """borg with the encryption that is fastest here, and compression by zstd at level 1, as ours."""

    name = "borg"
    programs = (name,)
    guarantees = "fsync of the repository; compressed, encrypted, pages not checked"
    rounds = 1

    def __init__(self, house: Warehouse, source: Source) -> None:
        super().__init__(house, source)
        self._number = 0

    def _create_repository(self) -> None:
        self._borg("init", "--encryption", "repokey-blake2", str(self._root / "repository"))

    def _store(self, kind: str, paths: Sequence[str], *, left_out: Sequence[str] = ()) -> None:
        self._number += 1 if kind == "data" else 0
        excluded = [word for pattern in left_out for word in ("--exclude", pattern)]
        self._borg("create", "--compression", "zstd,1", *excluded, self._archive(kind), *paths)

    def _fetch(self, kind: str) -> None:
        self._borg("extract", self._archive(kind))

    def _archive(self, kind: str) -> str:
        return f"{self._root / 'repository'}::{kind}-{self._number}"

    def _borg(self, *arguments: str) -> None:
        environment = {"BORG_PASSPHRASE": "benchmark", "BORG_BASE_DIR": str(self._root / "home")}
        # It extracts into the directory that it is started in.
        directory = self._target if arguments[0] == "extract" else None
        # 1 is a warning: a file was written to while it was read, which the WAL makes good.
        run("borg", *arguments, environment=environment, directory=directory, accepted=(0, 1))


def needed_wal(data: Path, label: str, last: str) -> list[str]:
    """The paths of the WAL segments from the first that a backup label names to the last one needed."""
    # The label's first line ends in "(file 000000010000000000000042)".
    first = label.splitlines()[0].rpartition("file ")[2].rstrip(")")
    return [
        str(path)
        for path in sorted((data / "pg_wal").iterdir())
        if len(path.name) == 24 and first <= path.name <= last
    ]
