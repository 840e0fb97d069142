"""Directories on this machine whose files have pages of a snapshot that is restored, so that they need not be fetched.

A restore finds one by the lineages: that of the namespace it replaces, else another namespace's. What it replaces is
kept, without a server, until all files of the new directory have arrived; of any other nothing is promised, and
nothing is needed: a page that is not found is fetched.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stillframe.backup.local_clone import CloneBase
from stillframe.backup.local_files import LocalDirectory
from stillframe.catalog import Transaction
from stillframe.config import Paths, Settings
from stillframe.domain.identifiers import LineageId
from stillframe.domain.lsn import Lsn
from stillframe.domain.namespace import Incarnation, Namespace
from stillframe.postgres.cluster import ARRIVAL_FILE, Cluster
from stillframe.repository import AncestryEntry, SnapshotFacts
from stillframe.system import translating_os_errors

_CANDIDATES = 3


class BaseNote(msgspec.Struct, frozen=True, kw_only=True):
    """In the note of a directory whose files are arriving: whose files have some of its pages."""

    namespace_id: uuid.UUID
    incarnation_id: uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBase:
    """A directory that was replaced, kept for the incarnation `kept_for`."""

    directory: Path
    kept_for: uuid.UUID


def find_bases(transaction: Transaction, namespace: Namespace, facts: SnapshotFacts) -> list[Incarnation]:
    """Incarnations that may have pages of this snapshot, which `namespace` is to be restored from: the most promising
    first; none when nothing on this machine has a common history with it.
    """
    current = {found.incarnation_id for found in transaction.namespaces.list()}
    related = [
        incarnation
        for incarnation in transaction.incarnations.list()
        if incarnation.id in current and _is_related(incarnation, facts)
    ]
    related.sort(key=lambda found: (*_closeness(found, namespace, facts), found.created_at), reverse=True)
    return related[:_CANDIDATES]


def note_of(base: Incarnation) -> BaseNote:
    """What an arriving directory notes of a base."""
    return BaseNote(namespace_id=base.namespace_id, incarnation_id=base.id)


def clone_base(cluster: Cluster, base: Incarnation) -> CloneBase:
    """A base as files are cloned from it; `cluster` is where it runs."""
    origins = [
        AncestryEntry(lineage_id=LineageId(lineage), timeline=timeline, fork_lsn=Lsn(lsn))
        for lineage, timeline, lsn in base.ancestry
    ]
    return CloneBase(cluster=cluster, lineage_id=base.lineage_id, origins=origins)


def places_of_base(paths: Paths, note: BaseNote, *, kept_for: uuid.UUID | str) -> tuple[Path, ...]:
    """Where the files of a base are: first or later, for they are kept elsewhere from the switch on."""
    return (
        paths.namespace(note.namespace_id) / str(note.incarnation_id),
        paths.bases / str(kept_for),
    )


def files_of_base(
    settings: Settings, note: BaseNote | None, *, kept_for: Path
) -> AbstractContextManager[LocalDirectory | None]:
    """The files of a base for the data directory `kept_for`, as long as the block lasts; None when there is none.

    Those of another namespace only as far as they are in memory, when the repository is on this machine as well.
    """
    if note is None:
        return nullcontext()
    replaced = str(note.namespace_id) == kept_for.parent.name
    return LocalDirectory.first_of(
        places_of_base(settings.paths, note, kept_for=kept_for.name),
        only_in_memory=settings.repository_url is None and not replaced,
    )


def keep_base(paths: Paths, directory: Path, *, kept_for: uuid.UUID) -> None:
    """Put a directory that was replaced, and has no server any more, where files are taken from.

    One step that happens or not. Raises OperatorError and its kinds.
    """
    with translating_os_errors(f"keeping {directory}"), suppress(FileNotFoundError):
        paths.bases.mkdir(mode=0o700, exist_ok=True)
        directory.replace(paths.bases / str(kept_for))


def kept_bases(paths: Paths) -> Iterator[KeptBase]:
    """Every directory that is kept."""
    with suppress(FileNotFoundError):
        for directory in sorted(paths.bases.iterdir()):
            yield KeptBase(directory=directory, kept_for=uuid.UUID(directory.name))


def is_needed(paths: Paths, base: KeptBase) -> bool:
    """Whether files are still arriving where it helps."""
    return any((paths.root / "namespaces").glob(f"*/{base.kept_for}/{ARRIVAL_FILE}"))


def drop_base(paths: Paths, base: KeptBase, *, trash_name: str) -> None:
    """Throw it away: its space comes back when the trash is emptied. Raises OperatorError and its kinds."""
    with translating_os_errors(f"removing {base.directory}"), suppress(FileNotFoundError):
        paths.trash.mkdir(mode=0o700, exist_ok=True)
        base.directory.rename(paths.trash / trash_name)


class ReplacedSizes:
    """What the kept directories take. Each is measured once: nobody writes there any more."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._known: dict[uuid.UUID, int] = {}

    def bytes(self) -> int:
        """On disk, all together."""
        known = self._known
        self._known = {
            base.kept_for: known.get(base.kept_for) or _size_on_disk(base.directory)
            for base in kept_bases(self._paths)
        }
        return sum(self._known.values())


def _size_on_disk(directory: Path) -> int:
    """Bytes that a directory takes; what vanishes meanwhile is not counted."""
    total = 0
    for place, _, files in os.walk(directory):
        for name in files:
            with suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_blocks * 512
    return total


def free_bytes(paths: Paths) -> int:
    """Bytes that are free below the data directory. Raises OperatorError and its kinds."""
    with translating_os_errors("looking how much room there is"):
        return shutil.disk_usage(paths.root).free


def _is_related(incarnation: Incarnation, facts: SnapshotFacts) -> bool:
    own = {facts.lineage_id, *(entry.lineage_id for entry in facts.ancestry)}
    return not own.isdisjoint(_lineages(incarnation))


def _closeness(incarnation: Incarnation, namespace: Namespace, facts: SnapshotFacts) -> tuple[bool, bool]:
    """What is replaced is at hand and rests soon; else one that goes on from the snapshot itself."""
    return incarnation.id == namespace.incarnation_id, facts.lineage_id in _lineages(incarnation)


def _lineages(incarnation: Incarnation) -> set[uuid.UUID]:
    return {incarnation.lineage_id, *(lineage for lineage, _, _ in incarnation.ancestry)}
