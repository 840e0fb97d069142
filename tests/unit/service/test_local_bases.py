"""Which directories on this machine a restore takes pages from, and how long they are kept."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stillframe.config import Paths, Settings
from stillframe.domain.identifiers import IncarnationId, LineageId, NamespaceId
from stillframe.domain.namespace import Incarnation
from stillframe.postgres.cluster import ARRIVAL_FILE
from stillframe.service import hydrations
from stillframe.service.hydrations import Hydrations
from stillframe.service.local_bases import (
    BaseNote,
    ReplacedSizes,
    drop_base,
    find_bases,
    is_needed,
    keep_base,
    kept_bases,
    note_of,
    places_of_base,
)
from support.repository import facts

pytestmark = pytest.mark.unit

_NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
_OF_SNAPSHOT = facts().lineage_id
_BEFORE = facts().ancestry[0].lineage_id


@dataclass
class Rows:
    """All rows of a table."""

    rows: Sequence[Any]

    def list(self) -> Sequence[Any]:
        """Every one of them."""
        return self.rows


@dataclass
class Current:
    """A namespace, as far as it matters here."""

    id: NamespaceId
    incarnation_id: IncarnationId | None


@dataclass
class Catalog:
    """What a transaction shows of it."""

    namespaces: Rows
    incarnations: Rows


def incarnation(lineage: uuid.UUID, *, ancestry: tuple[uuid.UUID, ...] = (), age: int = 0) -> Incarnation:
    """One that was made so many hours before noon."""
    return Incarnation(
        id=IncarnationId(uuid.uuid4()),
        namespace_id=NamespaceId(uuid.uuid4()),
        lineage_id=LineageId(lineage),
        created_at=_NOON - timedelta(hours=age),
        ancestry=tuple((one, 1, 100) for one in ancestry),
    )


def found(replaced: Incarnation, *others: Incarnation, left: Sequence[Incarnation] = ()) -> list[Incarnation]:
    """The bases for a restore that replaces the first; those `left` are nobody's current ones."""
    current = [Current(one.namespace_id, one.id) for one in (replaced, *others)]
    catalog: Any = Catalog(Rows(current), Rows([*others, replaced, *left]))
    namespace: Any = current[0]
    return find_bases(catalog, namespace, facts())


def test_the_databases_that_are_replaced_come_first() -> None:
    replaced, other = incarnation(_OF_SNAPSHOT, age=5), incarnation(_OF_SNAPSHOT)
    assert found(replaced, other) == [replaced, other]


def test_databases_that_were_restored_from_the_snapshot_s_are_related_too() -> None:
    unrelated = incarnation(uuid.uuid4())
    clone = incarnation(uuid.uuid4(), ancestry=(_BEFORE, _OF_SNAPSHOT))
    sibling = incarnation(_BEFORE)
    assert found(unrelated, sibling, clone) == [clone, sibling]


def test_of_equals_the_newer_one_is_better() -> None:
    old, new = incarnation(_OF_SNAPSHOT, age=2), incarnation(_OF_SNAPSHOT, age=1)
    assert found(incarnation(uuid.uuid4()), old, new) == [new, old]


def test_what_is_nobody_s_current_directory_is_no_base() -> None:
    assert found(incarnation(uuid.uuid4()), left=[incarnation(_OF_SNAPSHOT)]) == []


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(root=tmp_path)


@pytest.fixture
def note() -> BaseNote:
    return note_of(incarnation(_OF_SNAPSHOT))


def arriving(paths: Paths, name: uuid.UUID) -> Path:
    """A directory whose files are arriving; its note of that."""
    directory = paths.namespace(uuid.uuid4()) / str(name)
    directory.mkdir(parents=True)
    (directory / ARRIVAL_FILE).write_bytes(b"note")
    return directory / ARRIVAL_FILE


def test_a_replaced_directory_is_kept_where_it_is_looked_for(paths: Paths, note: BaseNote) -> None:
    kept_for = uuid.uuid4()
    first, later = places_of_base(paths, note, kept_for=kept_for)
    first.mkdir(parents=True)
    (first / "file").write_bytes(b"x" * 5000)
    keep_base(paths, first, kept_for=kept_for)
    assert not first.exists()
    assert (later / "file").stat().st_size == 5000
    # Once more, as after a crash.
    keep_base(paths, first, kept_for=kept_for)
    assert ReplacedSizes(paths).bytes() >= 5000
    (kept,) = kept_bases(paths)
    assert (kept.directory, kept.kept_for) == (later, kept_for)


def test_it_is_needed_for_as_long_as_files_arrive(paths: Paths, note: BaseNote) -> None:
    kept_for = uuid.uuid4()
    first, _ = places_of_base(paths, note, kept_for=kept_for)
    first.mkdir(parents=True)
    keep_base(paths, first, kept_for=kept_for)
    (kept,) = kept_bases(paths)
    arrival = arriving(paths, kept_for)
    assert is_needed(paths, kept)
    arrival.unlink()
    assert not is_needed(paths, kept)
    drop_base(paths, kept, trash_name="gone")
    drop_base(paths, kept, trash_name="gone again")
    assert list(kept_bases(paths)) == []
    assert (paths.trash / "gone").is_dir()


@pytest.mark.parametrize("short", [False, True])
def test_it_goes_earlier_only_when_the_disk_is_short(
    paths: Paths, note: BaseNote, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    kept_for = uuid.uuid4()
    first, later = places_of_base(paths, note, kept_for=kept_for)
    first.mkdir(parents=True)
    keep_base(paths, first, kept_for=kept_for)
    arriving(paths, kept_for)
    monkeypatch.setattr(hydrations, "free_bytes", lambda _: 1000 if short else 10**12)
    monkeypatch.setattr(Hydrations, "_arriving", lambda _: iter(()))
    nothing: Any = None
    base: Any = Foundation(settings=Settings(data=paths.root))
    Hydrations(base, nothing, nothing, nothing).watch()
    assert later.exists() is not short


@dataclass
class Foundation:
    """As much of it as is asked for."""

    settings: Settings

    def new_id(self) -> uuid.UUID:
        """A fresh one."""
        return uuid.uuid4()


def test_an_incarnation_says_no_more_than_who_it_is(note: BaseNote) -> None:
    one = incarnation(_OF_SNAPSHOT)
    assert note_of(one) == note_of(replace(one, created_at=_NOON)) != note
