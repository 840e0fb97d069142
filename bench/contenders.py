"""Ours and the peers behind one face: take a copy, bring it back, both durable when they return.

Where a peer gives no such guarantee by itself, its result is synced by the same code that ours uses, and the
time for it counts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench import pgbackrest
from bench.archives import Borg, Restic
from bench.barman import Barman
from bench.native import CombineBackup, IncrementalBaseBackup, PlainBaseBackup, TarBaseBackup
from bench.ours import Engine, Service
from bench.pgbackrest import PgBackRest
from bench.programs import find_program
from bench.warehouse import Source, Warehouse


class Contender(Protocol):
    """Something that copies a running cluster and brings the copy back.

    `prepare_*` and `clean_*` are not timed. `rounds` is how many of the asked rounds it takes part in at most:
    a slow one says enough in two.
    """

    name: str
    guarantees: str
    rounds: int

    def prepare_copy(self) -> None:
        """Make room for a copy that shares nothing with an earlier one."""
        ...

    def copy(self) -> None:
        """Take the copy; durable on return."""
        ...

    def stored(self) -> int:
        """Bytes that the last copy added."""
        ...

    def prepare_return(self) -> None:
        """Make room for what comes back."""
        ...

    def bring_back(self) -> None:
        """Bring the last copy back; durable on return."""
        ...

    def clean_return(self) -> None:
        """Remove what came back."""
        ...

    def close(self) -> None:
        """Remove everything."""
        ...


class Incremental(Contender, Protocol):
    """One that can take another copy, which costs less than the first."""

    def prepare_next(self) -> None:
        """Keep what is stored: the next copy builds on it."""
        ...

    def copy_next(self) -> None:
        """Take the next copy; durable on return. `stored` counts from here."""
        ...


class Peer(Contender, Protocol):
    """One whose restore leaves a data directory that a server can be started on."""

    @property
    def returned(self) -> Path:
        """That directory."""
        ...


def contenders(house: Warehouse, source: Source) -> list[Contender]:
    """Everybody who can take a full copy on this machine, ours first."""
    return [
        Service(house, source),
        Engine(house, source),
        PlainBaseBackup(house, source),
        TarBaseBackup(house, source),
        *(kind(house, source) for kind in _installed()),
    ]


def incremental_contenders(house: Warehouse, source: Source) -> list[Incremental]:
    """Everybody who can take another copy that costs less than the first, ours first."""
    return [
        Service(house, source),
        Engine(house, source),
        IncrementalBaseBackup(house, source),
        *(kind(house, source) for kind in _installed()),
    ]


def peers(house: Warehouse, source: Source) -> list[Peer]:
    """Everybody else, to restore."""
    return [
        PlainBaseBackup(house, source),
        CombineBackup(house, source),
        *(kind(house, source) for kind in _installed()),
    ]


def absent_peers() -> list[str]:
    """A sentence for each peer that could not take part, and why."""
    missing = [
        f"{kind.name}: {lacking} not installed, left out."
        for kind in _KINDS
        if (lacking := ", ".join(_lacking(kind)))
    ]
    reason = pgbackrest.reason_of_absence()
    return missing if reason is None else [*missing, f"{PgBackRest.name}: {reason}."]


_Kind = type[Restic] | type[Borg] | type[Barman] | type[PgBackRest]
_KINDS: tuple[_Kind, ...] = (Restic, Borg, Barman)


def _lacking(kind: _Kind) -> list[str]:
    return [program for program in kind.programs if find_program(program) is None]


def _installed() -> list[_Kind]:
    found = [kind for kind in _KINDS if not _lacking(kind)]
    return [*found, PgBackRest] if pgbackrest.is_usable() else found


@contextmanager
def closing_all(everybody: Sequence[Contender]) -> Iterator[None]:
    """Remove what they stored, however the block is left."""
    try:
        yield
    finally:
        for one in everybody:
            one.close()
