"""A history of one repository in which everything happens in between everything else, and what has to hold in it.

Whatever a user was told is there has to stay: a snapshot and a pin until somebody begins to delete it, and what a
reader has opened until it closes. And when all is quiet, sweeps leave what is needed and nothing else.
"""

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

from stillframe.domain.identifiers import KmsKeyId, SnapshotId
from stillframe.errors import Conflict, KeyUnavailable, ObjectMissing, StoreUnavailable
from stillframe.objectstore import ObjectStore
from stillframe.repository import (
    IndexPolicy,
    Repository,
    SnapshotReader,
    SnapshotWriter,
    SweepPolicy,
    content,
    library,
    trailers,
)
from stillframe.repository.config import DataKeys, open_config
from stillframe.repository.format import CONDEMNED, INDEX, KEYS, NODES, PACKS, PINS, SNAPSHOTS
from stillframe.repository.library import PackLibrary
from stillframe.repository.marking import Marking
from stillframe.repository.pack import PackName, list_pack
from stillframe.repository.rows import KEY_OF_ID
from stillframe.repository.vault import Vault
from support.objectstore import Crash, MemoryObjectStore
from support.repository import BLOCK, facts
from support.repository_schedule import AtOnce, Entropy, JumpingClock, SwitchedKeys, Turn, User, UserStore

MOST_USERS = 5
NAMES = ("a", "b", "base/1", "base/2")
TEXTS = 5
IDS = 8
KEY_IDS = (KmsKeyId("AWS_OWNED_KMS_KEY"), KmsKeyId("other"))
WHOLE = SweepPolicy(thin_share=1.0)
GRADUAL = SweepPolicy(thin_share=1.0, rewrite_bytes=1)
INDEXES = IndexPolicy(packs=2, rows=40)
"""Small enough that objects are written, consolidated and full within some steps."""

Files = dict[str, bytes]


def body(path: str, text: int) -> bytes:
    """What a file may hold. Texts are few, so that snapshots meet in their content."""
    if path.startswith("base/"):
        return b"".join(bytes([text + page + 1]) * BLOCK for page in range(2))
    return bytes([text + 65]) * 1100


def files_of(snapshot_id: SnapshotId) -> Files:
    """The files that a snapshot of this id has, whoever writes it and however often."""
    rnd = random.Random(snapshot_id.int)
    return {path: body(path, rnd.randrange(TEXTS)) for path in NAMES if rnd.random() < 0.8}


def key_of(snapshot_id: SnapshotId) -> KmsKeyId:
    """The key that a snapshot of this id is under."""
    return KEY_IDS[snapshot_id.int % 5 == 0]


@contextmanager
def at_once() -> Iterator[None]:
    """What is done in threads elsewhere is done by who asked for it."""
    with (
        mock.patch.object(content, "ThreadPoolExecutor", AtOnce),
        mock.patch.object(trailers, "ThreadPoolExecutor", AtOnce),
        # Of few packs there is little to tell, and it shall be told by index objects nevertheless.
        mock.patch.object(library, "_FEW", 1),
    ):
        yield


class History:
    """Users at work, and what they were promised. Every step raises AssertionError when a promise is broken."""

    def __init__(self, keys: SwitchedKeys) -> None:
        self.store = MemoryObjectStore()
        self.users: list[User] = []
        self.steps = 0
        self.ended: dict[str, int] = {}
        """How many operations came to their end, by what they were."""
        self.keys = keys
        self.keys.disabled = set()
        self._entropy, self._clock = Entropy(), JumpingClock()
        self._config = open_config(self.store, ids=uuid.uuid4)
        self._data_keys = DataKeys(self.store, self.keys, config=self._config, entropy=self._entropy)
        self._deleted: set[SnapshotId] = set()
        self._packs = 0
        self._indexes: dict[str, bytes] = {}
        """Every index object there has ever been."""
        self._vault = Vault(self.store, self._data_keys, repository_id=self._config.id, entropy=self._entropy)

    def begin(self, name: str, work: Callable[[UserStore], object]) -> None:
        """Let another user begin, unless there are enough."""
        if len(self.users) < MOST_USERS:
            user = User(name, self.store, work)
            self.users.append(user)
            self._look_at(user)

    def step(self, index: int, turn: Turn = Turn.GO) -> None:
        """One call of one user."""
        if not self.users:
            return
        self.steps += 1
        user = self.users[index % len(self.users)]
        user.step(turn)
        if turn is Turn.DIE:
            user.kill()
        self._look_at(user)
        packs = sum(name.startswith((PACKS, NODES)) for name in self.store.objects)
        if packs < self._packs:
            self.look_at_everything()
        self._packs = packs
        self._indexes |= {name: data for name, data in self.store.objects.items() if name.startswith(INDEX)}

    def steps_of(self, turn: int) -> None:
        """What a number from 0 to 255 stands for: a user, and for how many calls it is its turn."""
        who, often = turn % MOST_USERS, (1, 1, 2, 4, 8, 20, 60, 300)[turn // MOST_USERS % 8]
        chosen = self.users[who % len(self.users)] if self.users else None
        for _ in range(often):
            if chosen is None or chosen.ended:
                return
            self.step(self.users.index(chosen))

    def quiet(self) -> None:
        """Let everybody come to an end."""
        while self.users:
            self.step(0)

    def end(self) -> None:
        """Kill whoever is left."""
        for user in self.users:
            user.kill()
        self.users.clear()

    def repository(self, store: ObjectStore | None = None) -> Repository:
        """The repository as a process of its own sees it."""
        return Repository(
            store or self.store,
            DataKeys(self.store, self.keys, config=self._config, entropy=self._entropy),
            repository_id=self._config.id,
            clock=self._clock,
            entropy=self._entropy,
            index_policy=INDEXES,
        )

    # --- what users do

    def write(self, number: int, parent: int | None, *, aborts: bool = False) -> None:
        """Take a snapshot, incremental if there is a parent; one of this id may be there, or in the making."""
        snapshot_id = SnapshotId(uuid.UUID(int=number))
        parent_id = None if parent is None else self._one_of(SNAPSHOTS, parent)
        parent_was_there = self._is_there(parent_id)

        def work(store: UserStore) -> None:
            try:
                writer = self.repository(store).begin_snapshot(
                    key_id=key_of(snapshot_id), snapshot_id=snapshot_id, parent=parent_id
                )
            except (Conflict, KeyUnavailable):
                return
            except ObjectMissing:
                assert self._may_be_missing(parent_id, was_there=parent_was_there)
                return
            with writer:
                fill(writer, files_of(snapshot_id), parent=None if parent_id is None else files_of(parent_id))
                if aborts:
                    return
                writer.commit(facts())

        if snapshot_id != parent_id and (parent_id is None or key_of(parent_id) == key_of(snapshot_id)):
            self.begin("write", work)

    def read(self, number: int, rounds: int) -> None:
        """Open a snapshot and read all of it, several times."""
        snapshot_id = self._one_of(SNAPSHOTS, number)
        was_there = self._is_there(snapshot_id)

        def work(store: UserStore) -> None:
            try:
                reader = self.repository(store).open_snapshot(snapshot_id)
            except KeyUnavailable:
                return
            except ObjectMissing:
                assert self._may_be_missing(snapshot_id, was_there=was_there)
                return
            read_again_and_again(reader, files_of(snapshot_id), rounds)

        self.begin("read", work)

    def pin(self, number: int, pin: int) -> None:
        """Pin a snapshot."""
        snapshot_id, pin_id = self._one_of(SNAPSHOTS, number), uuid.UUID(int=pin)
        was_there = self._is_there(snapshot_id)

        def work(store: UserStore) -> None:
            try:
                self.repository(store).pin_snapshot(snapshot_id, pin_id=pin_id)
            except (Conflict, KeyUnavailable):
                return
            except ObjectMissing:
                assert self._may_be_missing(snapshot_id, was_there=was_there)

        self.begin("pin", work)

    def read_pinned(self, pin: int, rounds: int) -> None:
        """Open what a pin keeps and read all of it."""
        pin_id = self._one_of(PINS, pin)

        def work(store: UserStore) -> None:
            try:
                reader = self.repository(store).open_pinned(pin_id)
            except (KeyUnavailable, ObjectMissing):
                return
            read_again_and_again(reader, files_of(reader.document.snapshot_id), rounds)

        self.begin("read_pinned", work)

    def unpin(self, pin: int) -> None:
        """Let go of a pin."""
        pin_id = self._one_of(PINS, pin)
        self.begin("unpin", lambda store: self.repository(store).unpin(pin_id))

    def delete(self, number: int) -> None:
        """Delete a snapshot, by a user or because it has expired: it is the same."""
        snapshot_id = self._one_of(SNAPSHOTS, number)
        if len(self.users) < MOST_USERS:
            self._deleted.add(snapshot_id)
        self.begin("delete", lambda store: self.repository(store).delete_snapshot(snapshot_id))

    def sweep(self, policy: SweepPolicy) -> None:
        """Collect garbage."""

        def work(store: UserStore) -> None:
            try:
                self.repository(store).sweep(policy=policy)
            except Conflict:
                return

        self.begin("sweep", work)

    def switch_key(self, number: int) -> None:
        """Disable a key, or enable it again."""
        self.keys.disabled ^= {KEY_IDS[number % len(KEY_IDS)]}

    def lose_index(self, number: int) -> None:
        """An index object is gone, however that came."""
        name = self._index_name(number)
        if name is not None:
            self.store.objects.pop(name)

    def damage_index(self, number: int) -> None:
        """An index object has another byte somewhere, or is shorter."""
        name = self._index_name(number)
        if name is not None:
            data = bytearray(self.store.objects[name])
            # Not its version: one of a later release is left alone.
            at = number * 7919 % len(data)
            data[0 if at in {8, 9} else at] ^= 1 << number % 8
            self.store.objects[name] = bytes(data[: len(data) - number % 3])

    def replay_index(self, number: int) -> None:
        """An index object that has been there once is there again, whatever became of the packs it tells of."""
        names = sorted(self._indexes)
        if names:
            name = names[number % len(names)]
            self.store.objects[name] = self._indexes[name]

    # --- what has to hold

    def look_at_everything(self) -> None:
        """Every snapshot and every pin that is there can be read."""
        disabled, self.keys.disabled = self.keys.disabled, set()
        repository = self.repository(self.store.copy())
        for name in list(self.store.objects):
            prefix, _, text = name.partition("/")
            if f"{prefix}/" == SNAPSHOTS:
                require(repository.open_snapshot(SnapshotId(uuid.UUID(text))))
            elif f"{prefix}/" == PINS:
                require(repository.open_pinned(uuid.UUID(text)))
        self.keys.disabled = disabled

    def look_for_rubbish(self) -> None:
        """After two sweeps of a quiet repository there is what is needed, once, and nothing else."""
        assert not self.users
        self.keys.disabled = set()
        for _ in range(2):
            self.repository().sweep(policy=WHOLE)
        self.look_at_everything()
        snapshots = {name.partition("/")[2] for name in self.store.objects if name.startswith(SNAPSHOTS)}
        for name in self.store.objects:
            prefix, _, rest = name.partition("/")
            assert prefix in {
                "repository.json",
                "keys",
                "packs",
                "nodes",
                "snapshots",
                "pins",
                "condemned",
                "attributes",
                "retired",
                "index",
                "census",
            }
            assert prefix != "attributes" or rest in snapshots
            # The copy of a document whose deletion was cut off between its two steps goes with the document.
            assert prefix != "retired" or rest.partition("/")[2] in self.store.objects
        assert sum(name.startswith(CONDEMNED) for name in self.store.objects) <= 1
        self._require_exactly_what_is_needed()
        self._require_a_true_index()
        planned = self.repository().sweep(dry_run=True, policy=WHOLE)
        assert (planned.packs_removed, planned.packs_condemned, planned.packs_rewritten) == (0, 0, 0)

    def _one_of(self, prefix: str, number: int) -> SnapshotId:
        """The id of one that is there; when there is none, one that may come to be there."""
        found = [name.removeprefix(prefix) for name in sorted(self.store.objects) if name.startswith(prefix)]
        return SnapshotId(uuid.UUID(found[number % len(found)]) if found else uuid.UUID(int=number))

    def _is_there(self, snapshot_id: SnapshotId | None) -> bool:
        return f"{SNAPSHOTS}{snapshot_id}" in self.store.objects

    def _may_be_missing(self, snapshot_id: SnapshotId | None, *, was_there: bool) -> bool:
        return not was_there or snapshot_id in self._deleted

    def _require_exactly_what_is_needed(self) -> None:
        marking = Marking(self.store, self._vault, self.repository())
        marking.mark()
        for reference in (name.removeprefix(KEYS) for name in self.store.objects if name.startswith(KEYS)):
            key = self._data_keys.cached(reference)
            found = [
                int.from_bytes(entry.content_id[:KEY_OF_ID], "big")
                for name, data in self.store.objects.items()
                if name.startswith((f"{PACKS}{reference}/", f"{NODES}{reference}/"))
                for entry in list_pack(self.store, PackName.parse(name), key, size=len(data)).entries
            ]
            assert sorted(found) == [int(needed) for needed in marking.needed(reference)]

    def _require_a_true_index(self) -> None:
        """Index objects say what trailers say, none is there for nothing, and most of each is of packs there are."""
        for reference in (name.removeprefix(KEYS) for name in self.store.objects if name.startswith(KEYS)):
            packs = PackLibrary(self.store, self._data_keys.cached(reference))
            packs.look()
            opened = packs.objects.opened()
            assert packs.examine().damaged == []
            assert len(opened) == len(packs.objects.names())
            untold = set(packs.sizes)
            for one in opened:
                there = [pack for pack in one.stored.packs if pack.name in untold]
                assert 2 * sum(pack.pieces for pack in there) >= one.stored.rows > 0
                untold -= {pack.name for pack in there}
            assert len(untold) < INDEXES.packs

    def _index_name(self, number: int) -> str | None:
        names = sorted(name for name in self.store.objects if name.startswith(INDEX))
        return names[number % len(names)] if names else None

    def _look_at(self, user: User) -> None:
        if not user.ended:
            return
        self.users.remove(user)
        user.kill()
        if isinstance(user.error, Crash) and user.died:
            return
        if isinstance(user.error, StoreUnavailable) and user.faulted:
            return
        if isinstance(user.error, KeyUnavailable) and self.keys.disabled:
            return
        if user.error is not None:
            raise AssertionError(f"{user.name} failed: {user.error!r}") from user.error
        self.ended[user.name] = self.ended.get(user.name, 0) + 1


def fill(writer: SnapshotWriter, files: Files, *, parent: Files | None) -> None:
    """Describe these files, each as cheaply as the parent allows."""
    for directory in ("", "base"):
        if parent is not None:
            writer.inherit_directory(directory)
        else:
            writer.add_directory(directory, mode=0o700)
    inherited = parent or {}
    for path in inherited.keys() - files.keys():
        writer.remove(path)
    for path, data in files.items():
        if inherited.get(path) != data:
            give(writer, path, data)


def give(writer: SnapshotWriter, path: str, data: bytes) -> None:
    """Write one file."""
    if path.startswith("base/"):
        relation = writer.relation(path, mode=0o600, blocks=len(data) // BLOCK)
        relation.write_run(0, data)
        relation.close()
    else:
        file = writer.file(path, mode=0o600)
        file.write(data)
        file.close()


def read_again_and_again(reader: SnapshotReader, files: Files, rounds: int) -> None:
    """Read everything; what was read before is not taken from memory."""
    with reader:
        for _ in range(rounds):
            assert {entry.path: reader.read_file(entry, 0, entry.size) for entry in reader.files()} == files
            reader._content._cache = type(reader._content._cache)(0)


def require(reader: SnapshotReader) -> None:
    """The snapshot's files are what they have to be."""
    with reader:
        found = {entry.path: reader.read_file(entry, 0, entry.size) for entry in reader.files()}
        assert found == files_of(reader.document.snapshot_id), reader.document.snapshot_id


def switched_keys(directory: Path) -> SwitchedKeys:
    """The keys that snapshots of a history are under."""
    keys = SwitchedKeys(directory)
    for key_id in KEY_IDS:
        keys.ensure_key(key_id)
    return keys


@contextmanager
def history(keys: SwitchedKeys) -> Iterator[History]:
    """A history whose users are gone at its end. Many may have the same keys, one after the other."""
    with ExitStack() as ending:
        ending.enter_context(at_once())
        made = History(keys)
        ending.callback(made.end)
        yield made


def wander(made: History, seed: int) -> None:
    """A history by chance alone: the same one for the same seed."""
    rnd = random.Random(seed)
    begin: list[Callable[[], None]] = [
        lambda: made.write(rnd.randint(1, IDS), None, aborts=rnd.random() < 0.2),
        lambda: made.write(rnd.randint(1, IDS), rnd.randint(1, IDS), aborts=rnd.random() < 0.2),
        lambda: made.read(rnd.randint(1, IDS), 2),
        lambda: made.pin(rnd.randint(1, IDS), rnd.randint(1, 4)),
        lambda: made.unpin(rnd.randint(1, IDS)),
        lambda: made.read_pinned(rnd.randint(1, 4), 2),
        lambda: made.delete(rnd.randint(1, IDS)),
        *(partial(made.sweep, policy) for policy in (SweepPolicy(), WHOLE, GRADUAL)),
    ]
    befall = (made.lose_index, made.damage_index, made.replay_index)
    for _ in range(120):
        rnd.choice(begin)()
        for _ in range(rnd.choice([0, 0, 1, 1, 2, 4])):
            made.steps_of(rnd.randrange(256))
        if rnd.random() < 0.2:
            made.step(rnd.randrange(MOST_USERS), rnd.choice([Turn.FAIL, Turn.LOSE_REPLY, Turn.DIE]))
        if rnd.random() < 0.1:
            rnd.choice(befall)(rnd.randrange(1000))
        if rnd.random() < 0.03:
            made.switch_key(rnd.randrange(2))
    made.quiet()
    made.look_for_rubbish()
