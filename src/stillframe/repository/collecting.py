"""Removing what nothing needs, beside writers and readers that never wait for it.

docs/spec/repository-v1.md, section 8, has the rules and why they are enough. In short: a pack that nothing needs
is *condemned* first, in a durable list that everybody reads who begins afterwards and who then does not rely on it. It
is *doomed*, in a later list, only when everybody has ended who began before the first one, and when what they left
behind does not need it; else it is taken off the list. Only doomed packs are deleted.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np

from stillframe.errors import Conflict, DataError, ObjectMissing
from stillframe.objectstore import ObjectStore
from stillframe.repository.census import remove_lost_pin_marks
from stillframe.repository.condemned import (
    CondemnedList,
    CondemnedPack,
    create_list,
    newest_list,
    remove_older,
)
from stillframe.repository.epochs import epoch_claim, open_epochs, remove_dead_epochs
from stillframe.repository.format import ATTRIBUTES, COLLECTOR_CLAIM, SNAPSHOTS
from stillframe.repository.index import PackUse
from stillframe.repository.library import exists, present_packs
from stillframe.repository.marking import Contents, Marking
from stillframe.repository.pack import PackName, pack_writer
from stillframe.repository.retired import is_gone, original_name, retired_names
from stillframe.repository.rewriting import Rewriter, Rewritten, batches
from stillframe.repository.rows import Keys, key_of
from stillframe.repository.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPolicy:
    """When a pack is rewritten: when less than this share of it is needed. `rewrite_bytes`: most to copy in a run."""

    thin_share: float = 0.5
    rewrite_bytes: int = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What a sweep did, or would do. Lengths in bytes."""

    packs_removed: int
    bytes_removed: int
    packs_kept: int
    bytes_kept: int
    packs_condemned: int = 0
    """Of those kept: condemned, and waiting for those who may rely on them to end."""
    bytes_condemned: int = 0
    packs_rewritten: int = 0
    """Packs of which little was needed, that was stored elsewhere."""
    bytes_rewritten: int = 0
    leftovers_removed: int = 0
    """Announcements of those who died, attributes without a snapshot, and marks without a pin."""


@dataclass(slots=True)
class _Counts:
    """What a sweep has done so far: the lengths of packs that it removed, rewrote and stored."""

    removed: dict[str, int] = field(default_factory=dict)
    rewritten: int = 0
    stored: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """Packs that nothing needs, and those of which too little is needed, with the bytes to be copied."""

    dead: list[PackName]
    thin: list[tuple[PackName, int]]


class Sweep:
    """One sweep. `entropy` gives that many random bytes."""

    def __init__(
        self,
        store: ObjectStore,
        vault: Vault,
        contents: Contents,
        *,
        policy: SweepPolicy,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._policy = policy
        self._entropy = entropy
        self._contents = contents
        self._marking = Marking(store, vault, contents)
        self._number = 0
        self._list = CondemnedList()
        self._readable = True
        self._counts = _Counts()

    def run(self) -> SweepReport:
        """Do all that can be done without waiting for anybody.

        Raises Conflict while another sweep runs, and, without having removed anything that was not doomed before,
        whatever keeps it from knowing what is needed.
        """
        try:
            claim = self._store.claim(COLLECTOR_CLAIM)
        except Conflict:
            raise Conflict("Another sweep is under way.") from None
        with claim:
            self._load()
            self._renew()
            self._delete_doomed()
            self._retire()
            present = self._condemn()
            self._doom()
            self._delete_doomed()
            self._marking.remember()
            leftovers = remove_dead_epochs(self._store, dry_run=False)
            leftovers += remove_lost_attributes(self._store, dry_run=False)
            leftovers += remove_lost_pin_marks(self._store, dry_run=False)
            self._contents.keep_index(self._marking.libraries)
        return self._report(present, leftovers)

    def plan(self) -> SweepReport:
        """What `run` would do, without changing anything."""
        self._load()
        epochs = open_epochs(self._store)
        present = present_packs(self._store)
        self._marking.mark(with_retired=bool(epochs))
        verdict = self._verdict(present, epochs.keys())
        removable = {name for name in self._list.condemned if self._is_unneeded(name)}
        removable |= {*self._list.doomed, *(str(name) for name in verdict.dead)}
        if epochs:
            removable &= {*self._ripe(epochs), *self._list.doomed}
        self._counts.removed = {str(name): size for name, size in present.items() if str(name) in removable}
        self._counts.rewritten = len(list(batches(verdict.thin, self._policy.rewrite_bytes)))
        leftovers = remove_dead_epochs(self._store, dry_run=True)
        leftovers += remove_lost_attributes(self._store, dry_run=True)
        leftovers += remove_lost_pin_marks(self._store, dry_run=True)
        return self._report(present, leftovers)

    def _load(self) -> None:
        self._number, found = newest_list(self._store)
        promised = max(open_epochs(self._store).values(), default=0)
        if promised > self._number:
            # Somebody has read a list that is lost, so its number must not come again for another one.
            self._number, found = promised, None
        self._readable = found is not None
        self._list = found or CondemnedList()

    def _renew(self) -> None:
        """A list that cannot be read is begun anew: what was on it is found again, and nobody is deleting."""
        if not self._readable:
            self._advance(sweep="")
        # Of a sweep that died before it could.
        remove_older(self._store, self._number)

    def _advance(self, **changes: object) -> None:
        """Write down a step, by the next list; nothing when it changes nothing."""
        following = msgspec.structs.replace(self._list, **changes)
        if following == self._list and self._readable:
            return
        following = msgspec.structs.replace(following, sweep=self._entropy(16).hex())
        create_list(self._store, self._number + 1, following)
        self._number, self._list, self._readable = self._number + 1, following, True

    def _delete_doomed(self) -> None:
        for name in self._list.doomed:
            with contextlib.suppress(ObjectMissing):
                self._counts.removed[name] = self._store.size(name)
            self._store.delete(name)
        self._advance(doomed=[])

    def _retire(self) -> None:
        """Let go of deleted documents that nobody can have open: all that began before the deletion have ended."""
        copies = set(retired_names(self._store))
        known = {name: since for name, since in self._list.retired.items() if name in copies}
        fresh = {
            name: self._number + 1 for name in sorted(copies - known.keys()) if is_gone(self._store, name)
        }
        self._advance(retired=known | fresh)
        floor = _floor(open_epochs(self._store), self._number)
        over = [name for name, since in self._list.retired.items() if since <= floor]
        self._marking.forget(map(original_name, over))
        for name in over:
            self._store.delete(name)
        self._advance(retired={name: since for name, since in self._list.retired.items() if since > floor})

    def _condemn(self) -> Mapping[PackName, int]:
        """Condemn what nothing needs, and what little is needed of after that is stored elsewhere.

        Packs are listed before epochs, and epochs before documents: a pack whose writer was not open any more is
        needed by a document that is seen, or by none.
        """
        present = present_packs(self._store)
        epochs = open_epochs(self._store)
        self._marking.mark()
        verdict = self._verdict(present, epochs.keys())
        since = self._number + 1
        condemned = {
            name: pack for name, pack in self._list.condemned.items() if PackName.parse(name) in present
        }
        condemned |= {str(name): CondemnedPack(since=since) for name in verdict.dead}
        for done in self._rewritten(verdict.thin):
            into = [str(name) for name in done.into]
            condemned |= {str(name): CondemnedPack(since=since, into=into) for name in done.packs}
            self._counts.rewritten += len(done.packs)
            self._counts.stored.append(done.bytes_stored)
        self._advance(condemned=condemned)
        return present

    def _doom(self) -> None:
        """Decide on condemned packs that everybody who is open has seen to be condemned.

        What is needed is looked at after the epochs were: whoever has ended left a document that is seen now.
        """
        ripe = self._ripe(open_epochs(self._store))
        if not ripe:
            return
        self._marking.mark()
        doomed = [name for name in ripe if self._is_unneeded(name)]
        unknown = [name for name in ripe if PackName.parse(name).key_reference in self._marking.unreadable]
        decided = set(ripe) - set(unknown)
        condemned = {name: pack for name, pack in self._list.condemned.items() if name not in decided}
        self._advance(condemned=condemned, doomed=doomed)

    def _ripe(self, epochs: Mapping[uuid.UUID, int]) -> list[str]:
        floor = _floor(epochs, self._number)
        return [name for name, pack in self._list.condemned.items() if pack.since <= floor]

    def _is_unneeded(self, name: str) -> bool:
        """Whether each needed piece of a condemned pack is in one of the packs it was copied into."""
        pack = PackName.parse(name)
        if pack.key_reference in self._marking.unreadable:
            return False
        needed = self._marking.needed(pack.key_reference)
        if not len(needed):
            return True
        library = self._marking.library(pack.key_reference)
        if pack not in library.index:
            # It cannot be listed, so what it holds is not known.
            return pack not in library.sizes
        avoided = self._list.avoided
        into = {PackName.parse(other) for other in self._list.condemned[name].into if other not in avoided}
        try:
            entries = library.entries(pack)
        except ObjectMissing:
            return True
        wanted = (entry.content_id for entry in entries if _among(needed, entry.content_id))
        return all(any(one.pack in into for one in library.index.find_all(wanted_id)) for wanted_id in wanted)

    def _verdict(self, present: Mapping[PackName, int], open_ids: Iterable[uuid.UUID]) -> _Verdict:
        """Which packs may be condemned, or be after a rewriting."""
        writers = frozenset(epoch_id.bytes for epoch_id in open_ids)
        avoided = self._list.avoided
        replacing = {other for pack in self._list.condemned.values() for other in pack.into}
        verdict = _Verdict(dead=[], thin=[])
        for reference in {name.key_reference for name in present} - self._marking.unreadable:
            packs = [
                name
                for name in present
                if name.key_reference == reference and str(name) not in avoided and str(name) not in replacing
            ]
            if len(self._marking.needed(reference)):
                self._judge(verdict, reference, {name: present[name] for name in packs}, writers)
            else:
                # Nothing under this key is needed, so the key is not needed either.
                verdict.dead.extend(name for name in packs if not self._is_of_writer(name, writers))
        return verdict

    def _judge(
        self, verdict: _Verdict, reference: str, packs: Mapping[PackName, int], writers: frozenset[bytes]
    ) -> None:
        library = self._marking.library(reference)
        avoided = {PackName.parse(name) for name in self._list.avoided}
        uses = library.index.uses(self._marking.needed(reference), spared=avoided)
        for name, size in packs.items():
            use = uses.get(name)
            if use is None or name in library.damaged or library.writer_of(name) in writers:
                continue
            if not use.needed:
                verdict.dead.append(name)
            elif self._is_thin(use, size):
                verdict.thin.append((name, use.first))

    def _is_thin(self, use: PackUse, size: int) -> bool:
        return use.compact < self._policy.thin_share * size

    def _is_of_writer(self, name: PackName, writers: frozenset[bytes]) -> bool:
        """Whether a pack that need not be opened may be one of those who are open."""
        if not writers:
            return False
        try:
            return pack_writer(self._store, name) in writers
        except ObjectMissing:
            return False
        except DataError:
            return True

    def _rewritten(self, thin: list[tuple[PackName, int]]) -> Iterator[Rewritten]:
        chosen = set(batches(thin, self._policy.rewrite_bytes))
        for reference in sorted({name.key_reference for name in chosen}):
            library = self._marking.library(reference)
            avoided = {PackName.parse(name) for name in self._list.avoided}
            keep = library.index.packs - library.damaged.keys() - avoided - chosen
            rewriter = Rewriter(self._store, library, keep=keep, entropy=self._entropy)
            needed = self._marking.needed(reference)
            packs = [name for name in chosen if name.key_reference == reference]
            yield from rewriter.rewrite(packs, partial(_among, needed))

    def _report(self, present: Mapping[PackName, int], leftovers: int) -> SweepReport:
        removed = self._counts.removed
        sizes = {str(name): size for name, size in present.items() if str(name) not in removed}
        waiting = [sizes[name] for name in self._list.condemned if name in sizes]
        return SweepReport(
            packs_removed=len(removed),
            bytes_removed=sum(removed.values()),
            packs_kept=len(sizes),
            bytes_kept=sum(sizes.values()),
            packs_condemned=len(waiting),
            bytes_condemned=sum(waiting),
            packs_rewritten=self._counts.rewritten,
            bytes_rewritten=sum(self._counts.stored),
            leftovers_removed=leftovers,
        )


def remove_lost_attributes(store: ObjectStore, *, dry_run: bool) -> int:
    """Remove attributes of snapshots that were never made, or are deleted; how many there were."""
    names = [stored.name.removeprefix(ATTRIBUTES) for stored in store.list(ATTRIBUTES)]
    snapshots = {stored.name.removeprefix(SNAPSHOTS) for stored in store.list(SNAPSHOTS)}
    return sum(_remove_attributes(store, name, dry_run=dry_run) for name in names if name not in snapshots)


def _remove_attributes(store: ObjectStore, name: str, *, dry_run: bool) -> bool:
    try:
        claim = store.claim(epoch_claim(name))
    except Conflict:
        return False
    # A writer of this snapshot puts its attributes while it has the claim, and then its document.
    with claim:
        if exists(store, SNAPSHOTS + name):
            return False
        if not dry_run:
            store.delete(ATTRIBUTES + name)
    return True


def _floor(epochs: Mapping[uuid.UUID, int], number: int) -> int:
    """Up to which list everybody who is open has seen all; `number`, the newest one, when nobody is open."""
    return min(epochs.values(), default=number)


def _among(keys: Keys, content_id: bytes) -> bool:
    key = np.uint64(key_of(content_id))
    at = int(keys.searchsorted(key))
    return at < len(keys) and bool(keys[at] == key)
