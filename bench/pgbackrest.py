"""pgBackRest, where one is installed that knows PostgreSQL 18."""

import re
import shutil
from pathlib import Path

from bench.archives import needed_wal
from bench.measure import tree_bytes
from bench.programs import find_program, fresh, require_cluster, run
from bench.warehouse import Source, Warehouse

_PROGRAM = "pgbackrest"
_KNOWS_18 = (2, 55)


class PgBackRest:
    """pgBackRest beside the server, as fast as it can be told to: two processes, zstd 1, bundles, blocks.

    The server archives nothing by itself, so the WAL of a backup is pushed after it, within the time of the copy.
    """

    name = _PROGRAM
    programs = (name,)
    guarantees = "fsync; compressed, not encrypted, pages checked"
    rounds = 2

    def __init__(self, house: Warehouse, source: Source) -> None:
        self._house = house
        self._source = source
        self._root = fresh(house.root / _PROGRAM)
        self.returned = house.root / f"{_PROGRAM}-restored"
        self._wal: list[str] = []
        self._before = 0

    def prepare_copy(self) -> None:
        """A repository with a stanza, and nothing in it."""
        self._configure(fresh(self._root))
        self._pgbackrest("stanza-create")
        self._before = 0

    def copy(self) -> None:
        """A full backup and its WAL."""
        self._backup("full")

    def prepare_next(self) -> None:
        """Keep what is stored."""
        self._before = self._size()

    def copy_next(self) -> None:
        """An incremental backup and its WAL."""
        self._backup("incr")

    def stored(self) -> int:
        """What the repository has grown by."""
        return self._size() - self._before

    def prepare_return(self) -> None:
        """An empty directory."""
        fresh(self.returned).chmod(0o700)

    def bring_back(self) -> None:
        """The backup, synced by pgBackRest, which leaves recovery alone, and the WAL where a server finds it."""
        target = f"--pg1-path={self.returned}"
        self._pgbackrest("restore", target, "--type=preserve")
        for name in self._wal:
            self._pgbackrest("archive-get", target, name, str(self.returned / "pg_wal" / name))

    def clean_return(self) -> None:
        """Remove the files."""
        require_cluster(self.returned)
        shutil.rmtree(self.returned)

    def close(self) -> None:
        """Remove the repository."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _backup(self, kind: str) -> None:
        data = self._source.cluster.data_directory
        self._pgbackrest("backup", f"--type={kind}")
        with self._house.service_connection(self._source) as session:
            last = session.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert last is not None
        (label, *_) = self._labels()
        wal = needed_wal(data, label, last[0])
        self._wal = [Path(path).name for path in wal]
        for path in wal:
            self._pgbackrest("archive-push", path)

    def _labels(self) -> list[str]:
        """The first line of the newest backup's label, as PostgreSQL would write it."""
        found = re.findall(r'"start":"([0-9A-F]{24})"', self._pgbackrest("info", "--output=json"))
        return [f"START WAL LOCATION: (file {found[-1]})"]

    def _pgbackrest(self, command: str, *arguments: str) -> str:
        program = find_program(_PROGRAM)
        assert program is not None
        return run(program, f"--config={self._root / 'conf'}", "--stanza=bench", command, *arguments)

    def _configure(self, root: Path) -> None:
        cluster = self._source.cluster
        values = {
            "pg1-path": cluster.data_directory,
            "pg1-socket-path": cluster.socket_directory,
            "pg1-port": cluster.socket_port,
            "pg1-user": "stillframe",
            "pg1-database": "postgres",
            "repo1-path": root / "repository",
            "repo1-bundle": "y",
            "repo1-block": "y",
            "compress-type": "zst",
            "compress-level": 1,
            "process-max": 2,
            "start-fast": "y",
            # Every peer runs as whoever runs the benchmark. Older releases do not ask, and warn of an unknown name.
            "allow-root": "y",
            # There is no archive_command to look for.
            "archive-check": "n",
            "log-path": root,
            "lock-path": root / "lock",
            "log-level-file": "off",
        }
        (root / "conf").write_text(
            "[bench]\n" + "".join(f"{name}={value}\n" for name, value in values.items())
        )

    def _size(self) -> int:
        return tree_bytes(self._root / "repository")


def is_usable() -> bool:
    """Whether the installed pgBackRest can back this server up."""
    return (_version() or (0, 0)) >= _KNOWS_18


def reason_of_absence() -> str | None:
    """Why there is no pgBackRest here; None when there is one."""
    version = _version()
    if version is None:
        return "not installed, left out"
    if version < _KNOWS_18:
        return (
            f"{version[0]}.{version[1]} does not know PostgreSQL 18, and no newer one could be had: left out"
        )
    return None


def _version() -> tuple[int, int] | None:
    program = find_program(_PROGRAM)
    found = re.search(r"(\d+)\.(\d+)", run(program, "version")) if program else None
    return (int(found[1]), int(found[2])) if found else None
