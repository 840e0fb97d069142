"""Histories of one repository on a simulated disk, cut off by kills and losses of power, and what has to hold then.

What a user was told is there has to be there, whole; what is under way is there whole or not at all; doing again
what was cut off ends where it would have ended; and two sweeps then leave what is needed and nothing else.
"""

import hashlib
import random
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from stillframe.domain.identifiers import KmsKeyId, SnapshotId
from stillframe.errors import Conflict
from stillframe.objectstore import LocalObjectStore, ObjectStore
from stillframe.repository import Level, Repository, SweepPolicy
from stillframe.repository.census import PIN_MARKS
from stillframe.repository.format import ATTRIBUTES, CONDEMNED, EPOCHS, KEYS, NODES, PACKS, RETIRED
from stillframe.repository.marking import Marking
from stillframe.repository.pack import PackName, list_pack
from stillframe.repository.rows import KEY_OF_ID
from support.objectstore import Crash, MemoryObjectStore
from support.repository import facts, read_files, restored
from support.repository_history import (
    GRADUAL,
    INDEXES,
    KEY_IDS,
    NAMES,
    TEXTS,
    WHOLE,
    Files,
    at_once,
    body,
    fill,
)
from support.repository_schedule import SwitchedKeys
from support.store_disk import MOUNT, Disk, Kernel, running

ROOT = MOUNT / "data" / "repository"

Allowed = frozenset[object]
"""What may be found; None stands for nothing."""


@dataclass(slots=True)
class Promises:
    """What may be found of each snapshot, each pin, and the name in each snapshot's attributes."""

    snapshots: dict[SnapshotId, Allowed] = field(default_factory=dict)
    pins: dict[uuid.UUID, Allowed] = field(default_factory=dict)
    names: dict[SnapshotId, Allowed] = field(default_factory=dict)
    files: dict[SnapshotId, Files] = field(default_factory=dict)

    def copy(self) -> "Promises":
        """The same, to be changed."""
        return Promises(dict(self.snapshots), dict(self.pins), dict(self.names), self.files)

    def certain(self) -> list[SnapshotId]:
        """The snapshots that are there."""
        return [one for one, allowed in self.snapshots.items() if None not in allowed]


@dataclass(frozen=True, slots=True)
class Operation:
    """Something one process does; `expect` changes what may be found, by `done` to what must be."""

    what: str
    run: Callable[[Repository], None]
    expect: Callable[[Promises, bool], None] = lambda _promises, _done: None


class Setting:
    """Keys, chance and the ways to a repository."""

    def __init__(self, keys: SwitchedKeys, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.keys = keys
        self._entropy = random.Random(seed + 1)

    def repository(self, store: ObjectStore | None = None) -> Repository:
        """As a process that has just begun sees it: in this store, or on the simulated disk."""
        return Repository.create_or_open(
            LocalObjectStore(ROOT) if store is None else store,
            self.keys,
            ids=self._random_id,
            entropy=self._entropy.randbytes,
            index_policy=INDEXES,
        )

    def run(self, operation: Operation, kernel: Kernel) -> bool:
        """Whether it came to its end; a kill is none."""
        with running(kernel), at_once():
            try:
                operation.run(self.repository())
            except Crash:
                return False
        return True

    def run_on(self, operation: Operation, store: ObjectStore) -> None:
        """Raises what the operation raises."""
        with at_once():
            operation.run(self.repository(store))

    def look_at(self, store: ObjectStore, promises: Promises) -> Promises:
        """What may be found in a store from now on: what is."""
        with at_once():
            return look(self.repository(store), promises)

    def verify_in(
        self, store: ObjectStore, promises: Promises, unfinished: Operation | None, *, done: bool = False
    ) -> Promises:
        """All that has to hold of a store, which is changed by it. What was seen at first is returned."""
        with at_once():
            return verified(self, store, promises, None if done else unfinished)

    def operation(self, promises: Promises) -> Operation:
        """Another one, by chance."""
        there = promises.certain()
        makers: list[Callable[[], Operation]] = [self._capture_of(promises, None), self._sweep, self._check]
        if there:
            one = self.rnd.choice(there)
            pinned = [pin for pin, allowed in promises.pins.items() if allowed != {None}]
            makers += [
                *[self._capture_of(promises, self.rnd.choice(there)) for _ in range(3)],
                self._capture_of(promises, one, aborts=True),
                *[lambda: delete(one)] * 2,
                lambda: pin(one, self._random_id()),
                lambda: rename(one, f"name {self.rnd.random()}"),
                *[self._sweep] * 3,
                self._rewrap,
                *([lambda: unpin(self.rnd.choice(pinned))] * 2 if pinned else []),
            ]
        return self.rnd.choice(makers)()

    def _capture_of(
        self, promises: Promises, parent: SnapshotId | None, *, aborts: bool = False
    ) -> Callable[[], Operation]:
        return lambda: self._capture(promises, parent, aborts=aborts)

    def _capture(self, promises: Promises, parent: SnapshotId | None, *, aborts: bool) -> Operation:
        snapshot_id = SnapshotId(self._random_id())
        # The last digit of an id says which key it is under, and a child is under its parent's.
        last = self.rnd.random() < 0.25 if parent is None else parent.int % 2
        snapshot_id = SnapshotId(uuid.UUID(int=snapshot_id.int - snapshot_id.int % 2 + last))
        files = {path: body(path, self.rnd.randrange(TEXTS)) for path in NAMES if self.rnd.random() < 0.8}
        if self.rnd.random() < 0.4:
            files["unlike others"] = self.rnd.randbytes(3000)
        promises.files[snapshot_id] = files
        inherited = None if parent is None else promises.files[parent]
        return capture(snapshot_id, files, parent=parent, inherited=inherited, aborts=aborts)

    def _sweep(self) -> Operation:
        policy = self.rnd.choice([SweepPolicy(), WHOLE, GRADUAL])
        return Operation("sweep", lambda repository: ignore(repository.sweep(policy=policy)))

    def _check(self) -> Operation:
        return Operation("check", lambda repository: ignore(repository.check(level=Level.BYTES)))

    def _rewrap(self) -> Operation:
        key_id = self.rnd.choice(KEY_IDS)
        return Operation("rewrap", lambda repository: ignore(repository.rewrap(key_id)))

    def _random_id(self) -> uuid.UUID:
        return uuid.UUID(int=self.rnd.getrandbits(128))


def ignore(_: object) -> None:
    """What was done counts, not what was said of it."""


def key_of(snapshot_id: SnapshotId) -> KmsKeyId:
    """The key that a snapshot is under."""
    return KEY_IDS[snapshot_id.int % 2]


def capture(
    snapshot_id: SnapshotId, files: Files, *, parent: SnapshotId | None, inherited: Files | None, aborts: bool
) -> Operation:
    """Take a snapshot; doing it again finds it, or makes it without the parent if that is gone."""

    def run(repository: Repository) -> None:
        known = parent if parent in set(repository.snapshot_ids()) else None
        try:
            writer = repository.begin_snapshot(
                key_id=key_of(snapshot_id), snapshot_id=snapshot_id, parent=known
            )
        except Conflict:
            return
        with writer:
            fill(writer, files, parent=None if known is None else inherited)
            if not aborts:
                writer.commit(facts())

    def expect(promises: Promises, done: bool) -> None:
        if aborts:
            return
        promises.snapshots[snapshot_id] = frozenset({True} if done else {None, True})
        promises.names[snapshot_id] = frozenset({"nightly"})

    return Operation("aborted capture" if aborts else "capture", run, expect)


def delete(snapshot_id: SnapshotId) -> Operation:
    """Delete a snapshot, by a user or because it has expired: it is the same."""

    def expect(promises: Promises, done: bool) -> None:
        known = promises.snapshots[snapshot_id]
        promises.snapshots[snapshot_id] = frozenset({None} if done else known | {None})

    return Operation("delete", lambda repository: repository.delete_snapshot(snapshot_id), expect)


def pin(snapshot_id: SnapshotId, pin_id: uuid.UUID) -> Operation:
    """Pin a snapshot."""

    def run(repository: Repository) -> None:
        if snapshot_id in set(repository.snapshot_ids()):
            repository.pin_snapshot(snapshot_id, pin_id=pin_id)

    def expect(promises: Promises, done: bool) -> None:
        promises.pins[pin_id] = frozenset({snapshot_id} if done else {None, snapshot_id})

    return Operation("pin", run, expect)


def unpin(pin_id: uuid.UUID) -> Operation:
    """Let go of a pin."""

    def expect(promises: Promises, done: bool) -> None:
        promises.pins[pin_id] = frozenset({None} if done else promises.pins[pin_id] | {None})

    return Operation("unpin", lambda repository: repository.unpin(pin_id), expect)


def rename(snapshot_id: SnapshotId, name: str) -> Operation:
    """Change what the API shows of a snapshot."""

    def run(repository: Repository) -> None:
        if snapshot_id not in set(repository.snapshot_ids()):
            return
        present = repository.document(snapshot_id).facts.attributes
        repository.replace_attributes(snapshot_id, msgspec.structs.replace(present, snapshot_name=name))

    def expect(promises: Promises, done: bool) -> None:
        known = promises.names[snapshot_id]
        promises.names[snapshot_id] = frozenset({name} if done else known | {name})

    return Operation("rename", run, expect)


# --- what has to hold


def look(repository: Repository, promises: Promises) -> Promises:
    """Read everything that is visible. Returns what may be found from now on: what was."""
    found = promises.copy()
    visible = set(repository.snapshot_ids())
    assert visible <= promises.snapshots.keys(), "a snapshot that nobody made"
    for snapshot_id, allowed in promises.snapshots.items():
        here = True if snapshot_id in visible else None
        assert here in allowed, f"the snapshot {snapshot_id} is {here}, not one of {allowed}"
        found.snapshots[snapshot_id] = frozenset({here})
        if here:
            found.names[snapshot_id] = frozenset({read_snapshot(repository, snapshot_id, promises)})
    pins = set(repository.pin_ids())
    assert pins <= promises.pins.keys(), "a pin that nobody made"
    for pin_id, allowed in promises.pins.items():
        if pin_id in pins:
            with repository.open_pinned(pin_id) as reader:
                snapshot_id = reader.document.snapshot_id
                assert snapshot_id in allowed
                assert read_files(reader) == promises.files[snapshot_id]
            found.pins[pin_id] = frozenset({snapshot_id})
        else:
            assert None in allowed, f"the pin {pin_id} is gone"
            found.pins[pin_id] = frozenset({None})
    return found


def read_snapshot(repository: Repository, snapshot_id: SnapshotId, promises: Promises) -> str:
    """See that it is whole; the name in its attributes."""
    with repository.open_snapshot(snapshot_id) as reader:
        assert read_files(reader) == promises.files[snapshot_id]
        assert restored(reader) == promises.files[snapshot_id]
    name = repository.document(snapshot_id).facts.attributes.snapshot_name
    assert name in promises.names[snapshot_id]
    return name


def verify(setting: Setting, disk: Disk, promises: Promises, unfinished: Operation | None) -> Promises:
    """All that has to hold of a disk, which is changed by it. What was seen at first is returned."""
    with running(Kernel(disk)), at_once():
        return verified(setting, LocalObjectStore(ROOT), promises, unfinished)


def visible_objects(disk: Disk) -> dict[str, bytes]:
    """What the store shows of a disk to a process that has just begun."""
    with running(Kernel(disk)):
        store = LocalObjectStore(ROOT)
        assert not list((ROOT / ".tmp").iterdir()), "something was left aside"
        return {one.name: store.get(one.name) for one in store.list("")}


def in_memory(objects: dict[str, bytes]) -> MemoryObjectStore:
    """The same objects in a store without a disk, where looking at them is quicker."""
    store = MemoryObjectStore()
    store.objects = dict(objects)
    return store


def verified(
    setting: Setting, store: ObjectStore, promises: Promises, unfinished: Operation | None
) -> Promises:
    """All that has to hold: what is visible, doing again what is unfinished, and what sweeps leave."""
    repository = setting.repository(store)
    found = look(repository, promises)
    report = repository.check(level=Level.BYTES)
    assert report.clean, report.findings
    expected = found.copy()
    if unfinished is not None:
        unfinished.run(setting.repository(store))
        unfinished.expect(expected, True)
        if unfinished.what == "rename":
            expected.names = promises.names | expected.names
    for _ in range(2):
        setting.repository(store).sweep(policy=WHOLE)
    repository = setting.repository(store)
    look(repository, expected)
    require_nothing_else(repository, store)
    return found


def require_nothing_else(repository: Repository, store: ObjectStore) -> None:
    """What is stored is what is needed, once; nothing that somebody who died has left is there."""
    names = [one.name for one in store.list("")]
    snapshots = {str(one) for one in repository.snapshot_ids()}
    assert not [name for name in names if name.startswith(EPOCHS)]
    assert {name.removeprefix(ATTRIBUTES) for name in names if name.startswith(ATTRIBUTES)} == snapshots
    marks = {name.removeprefix(PIN_MARKS) for name in names if name.startswith(PIN_MARKS)}
    assert marks == {str(one) for one in repository.pin_ids()}
    assert sum(name.startswith(CONDEMNED) for name in names) <= 1
    retired = [name.removeprefix(RETIRED).partition("/")[2] for name in names if name.startswith(RETIRED)]
    assert set(retired) <= set(names)
    marking = Marking(store, repository._vault, repository)
    marking.mark()
    for reference in (name.removeprefix(KEYS) for name in names if name.startswith(KEYS)):
        key = repository._keys.cached(reference)
        stored = [
            int.from_bytes(entry.content_id[:KEY_OF_ID], "big")
            for name in names
            if name.startswith((f"{PACKS}{reference}/", f"{NODES}{reference}/"))
            for entry in list_pack(store, PackName.parse(name), key, size=store.size(name)).entries
        ]
        assert sorted(stored) == [int(needed) for needed in marking.needed(reference)]


# --- histories


_ON_DISK = 0.04
"""The share of states of which everything is looked at on the simulated disk itself."""
LOCKS = frozenset({".claims"})
ASIDE = frozenset({".claims", ".tmp"})


@dataclass(slots=True)
class Counts:
    """What was tried: by operation and change; states of a disk, all and without the files aside."""

    tried: Counter[str] = field(default_factory=Counter)
    states: set[bytes] = field(default_factory=set)
    visible: set[bytes] = field(default_factory=set)

    def __str__(self) -> str:
        by_operation = Counter[str]()
        for what, count in self.tried.items():
            by_operation[what.partition(":")[0]] += count
        states = f", {len(self.states)} states ({len(self.visible)} without the files aside)" * bool(
            self.states
        )
        return f"{self.tried.total()} cuts{states}: {dict(by_operation.most_common())}"


@dataclass(slots=True)
class Trial:
    """One history: a disk as a running system sees it, and what its users may rely on."""

    setting: Setting
    counts: Counts
    forgets: str = ""
    disk: Disk = field(default_factory=Disk)
    promises: Promises = field(default_factory=Promises)
    _looked_at: set[bytes] = field(default_factory=set)
    """Objects that everything was looked at of since the promises last changed; what lies aside is no part of it."""

    def kill_at_every_change(self, operations: int, *, enough: int) -> None:
        """So many operations, each killed at each of its changes, and looked at after each; none after `enough`."""
        for _ in range(operations):
            if self.counts.tried.total() >= enough:
                return
            operation = self.setting.operation(self.promises)
            changes: list[str] = []
            whole = self.disk.clone()
            assert self.setting.run(operation, Kernel(whole, after=changes.append))
            self._expect(operation, done=False)
            killed: list[Disk] = []
            for position, change in enumerate(changes):
                for torn in (False, True) if change == "write" else (False,):
                    killed.append(self._killed(operation, position, torn=torn))
                    self._look_at_killed(killed[-1].clone(), operation)
                    self.counts.tried[f"{operation.what}: {change}"] += 1
            self._go_on(operation, whole, killed)

    def lose_power_at_every_change(self, operations: int, *, samples: int, enough: int) -> None:
        """So many operations, with losses of power after each of their changes; none after `enough` states.

        Some operations are killed on the way, and then done again or not, before the power is lost.
        """
        for _ in range(operations):
            if len(self.counts.states) >= enough:
                return
            operation = self.setting.operation(self.promises)
            self._expect(operation, done=False)
            if self.setting.rnd.random() < 0.5:
                position = self.setting.rnd.randrange(len(self._changes_of(operation)) + 1)
                self._run_with_losses(operation, samples, die_at=position)
                if self.setting.rnd.random() < 0.3:
                    continue
            self._run_with_losses(operation, samples, die_at=None)
            self._expect(operation, done=True)
            self._lose(self.disk, None, f"{operation.what}: done", 2 * samples)

    def kill_do_and_lose_power(self, killed: Operation, done: Operation, *, samples: int) -> None:
        """One operation is killed at each of its changes, one comes to its end, and then the power is lost."""
        self._expect(killed, done=False)
        for position in range(len(self._changes_of(killed))):
            disk = self._killed(killed, position, torn=False)
            promises = self.promises.copy()
            assert self.setting.run(done, Kernel(disk))
            done.expect(promises, True)
            for _ in range(samples):
                objects = visible_objects(disk.after_power_loss(self.setting.rnd))
                self.setting.look_at(in_memory(objects), promises)
            self.counts.tried[f"{killed.what}, {done.what}"] += samples

    def do(self, operation: Operation) -> None:
        """An operation that comes to its end."""
        assert self.setting.run(operation, Kernel(self.disk))
        self._expect(operation, done=True)

    def _changes_of(self, operation: Operation) -> list[str]:
        """What it would change."""
        changes: list[str] = []
        assert self.setting.run(operation, Kernel(self.disk.clone(), after=changes.append))
        return changes

    def _run_with_losses(self, operation: Operation, samples: int, *, die_at: int | None) -> None:
        seen: list[tuple[Disk, str]] = []

        def after(change: str) -> None:
            seen.append((self.disk.clone(), change))

        self.setting.run(operation, Kernel(self.disk, die_at=die_at, forgets=self.forgets, after=after))
        for disk, change in seen:
            self._lose(disk, operation, f"{operation.what}: {change}", samples)

    def _lose(self, disk: Disk, unfinished: Operation | None, what: str, samples: int) -> None:
        for _ in range(samples):
            lost = disk.after_power_loss(self.setting.rnd)
            state = lost.digest(without=LOCKS)
            if state not in self.counts.states or unfinished is None:
                self.counts.states.add(state)
                self.counts.visible.add(lost.digest(without=ASIDE))
                self.counts.tried[what] += 1
                self._look_at_lost(lost, unfinished)

    def _look_at_lost(self, disk: Disk, unfinished: Operation | None) -> None:
        """All that has to hold; of objects that were looked at before only that these are the same."""
        if self.setting.rnd.random() < _ON_DISK:
            verify(self.setting, disk, self.promises, unfinished)
            return
        objects = visible_objects(disk)
        if self._is_news(objects):
            self.setting.verify_in(in_memory(objects), self.promises, unfinished)

    def _look_at_killed(self, disk: Disk, operation: Operation) -> None:
        """All that has to hold; of objects that were looked at before only that doing it again makes the same."""
        objects = visible_objects(disk.clone())
        if self._is_news(objects) or self.setting.rnd.random() < _ON_DISK:
            verify(self.setting, disk, self.promises, operation)
            return
        expected = self.promises.copy()
        assert self.setting.run(operation, Kernel(disk))
        operation.expect(expected, True)
        self.setting.look_at(in_memory(visible_objects(disk)), expected)

    def _is_news(self, objects: dict[str, bytes]) -> bool:
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(objects):
            digest.update(hashlib.blake2b(name.encode() + b"\0" + objects[name]).digest())
        news = digest.digest() not in self._looked_at
        self._looked_at.add(digest.digest())
        return news

    def _killed(self, operation: Operation, position: int, *, torn: bool) -> Disk:
        disk = self.disk.clone()
        assert not self.setting.run(operation, Kernel(disk, die_at=position, torn=torn)), operation.what
        return disk

    def _go_on(self, operation: Operation, whole: Disk, killed: list[Disk]) -> None:
        """With what the operation has made, or with what it had when it was killed somewhere."""
        if killed and self.setting.rnd.random() < 0.4:
            self.disk = self.setting.rnd.choice(killed)
            with running(Kernel(self.disk)):
                self.promises = look(self.setting.repository(), self.promises)
        else:
            self.disk = whole
            self._expect(operation, done=True)

    def _expect(self, operation: Operation, *, done: bool) -> None:
        operation.expect(self.promises, done)
        self._looked_at.clear()
