"""PostgreSQL's own incremental backup under the same comparison: pg_basebackup and pg_combinebackup.

Nothing of Stillframe's engine takes part: copies, their combination and what they are compared with all come from
PostgreSQL's programs.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from stillframe.domain.lsn import Lsn
from stillframe.postgres.cluster import Cluster
from stillframe.postgres.files import RelationFile, parse_relation_name
from stillframe.postgres.identity import clean_environment
from stillframe.postgres.pages import PAGE_SIZE, page_lsns
from stillframe.postgres.settings import SERVICE_ROLE, ServerSettings
from stillframe.repository import SnapshotDocument
from support.equivalence import FIRST_USER_OID, UNDISTURBED, Rig, repositories
from support.postgres import reachable_directory, running_namespace

SEEN_IN = 180006
"""The release (18.6) in which both faults were seen: there they have to appear, elsewhere they are reported."""

_START = re.compile(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)
_DEADLINE_SECONDS = 120


class Fault(StrEnum):
    """How a combined copy differs from a full one."""

    OLDER = "older pages in the place of newer ones"
    FOR_EMPTY = "older pages in the place of ones that were never initialised"
    OTHER = "other pages"
    FILE = "files that are missing, too many, or of another length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place in which the combined copy is wrong; the block is counted within the file."""

    path: str
    fault: Fault
    block: int | None = None


@dataclass(kw_only=True)
class NativeTools:
    """Copies of one cluster, each in a directory of its own; `chain` is a full one and its incrementals.

    Only with their WAL can they be started and verified.
    """

    cluster: Cluster
    directory: Path
    with_wal: bool = True
    chain: list[Path] = field(default_factory=list)
    _made: int = 0

    def full(self) -> Path:
        """A full copy, which is the beginning of no chain yet."""
        return self._copy()

    def extend(self) -> None:
        """The chain's next copy: incremental to the last one; the first is full."""
        options = [f"--incremental={self.chain[-1] / 'backup_manifest'}"] if self.chain else []
        self.chain.append(self._copy(*options))

    def begin_again(self, full: Path) -> None:
        """Make this copy the beginning of the chain, and remove all others."""
        self.chain = [full]
        for path in self.directory.iterdir():
            if path != full:
                shutil.rmtree(path)

    def combine(self, target: Path | None = None) -> Path:
        """What pg_combinebackup makes of the chain, in that directory or in a new one."""
        target = target or self._new_directory()
        self._run("pg_combinebackup", "--no-sync", "-o", str(target), *map(str, self.chain))
        return target

    def verify(self, copy: Path) -> str:
        """What pg_verifybackup says about a copy that it finds nothing wrong with."""
        return self._run("pg_verifybackup", "--no-parse-wal", str(copy))

    def _copy(self, *options: str) -> Path:
        target = self._new_directory()
        address = ("-h", str(self.cluster.socket_directory), "-p", str(self.cluster.socket_port))
        wal = "fetch" if self.with_wal else "none"
        mode = ("-U", SERVICE_ROLE, "-w", "-c", "fast", "-X", wal, "--no-sync")
        self._run("pg_basebackup", *address, *mode, "-D", str(target), *options)
        return target

    def _new_directory(self) -> Path:
        self._made += 1
        return self.directory / f"copy-{self._made}"

    def _run(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.cluster.installation.program(name)), *arguments],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stderr}"
        return done.stdout


def differences(combined: Path, full: Path, *, start: Lsn) -> list[Difference]:
    """In which pages of relations a combined copy differs from a full one of the same moment.

    A page of a system catalog is let pass when WAL since `start` restores it: looking sets hint bits there.
    """
    found, wanted = _relation_files(combined), _relation_files(full)
    odd = [Difference(path=path, fault=Fault.FILE) for path in sorted(found.keys() ^ wanted.keys())]
    for path in sorted(found.keys() & wanted.keys()):
        odd += _compared(path, (combined / path).read_bytes(), (full / path).read_bytes(), relation=wanted[path],
                         start=start)  # fmt: skip
    return odd


def start_of(copy: Path) -> Lsn:
    """Where the WAL starts by which a copy becomes consistent."""
    found = _START.search((copy / "backup_label").read_text())
    assert found is not None
    return Lsn.parse(found[1])


def _relation_files(copy: Path) -> dict[str, RelationFile]:
    found = {}
    for folder, _, names in os.walk(copy):
        inside = Path(folder).relative_to(copy)
        for name in names if inside.parts[:1] in {("base",), ("global",), ("pg_tblspc",)} else ():
            relation = parse_relation_name(name)
            if relation is not None:
                found[str(inside / name)] = relation
    return found


def _compared(
    path: str, found: bytes, wanted: bytes, *, relation: RelationFile, start: Lsn
) -> list[Difference]:
    if len(found) != len(wanted):
        return [Difference(path=path, fault=Fault.FILE)]
    if found == wanted:
        return []
    system = relation.number < FIRST_USER_OID
    lsns = zip(page_lsns(found).tolist(), page_lsns(wanted).tolist(), strict=True)
    return [
        Difference(path=path, block=block, fault=_fault(one, other, empty=not any(_page(wanted, block))))
        for block, (one, other) in enumerate(lsns)
        if _page(found, block) != _page(wanted, block) and not (system and other >= start)
    ]


def _page(content: bytes, block: int) -> bytes:
    return content[block * PAGE_SIZE : (block + 1) * PAGE_SIZE]


def _fault(found: int, wanted: int, *, empty: bool) -> Fault:
    if empty:
        return Fault.FOR_EMPTY
    return Fault.OLDER if found < wanted else Fault.OTHER


@dataclass(kw_only=True)
class NativeRig(Rig):
    """A rig on which PostgreSQL's own programs copy the same history beside ours.

    Their differences are noted and do not end the run; one of ours still does.
    """

    directory: Path
    tools: NativeTools | None = None
    compared: int = 0
    wrong: list[list[Difference]] = field(default_factory=list)

    def capture(self) -> SnapshotDocument:
        """Take the next copy of both; after a restore the native chain begins anew."""
        self._tools().extend()
        return super().capture()

    def verified(self) -> SnapshotDocument:
        """Compare both with full copies; the native one's full copy is the next one's base."""
        document = super().verified()
        tools = self._tools()
        full, combined = tools.full(), tools.combine()
        odd = differences(combined, full, start=start_of(tools.chain[-1]))
        self.compared += 1
        self.wrong += [odd] if odd else []
        tools.begin_again(full)
        return document

    def report(self) -> str:
        """What was found, in some lines."""
        lines = [
            f"{self.compared} incremental copies of pg_basebackup, combined by pg_combinebackup:",
            f"{len(self.wrong)} differ from full ones.",
            *(f"  {_summary(odd)}" for odd in self.wrong),
            f"The {self.compared} snapshots of Stillframe at the same places of the same history do not.",
        ]
        return "\n".join(lines)

    def _tools(self) -> NativeTools:
        if self.tools is None or self.tools.cluster is not self.cluster:
            shutil.rmtree(self.directory / "native", ignore_errors=True)
            (self.directory / "native").mkdir()
            self.tools = NativeTools(
                cluster=self.cluster, directory=self.directory / "native", with_wal=False
            )
        return self.tools


def _summary(odd: list[Difference]) -> str:
    counts = Counter((difference.path, difference.fault) for difference in odd)
    return "; ".join(f"{path}: {count} {fault}" for (path, fault), count in sorted(counts.items()))


@contextmanager
def native_rig(settings: ServerSettings = UNDISTURBED) -> Iterator[NativeRig]:
    """A rig on a new namespace, with room for the native copies."""
    with (
        running_namespace(settings) as cluster,
        repositories() as (repository, measure),
        reachable_directory() as directory,
    ):
        yield NativeRig(cluster=cluster, repository=repository, measure=measure, directory=directory)
