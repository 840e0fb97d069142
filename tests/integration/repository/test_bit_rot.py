"""Every byte of a small repository flipped, every object removed, cut, swapped and put back as it was before.

What is damaged is found, nothing wrong is served, and the finding names what is affected. STILLFRAME_BIT_ROT=all
takes every byte; without it some of each object's, and others each day.
"""

import os
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest

from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import DataError, KeyUnavailable, StillframeError
from stillframe.repository import Finding, IndexPolicy, Level, Repository
from stillframe.repository.census import PIN_MARKS
from stillframe.repository.facts import AttributesDocument
from stillframe.repository.format import (
    ATTRIBUTES,
    CENSUS,
    CONDEMNED,
    EPOCHS,
    INDEX,
    NODES,
    PACKS,
    PINS,
    RETIRED,
    SNAPSHOTS,
    VERIFIED,
    ContentKind,
)
from stillframe.repository.index import Location
from stillframe.repository.pack import PackName, list_pack, pack_writer
from support.objectstore import MemoryObjectStore
from support.repository import BLOCK, page, read_files, restored, store_files
from support.repository_history import KEY_IDS, at_once, switched_keys
from support.repository_schedule import SwitchedKeys

pytestmark = [pytest.mark.integration, pytest.mark.timeout(0)]

ALL = os.environ.get("STILLFRAME_BIT_ROT") == "all"
DAY = datetime.now(UTC).toordinal()
WHOLE_EVERY = 20 if ALL else 400
"""Of so many flipped bytes one is looked at by a whole check and by reading all snapshots."""
SOME = 25

HARMLESS = {
    VERIFIED: "says only what need not be read again, and is not believed when it does not open",
    EPOCHS: "nobody has it open here; one that is open and cannot be read promises nothing",
    RETIRED: "nobody has the deleted document open here; while somebody has, a sweep that meets it removes nothing",
    PIN_MARKS: "only that it is there tells something, and that only while a listing leaves the pin out",
    INDEX: "a cache: what does not open, or says something else than the packs, is not used",
}
"""Objects whose damage loses nothing, whether or not it is found, and why."""
BEGUN_ANEW = {
    CONDEMNED: "the next sweep begins a new list, with a number above all that those who are open have seen",
    CENSUS: "the next sweep remembers anew what it sees",
}
"""Objects whose loss loses nothing; that they were changed is found."""


PIN_ID = uuid.UUID(int=7)


def rough(seed: int) -> bytes:
    """A page that becomes small, and is unlike any other seed's."""
    return page(seed)[:48] + bytes(BLOCK - 48)


NAMESPACE = {
    "PG_VERSION": b"18\n",
    "global/pg_control": b"control" * 300,
    "base/5/16384": b"".join(map(rough, range(40))),
    "base/5/16384_fsm": rough(100) * 2,
    "base/5/16390.1": rough(101) + bytes(BLOCK) + rough(102),
    "base/1/1259": rough(103),
    "pg_xact/0000": b"\x55" * 5000,
}
LATER = NAMESPACE | {
    "base/5/16384": b"".join(rough(number if number % 13 else number + 500) for number in range(40)),
    "base/5/16391": rough(104),
}


@dataclass(slots=True)
class Small:
    """A repository with everything in it that there can be, and what its snapshots hold."""

    keys: SwitchedKeys
    store: MemoryObjectStore
    files: dict[SnapshotId, dict[str, bytes]] = field(default_factory=dict)
    needless: frozenset[str] = frozenset()
    """Packs of the deleted snapshot alone: losing one is what a sweep does next."""
    older: dict[str, list[bytes]] = field(default_factory=dict)
    """What objects of these names have held."""

    def repository(self, store: MemoryObjectStore | None = None) -> Repository:
        """As a process that has just begun sees it."""
        policy = IndexPolicy(packs=1, rows=40)
        return Repository.create_or_open(store or self.store, self.keys, index_policy=policy)

    def with_object(self, name: str, data: bytes | None) -> MemoryObjectStore:
        """The same repository with another content of one object, or without it."""
        changed = self.store.copy()
        changed.objects.pop(name, None)
        if data is not None:
            changed.objects[name] = data
        return changed

    def note(self) -> None:
        """What is there now is older than what comes."""
        for name, data in self.store.objects.items():
            known = self.older.setdefault(name, [])
            if data not in known:
                known.append(data)


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """Two snapshots, one with a pin and one renamed; one deleted while somebody read, who then died; checked."""
    with at_once():
        small = Small(switched_keys(tmp_path_factory.mktemp("keys")), MemoryObjectStore())
        repository = small.repository()
        first = store_files(repository, NAMESPACE).snapshot_id
        small.note()
        second = store_files(repository, LATER, parent=first).snapshot_id
        gone = store_files(repository, {"base/5/9": rough(200), "PG_VERSION": b"17"}).snapshot_id
        small.files = {first: NAMESPACE, second: LATER}
        repository.pin_snapshot(second, pin_id=PIN_ID)
        present = repository.document(first).facts.attributes
        repository.replace_attributes(first, msgspec.structs.replace(present, snapshot_name="renamed"))
        small.note()
        repository.rewrap(KEY_IDS[0])
        small.note()
        repository.open_snapshot(first)
        repository.delete_snapshot(gone)
        repository.sweep()
        small.note()
        small.store.all_holders_die()
        packs = [PackName.parse(name) for name in small.store.objects if name.startswith((PACKS, NODES))]
        of_gone = (name for name in packs if pack_writer(small.store, name) == gone.bytes)
        small.needless = frozenset(map(str, of_gone))
        assert small.repository().check(level=Level.BYTES).clean
        # What a check remembers is not part of what the next one checks.
        small.note()
        yield small


def prefix_of(name: str) -> str:
    """The kind of an object."""
    if name.startswith(PIN_MARKS):
        return PIN_MARKS
    prefix, slash, _ = name.partition("/")
    return prefix + slash


def served(small: Small, damaged: MemoryObjectStore) -> int:
    """How many of the snapshots and pins cannot be read. What can be is right."""
    refused = 0
    try:
        repository = small.repository(damaged)
    except StillframeError:
        return len(small.files) + 1
    readers = [(partial(repository.open_snapshot, one), files) for one, files in small.files.items()]
    pinned = (partial(repository.open_pinned, PIN_ID), LATER)
    for opened, files in (*readers, pinned):
        try:
            with opened() as reader:
                assert read_files(reader) == files
                assert restored(reader) == files
        except StillframeError:
            refused += 1
    return refused


def findings_of(small: Small, damaged: MemoryObjectStore) -> tuple[Finding, ...]:
    """What a check finds; opening it may be refused before."""
    try:
        return small.repository(damaged).check(level=Level.BYTES).findings
    except DataError as error:
        return (Finding(problem=error.message),)


def is_harmless(small: Small, name: str, damaged: MemoryObjectStore) -> bool:
    """Whether nothing is lost by this damage, though nobody may find it."""
    lost = name not in damaged.objects
    return prefix_of(name) in HARMLESS or (lost and (name in small.needless or prefix_of(name) in BEGUN_ANEW))


def require_found(small: Small, name: str, damaged: MemoryObjectStore) -> None:
    """Damage is found, or harmless; whatever cannot be read is said to be lost."""
    refused, found = served(small, damaged), findings_of(small, damaged)
    assert found or is_harmless(small, name, damaged), name
    assert found or not refused, name
    if prefix_of(name) in HARMLESS:
        assert not refused, name


class Opening:
    """Opens one object as whoever reads it does: the quick way to see that a damage of it is noticed."""

    def __init__(self, small: Small) -> None:
        self._small = small
        self._repository = small.repository()

    def notices(self, name: str, data: bytes) -> bool:
        """Whether these bytes under this name are refused; never that they are taken for something else."""
        try:
            return self._opened(name, data) is None
        except (DataError, KeyUnavailable):
            return True

    def _opened(self, name: str, data: bytes) -> object:
        prefix = prefix_of(name)
        if prefix in {PACKS, NODES}:
            return self._pack(name, data)
        if prefix in {SNAPSHOTS, PINS}:
            return self._repository._vault.snapshot_behind(data, name=name)
        if prefix == ATTRIBUTES:
            return self._repository._vault.opened(AttributesDocument, data, name)
        raise AssertionError(f"There is no quick way to open {name}.")

    def _pack(self, name: str, data: bytes) -> object:
        parsed = PackName.parse(name)
        library, content = self._repository.content_of(parsed.key_reference)
        store = self._small.with_object(name, data)
        for content_id, place in list_pack(store, parsed, library.key, size=len(data)).entries:
            content.open(
                Location(parsed, place), content_id, data[place.offset : place.offset + place.stored]
            )
        return True


QUICK = {PACKS, NODES, SNAPSHOTS, PINS, ATTRIBUTES}


def positions(name: str, size: int) -> range:
    """All bytes of an object, or some of them, others each day."""
    stride = 1 if ALL else max(1, size // SOME)
    return range((DAY + len(name)) % stride, size, stride)


def test_a_flipped_bit_in_any_byte_of_any_object_is_found_and_nothing_wrong_is_served(small: Small) -> None:
    opening, counts = Opening(small), Counter[str]()
    for name, data in small.store.objects.items():
        for position in positions(name, len(data)):
            flipped = bytearray(data)
            flipped[position] ^= 1 << position % 8
            quick = prefix_of(name) in QUICK
            if quick:
                assert opening.notices(name, bytes(flipped)), f"byte {position} of {name}"
            if not quick or position % WHOLE_EVERY == 0:
                require_found(small, name, small.with_object(name, bytes(flipped)))
                counts["looked at as a whole"] += 1
            counts[prefix_of(name)] += 1
    sys.stdout.write(f"Flipped: {dict(counts)}\n")


def test_every_missing_cut_or_swapped_object_and_every_older_version_is_found_or_harmless(
    small: Small,
) -> None:
    counts = Counter[str]()
    for name, data in small.store.objects.items():
        same_kind = [one for one in small.store.objects if prefix_of(one) == prefix_of(name) and one != name]
        changes: dict[str, list[bytes | None]] = {
            "removed": [None],
            "cut": [b"", data[:1], data[: len(data) // 2], data[:-1]],
            "longer": [data + b"\0"],
            "swapped": [small.store.objects[one] for one in same_kind],
        }
        for how, contents in changes.items():
            for content in contents if ALL else contents[:3]:
                require_found(small, name, small.with_object(name, content))
                counts[how] += 1
        for content in small.older[name]:
            if content != data:
                # An older version was right once: nothing but what it says of itself is old.
                assert served(small, small.with_object(name, content)) == 0, name
                counts["older"] += 1
    sys.stdout.write(f"Changed: {dict(counts)}\n")
    assert counts["older"] > 0


def expected_pages(small: Small, name: str, position: int) -> set[tuple[SnapshotId, str, int, int]]:
    """Which pages of which files of which snapshots lie in the frame at a place of a pack."""
    repository, expected = small.repository(), set()
    for snapshot_id in small.files:
        with repository.open_snapshot(snapshot_id) as reader:
            for entry in reader.files():
                for extent in reader.extents(entry) if entry.is_relation else ():
                    if extent.frame is None:
                        continue
                    location = reader._content.locate(ContentKind.PAGES, extent.frame)
                    place = location.place
                    if str(location.pack) == name and place.offset <= position < place.offset + place.stored:
                        expected.add((snapshot_id, entry.path, extent.first, extent.count))
    return expected


def test_a_finding_names_snapshot_relation_and_blocks(small: Small) -> None:
    named = Counter[str]()
    for name in (one for one in small.store.objects if one.startswith(PACKS)):
        data = small.store.objects[name]
        for position in range(80, len(data), 20 if ALL else 400):
            expected = expected_pages(small, name, position)
            if not expected:
                continue
            flipped = bytearray(data)
            flipped[position] ^= 1
            found = findings_of(small, small.with_object(name, bytes(flipped)))
            about = [one for one in found if one.snapshot_id is not None]
            pages = {(one.snapshot_id, one.path, one.first_block, one.blocks) for one in about}
            assert pages == expected, f"byte {position} of {name}"
            named.update(str(one.relation) for one in about)
    assert named["database 5, relation file 16384, fork main"] > 0
    sys.stdout.write(f"Named: {dict(named)}\n")


def test_blocks_are_counted_from_the_beginning_of_the_relation_too(small: Small) -> None:
    (name, *_) = (one for one in small.store.objects if one.startswith(PACKS))
    found = findings_of(small, small.with_object(name, None))
    (segment,) = {one.relation_block for one in found if one.path == "base/5/16390.1"} - {None, (1 << 17) + 2}
    assert segment == 1 << 17
    shared = {one.path for one in found if one.relation is None and one.path is not None}
    assert "pg_xact/0000" in shared
