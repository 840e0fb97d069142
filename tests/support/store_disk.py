"""A file system in memory that knows what fsync has promised, below the operating system's calls of this process.

Code under test runs unchanged: its calls of `os` and `fcntl` for paths below `MOUNT` end here. A process can be
killed at any of them. A loss of power leaves what a POSIX file system may leave: content that was not synced may be
there, missing, cut, zero or garbage; each entry of a directory that was not synced may be any that it has been since,
one independently of the other; and order of calls means nothing.
"""

import errno
import fcntl
import hashlib
import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from stillframe.objectstore import claims
from support.objectstore import Crash

MOUNT = Path("/simulated")
_MOUNT = str(MOUNT)
_FIRST_DESCRIPTOR = 1 << 24
_DEVICE = -7
_SECTOR = 512


@dataclass(slots=True, eq=False)
class Node:
    """A file or a directory: what it is, and what of it is durable."""

    entries: dict[str, "Node"] | None = None
    data: bytes = b""
    links: int = 0
    durable_entries: dict[str, "Node"] = field(default_factory=dict)
    pending: list[tuple[str, "Node | None"]] = field(default_factory=list)
    """Changes of entries since the last sync: what a name became."""
    durable_data: bytes = b""

    @property
    def is_directory(self) -> bool:
        return self.entries is not None

    def sync(self) -> None:
        """What is here now is durable."""
        self.durable_data = self.data
        self.durable_entries = dict(self.entries or {})
        self.pending = []

    def put(self, name: str, node: "Node | None") -> None:
        """Change an entry; None removes it."""
        assert self.entries is not None
        old = self.entries.pop(name, None)
        if old is not None:
            old.links -= 1
        if node is not None:
            self.entries[name] = node
            node.links += 1
        self.pending.append((name, node))


def directory() -> Node:
    """An empty one."""
    return Node(entries={})


class Disk:
    """All files of a machine, as a running system sees them, and as a loss of power may leave them."""

    def __init__(self, root: Node | None = None) -> None:
        self.root = root or directory()

    def clone(self) -> "Disk":
        """The same, what is durable and what is not included."""
        copies: dict[int, Node] = {}

        def copy(node: Node) -> Node:
            if id(node) in copies:
                return copies[id(node)]
            other = copies[id(node)] = Node(data=node.data, links=node.links, durable_data=node.durable_data)
            if node.entries is not None:
                other.entries = {name: copy(child) for name, child in node.entries.items()}
                other.durable_entries = {name: copy(child) for name, child in node.durable_entries.items()}
                other.pending = [
                    (name, None if child is None else copy(child)) for name, child in node.pending
                ]
            return other

        return Disk(copy(self.root))

    def after_power_loss(self, rnd: random.Random) -> "Disk":
        """One of the states that may be found afterwards; all of it is durable then."""
        keep = rnd.choice((0.0, 0.1, 0.5, 0.5, 0.9, 1.0))
        survivors: dict[int, Node] = {}

        def survive(node: Node) -> Node:
            if id(node) in survivors:
                return survivors[id(node)]
            other = survivors[id(node)] = Node()
            if node.entries is None:
                other.data = surviving_data(node, rnd, keep)
            else:
                other.entries = {}
                for name, child in surviving_entries(node, rnd, keep):
                    other.entries[name] = survive(child)
                    other.entries[name].links += 1
            other.sync()
            return other

        return Disk(survive(self.root))

    def digest(self, *, without: frozenset[str]) -> bytes:
        """Of all names and contents, directories of these names left out."""
        found = hashlib.blake2b(digest_size=16)

        def take(node: Node, path: str) -> None:
            if node.entries is None:
                found.update(path.encode() + b"\0" + hashlib.blake2b(node.data).digest())
                return
            found.update(path.encode() + b"/")
            for name in sorted(node.entries):
                if name not in without:
                    take(node.entries[name], f"{path}/{name}")

        take(self.root, "")
        return found.digest()


def surviving_entries(node: Node, rnd: random.Random, keep: float) -> Iterator[tuple[str, Node]]:
    """For each name one of the entries it has had since the last sync."""
    names = {name: [node.durable_entries.get(name)] for name, _ in node.pending}
    for name, child in node.pending:
        names[name].append(child)
    for name, child in node.durable_entries.items():
        if name not in names:
            yield name, child
    for name, ever in names.items():
        chosen = ever[-1] if rnd.random() < keep else rnd.choice(ever)
        if chosen is not None:
            yield name, chosen


def surviving_data(node: Node, rnd: random.Random, keep: float) -> bytes:
    """Content, or what may be found in its place."""
    if node.data == node.durable_data or rnd.random() < keep:
        return node.data
    size = len(node.data)
    cut = rnd.randrange(size + 1)
    sectors = [node.data[at : at + _SECTOR] for at in range(0, size, _SECTOR)]
    torn = b"".join(one if rnd.random() < 0.5 else bytes(len(one)) for one in sectors)
    zeros_behind, garbage = node.data[:cut] + bytes(size - cut), rnd.randbytes(size)
    found = (node.durable_data, b"", bytes(size), node.data[:cut], zeros_behind, torn, garbage)
    return rnd.choice(found)


@dataclass(frozen=True, slots=True)
class _Open:
    node: Node


class Kernel:
    """What one process sees of a disk, until it dies. Locks are the process's, and end with it.

    `die_at` is the number of the change that is not carried out any more; with `torn`, half of it is if it is a
    write. `after` is called after each change with what it was.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        die_at: int | None = None,
        torn: bool = False,
        after: Callable[[str], None] | None = None,
        forgets: str = "",
    ) -> None:
        self.disk = disk
        self.changes = 0
        self.dead = False
        self._die_at = die_at
        self._torn = torn
        self._after = after
        self._forgets = forgets
        """`files` or `directories`: what this machine does not sync though it is asked to."""
        self._open: dict[int, _Open] = {}
        self._locks: dict[int, set[int]] = {}
        self._next = _FIRST_DESCRIPTOR

    # --- what the calls do

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        node = self._found(path, missing_ok=bool(flags & os.O_CREAT))
        if node is not None and flags & os.O_CREAT and flags & os.O_EXCL:
            raise OSError(errno.EEXIST, "exists", path)
        if node is None:
            node, (parent, name) = Node(), self._parent(path)
            self._change("create", lambda: parent.put(name, node))
        elif flags & os.O_DIRECTORY and not node.is_directory:
            raise OSError(errno.ENOTDIR, "no directory", path)
        self._next += 1
        self._open[self._next] = _Open(node)
        return self._next

    def close(self, descriptor: int) -> None:
        self._alive()
        node = self._open.pop(descriptor).node
        self._locks.get(id(node), set()).discard(descriptor)

    def write(self, descriptor: int, data: Any) -> int:
        node, piece = self._node(descriptor), bytes(data)

        def append(part: bytes) -> None:
            node.data += part

        self._change("write", lambda: append(piece), torn=lambda: append(piece[: len(piece) // 2]))
        return len(piece)

    def fsync(self, descriptor: int) -> None:
        node = self._node(descriptor)
        kind = "directories" if node.is_directory else "files"
        self._change(f"sync {kind}", node.sync if kind != self._forgets else lambda: None)

    def flock(self, descriptor: int, operation: int) -> None:
        node = self._node(descriptor)
        holders = self._locks.setdefault(id(node), set())
        # Shared claims are not used by what runs here.
        if holders - {descriptor}:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        holders.add(descriptor)

    def fstat(self, descriptor: int) -> SimpleNamespace:
        return status(self._node(descriptor))

    def stat(self, path: str) -> SimpleNamespace:
        node = self._found(path)
        assert node is not None
        return status(node)

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return self._node(descriptor).data[offset : offset + length]

    def link(self, source: str, target: str) -> None:
        node = self._found(source)
        parent, name = self._parent(target)
        if self._found(target, missing_ok=True) is not None:
            raise OSError(errno.EEXIST, "exists", target)
        self._change("link", lambda: parent.put(name, node))

    def rename(self, source: str, target: str) -> None:
        node = self._found(source)
        from_parent, from_name = self._parent(source)
        parent, name = self._parent(target)

        def move() -> None:
            from_parent.put(from_name, None)
            parent.put(name, node)

        self._change("rename", move)

    def unlink(self, path: str) -> None:
        self._found(path)
        parent, name = self._parent(path)
        self._change("unlink", lambda: parent.put(name, None))

    def mkdir(self, path: str) -> None:
        parent, name = self._parent(path)
        if self._found(path, missing_ok=True) is not None:
            raise OSError(errno.EEXIST, "exists", path)
        self._change("mkdir", lambda: parent.put(name, directory()))

    def listdir(self, path: str) -> list[str]:
        return list(self._entries(path))

    def scandir(self, path: str) -> "_Scan":
        return _Scan([_Entry(name, node) for name, node in self._entries(path).items()])

    # --- how they do it

    def _alive(self) -> None:
        if self.dead:
            raise Crash

    def _change(
        self, what: str, carry_out: Callable[[], None], *, torn: Callable[[], None] | None = None
    ) -> None:
        self._alive()
        if self.changes == self._die_at:
            self.dead = True
            if self._torn and torn is not None:
                torn()
            raise Crash
        self.changes += 1
        carry_out()
        if self._after is not None:
            self._after(what)

    def _node(self, descriptor: int) -> Node:
        self._alive()
        return self._open[descriptor].node

    def _entries(self, path: str) -> dict[str, Node]:
        node = self._found(path)
        if node is None or node.entries is None:
            raise OSError(errno.ENOTDIR, "no directory", path)
        return node.entries

    def _parent(self, path: str) -> tuple[Node, str]:
        above, _, name = path.rpartition("/")
        parent = self._found(above)
        assert parent is not None
        if not parent.is_directory:
            raise OSError(errno.ENOTDIR, "no directory", path)
        return parent, name

    def _found(self, path: str, *, missing_ok: bool = False) -> Node | None:
        self._alive()
        node = self.disk.root
        for part in path[len(_MOUNT) :].split("/"):
            if not part:
                continue
            if node.entries is None:
                raise OSError(errno.ENOTDIR, "no directory", path)
            child = node.entries.get(part)
            if child is None:
                if missing_ok:
                    return None
                raise OSError(errno.ENOENT, "missing", path)
            node = child
        return node


def status(node: Node) -> SimpleNamespace:
    """What stat(2) tells."""
    kind = stat.S_IFDIR if node.is_directory else stat.S_IFREG
    return SimpleNamespace(
        st_size=len(node.data), st_nlink=node.links, st_mode=kind | 0o700, st_dev=_DEVICE, st_ino=id(node)
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a directory."""

    name: str
    node: Node

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        assert not follow_symlinks
        return self.node.is_directory

    def stat(self, *, follow_symlinks: bool = True) -> SimpleNamespace:
        assert not follow_symlinks
        return status(self.node)


class _Scan(list[_Entry]):
    """What scandir gives."""

    def __enter__(self) -> "_Scan":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _LockFile:
    """`io.FileIO` of a descriptor of ours."""

    def __init__(self, descriptor: int, mode: str) -> None:
        self._descriptor = descriptor
        self.closed = False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)


_BY_PATH = ["open", "stat", "link", "rename", "unlink", "mkdir", "listdir", "scandir"]
_BY_DESCRIPTOR = ["close", "write", "fsync", "fstat", "pread"]


@contextmanager
def running(kernel: Kernel) -> Iterator[Kernel]:
    """Calls of this process that concern the simulated disk go to this kernel."""
    with ExitStack() as ending:
        for name in (*_BY_PATH, *_BY_DESCRIPTOR):
            ending.enter_context(mock.patch.object(os, name, _routed(kernel, name, getattr(os, name))))
        ending.enter_context(mock.patch.object(fcntl, "flock", _routed(kernel, "flock", fcntl.flock)))
        ending.enter_context(mock.patch.object(claims, "io", SimpleNamespace(FileIO=_LockFile)))
        yield kernel


def _routed(kernel: Kernel, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    ours = getattr(kernel, name)

    def call(first: Any = ".", *rest: Any, **options: Any) -> Any:
        if isinstance(first, int):
            return ours(first, *rest) if first >= _FIRST_DESCRIPTOR else real(first, *rest, **options)
        path = str(first)
        if not path.startswith(_MOUNT):
            return real(first, *rest, **options)
        if name in {"mkdir", "stat"}:
            return ours(path)
        return ours(path, *(str(one) if isinstance(one, Path) else one for one in rest))

    return call
