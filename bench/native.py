"""PostgreSQL's own tools: pg_basebackup, full and incremental, and pg_combinebackup."""

import shutil

from bench.measure import tree_bytes
from bench.programs import require_cluster, run
from bench.warehouse import Source, Warehouse
from stillframe.postgres.osfiles import sync_tree


class PlainBaseBackup:
    """pg_basebackup into a directory; brought back by copying that directory."""

    name = "pg_basebackup, plain"
    guarantees = "fsync; not compressed, not encrypted, pages checked by the server"
    rounds = 99

    def __init__(self, house: Warehouse, source: Source) -> None:
        self._source = source
        self._copy = house.root / "basebackup-plain"
        self.returned = house.root / "basebackup-restored"

    def prepare_copy(self) -> None:
        """No directory yet."""
        shutil.rmtree(self._copy, ignore_errors=True)

    def copy(self) -> None:
        """pg_basebackup -Fp -c fast -X stream, synced by itself."""
        base_backup(self._source, "-D", str(self._copy), "-Fp")

    def stored(self) -> int:
        """The directory."""
        return tree_bytes(self._copy)

    def prepare_return(self) -> None:
        """No directory yet."""
        shutil.rmtree(self.returned, ignore_errors=True)

    def bring_back(self) -> None:
        """cp -a, then fsync of every file: cp has no such option."""
        run("cp", "-a", str(self._copy), str(self.returned))
        sync_tree(self.returned)

    def clean_return(self) -> None:
        """Remove the files."""
        require_cluster(self.returned)
        shutil.rmtree(self.returned)

    def close(self) -> None:
        """Remove the copy."""
        shutil.rmtree(self._copy, ignore_errors=True)


class TarBaseBackup(PlainBaseBackup):
    """pg_basebackup into compressed tar files; brought back by unpacking them."""

    name = "pg_basebackup, -Ft -z"
    guarantees = "fsync; compressed, not encrypted, pages checked by the server"
    rounds = 1

    def __init__(self, house: Warehouse, source: Source) -> None:
        super().__init__(house, source)
        self._copy = house.root / "basebackup-tar"

    def copy(self) -> None:
        """pg_basebackup -Ft -z: gzip at its default level, one thread."""
        base_backup(self._source, "-D", str(self._copy), "-Ft", "-z")

    def bring_back(self) -> None:
        """tar -xz of the data and of the WAL, then fsync of every file."""
        self.returned.mkdir(mode=0o700)
        run("tar", "-xzf", str(self._copy / "base.tar.gz"), "-C", str(self.returned))
        run("tar", "-xzf", str(self._copy / "pg_wal.tar.gz"), "-C", str(self.returned / "pg_wal"))
        sync_tree(self.returned)


class IncrementalBaseBackup(PlainBaseBackup):
    """A full base backup, and increments that each belong to it; the newest is kept."""

    name = "pg_basebackup --incremental"
    guarantees = "fsync; not compressed, not encrypted; an increment needs the full copy to be restored"
    rounds = 2

    def __init__(self, house: Warehouse, source: Source) -> None:
        super().__init__(house, source)
        self._copy = house.root / "combine-full"
        self._increment = house.root / "combine-increment"
        self.returned = house.root / "combined"

    def prepare_next(self) -> None:
        """No increment yet."""
        shutil.rmtree(self._increment, ignore_errors=True)

    def copy_next(self) -> None:
        """What changed since the full copy, by its manifest."""
        base_backup(
            self._source,
            "-D",
            str(self._increment),
            "-Fp",
            f"--incremental={self._copy / 'backup_manifest'}",
        )

    def stored(self) -> int:
        """The increment if there is one, else the full copy."""
        return tree_bytes(self._increment if self._increment.exists() else self._copy)

    def bring_back(self) -> None:
        """pg_combinebackup of both, synced by itself."""
        program = self._source.cluster.installation.program("pg_combinebackup")
        run(str(program), str(self._copy), str(self._increment), "-o", str(self.returned))

    def close(self) -> None:
        """Remove both copies."""
        super().close()
        shutil.rmtree(self._increment, ignore_errors=True)


class CombineBackup(IncrementalBaseBackup):
    """The same, for those who only restore: its copy is a full one and an increment with next to nothing in it."""

    name = "pg_combinebackup"

    def copy(self) -> None:
        """Both."""
        super().copy()
        self.prepare_next()
        self.copy_next()


def base_backup(source: Source, *options: str) -> None:
    """pg_basebackup over the server's socket, with the WAL that makes the copy whole."""
    cluster = source.cluster
    program = cluster.installation.program("pg_basebackup")
    address = ("-h", str(cluster.socket_directory), "-p", str(cluster.socket_port), "-U", "stillframe", "-w")
    run(str(program), *address, "-c", "fast", "-X", "stream", *options)
