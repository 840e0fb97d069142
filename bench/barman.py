"""Barman, the backup and recovery manager."""

import getpass
import shutil
import signal
import subprocess
import time
from pathlib import Path

from bench.measure import Stopwatch, tree_bytes
from bench.programs import find_program, fresh, require_cluster, run
from bench.warehouse import Source, Warehouse
from stillframe.postgres.osfiles import sync_tree

_SLOT = "bench_barman"
_PATIENCE = 60.0
_POLL_SECONDS = 0.05


class Barman:
    """Barman beside the server: pg_basebackup by its `postgres` method, WAL by a slot and `receive-wal`."""

    name = "barman"
    programs = (name, "rsync")
    guarantees = "fsync; not compressed, not encrypted, pages checked by the server; with a WAL archive"
    rounds = 2

    def __init__(self, house: Warehouse, source: Source) -> None:
        self._house = house
        self._source = source
        self._home = fresh(house.root / "barman")
        self.returned = house.root / "barman-restored"
        self._before = 0
        self._receiver: subprocess.Popen[bytes] | None = None

    def prepare_copy(self) -> None:
        """A server that Barman has never seen, and WAL arriving from it."""
        self.close()
        self._configure(fresh(self._home))
        self._barman("receive-wal", "--create-slot")
        self._receiver = subprocess.Popen(
            [*self._command, "receive-wal", "bench"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._await_slot(active=True)
        self._await_readiness()
        self._before = 0

    def copy(self) -> None:
        """A full backup, until the WAL that it needs is in the archive."""
        self._barman("backup", "--wait")

    def prepare_next(self) -> None:
        """Keep what is stored."""
        self._before = self._size()

    def copy_next(self) -> None:
        """An incremental backup on top of the last one: `pg_basebackup --incremental` once more."""
        self._barman("backup", "--wait", "--incremental", "latest")

    def stored(self) -> int:
        """What backups and WAL archive have grown by."""
        return self._size() - self._before

    def prepare_return(self) -> None:
        """No directory yet."""
        shutil.rmtree(self.returned, ignore_errors=True)

    def bring_back(self) -> None:
        """barman restore, then fsync of every file: it copies by rsync, which syncs nothing."""
        self._barman("restore", "latest", str(self.returned))
        sync_tree(self.returned)

    def clean_return(self) -> None:
        """Remove the files."""
        require_cluster(self.returned)
        shutil.rmtree(self.returned)

    def close(self) -> None:
        """End what receives WAL, give the slot back, remove the backups."""
        if self._receiver is not None:
            self._receiver.send_signal(signal.SIGTERM)
            self._receiver.wait(_PATIENCE)
            self._receiver = None
            self._await_slot(active=False)
            self._barman("receive-wal", "--drop-slot")
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def _command(self) -> list[str]:
        program = find_program("barman")
        assert program is not None
        return [program, "--config", str(self._home / "barman.conf")]

    def _barman(self, command: str, *arguments: str) -> None:
        options = [one for one in arguments if one.startswith("--")]
        rest = [one for one in arguments if not one.startswith("--")]
        if "--incremental" in options:
            options, rest = [*options, *rest], []
        run(*self._command, command, *options, "bench", *rest)

    def _configure(self, home: Path) -> None:
        cluster = self._source.cluster
        address = f"host={cluster.socket_directory} port={cluster.socket_port} user=stillframe"
        common = {
            "barman_user": getpass.getuser(),
            "barman_home": str(home),
            "barman_lock_directory": str(home),
            "configuration_files_directory": str(home),
            "log_file": str(home / "barman.log"),
            "log_level": "WARNING",
        }
        server = {
            "description": "benchmark",
            "conninfo": f"{address} dbname=postgres",
            "streaming_conninfo": address,
            "backup_method": "postgres",
            "streaming_archiver": "on",
            "slot_name": _SLOT,
            "immediate_checkpoint": "true",
            "path_prefix": str(cluster.installation.program("pg_basebackup").parent),
            "staging_path": str(home / "staging"),
            "staging_location": "local",
        }
        text = [
            f"[{name}]\n" + _lines(values) for name, values in {"barman": common, "bench": server}.items()
        ]
        (home / "barman.conf").write_text("\n".join(text))

    def _await_readiness(self) -> None:
        """Until Barman finds everything in order: it refuses to begin a backup before."""
        watch = Stopwatch()
        while "FAILED" in (found := run(*self._command, "check", "bench", accepted=(0, 1))):
            assert watch.seconds < _PATIENCE, found
            time.sleep(_POLL_SECONDS)

    def _await_slot(self, *, active: bool) -> None:
        watch = Stopwatch()
        with self._house.service_connection(self._source) as session:
            query = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
            while session.execute(query, (_SLOT,)).fetchone() != (active,):
                assert watch.seconds < _PATIENCE, f"Barman's slot is not {'' if active else 'in'}active"
                time.sleep(_POLL_SECONDS)

    def _size(self) -> int:
        return tree_bytes(self._home / "bench")


def _lines(values: dict[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in values.items())
