"""The operations of the crash matrix: how each is prepared, asked for, judged after a crash, and asked for again.

The known state between two points: namespaces `base` and `other`, each with a workgroup of its name, and the
snapshot `origin` of `base`. `World` remembers what each of them has to hold.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import psycopg

from stillframe.clients import EXTENSION
from support.crash_fingerprint import Login, differences, fingerprint, mark, populate
from support.crash_rig import PATIENCE, Result, Rig, eventually

BASE, OTHER, ORIGIN = "base", "other", "origin"


@dataclass(kw_only=True)
class Content:
    """What a namespace (or a snapshot of it) holds, and the password its admin has."""

    password: str
    fingerprint: dict[str, Any]


@dataclass(kw_only=True)
class World:
    """A service in the known state, and the contents it has to have."""

    rig: Rig
    namespaces: dict[str, Content] = field(default_factory=dict)
    snapshots: dict[str, Content] = field(default_factory=dict)
    numbers: "count[int]" = field(default_factory=count)

    def name(self, kind: str) -> str:
        """A name that was not used before."""
        return f"{kind}{next(self.numbers)}"

    def login(self, name: str, password: str | None = None) -> Login:
        """The admin's login to a namespace's workgroup, which has its name."""
        return self.rig.login(name, password or self.namespaces[name].password)

    def read(self, name: str, password: str | None = None) -> dict[str, Any]:
        """The fingerprint of a namespace that must answer, within the patience that a restart takes."""
        return _patiently(lambda: fingerprint(self.login(name, password)), self.rig)

    def remember(self, name: str, password: str | None = None) -> Content:
        """What a namespace holds now is what it has to hold from now on."""
        password = password or self.rig.password
        self.namespaces[name] = Content(password=password, fingerprint=self.read(name, password))
        return self.namespaces[name]

    def mark(self, name: str) -> None:
        """Make a namespace different from all its snapshots."""
        mark(self.login(name), self.name("mark"))
        self.remember(name, self.namespaces[name].password)

    def add_namespace(self, name: str, *, filled: bool = False) -> None:
        """A namespace and its workgroup, AVAILABLE."""
        self.rig.client().create_namespace(
            namespaceName=name, adminUsername="admin", adminUserPassword=self.rig.password
        )
        self.add_workgroup(name)
        if filled:
            populate(self.rig.login(name))
        self.remember(name)

    def add_workgroup(self, name: str) -> None:
        """The workgroup of a namespace that has none."""
        self.rig.client().create_workgroup(namespaceName=name, workgroupName=name, **workgroup_options())
        assert name in self.rig.settle()["workgroup"], self.last("create_workgroup")

    def drop_workgroup(self, name: str) -> None:
        """Remove a workgroup and wait until it is gone."""
        self.rig.client().delete_workgroup(workgroupName=name)
        assert name not in self.rig.settle()["workgroup"], self.last("delete_workgroup")

    def drop_namespace(self, name: str, **final: Any) -> None:
        """Remove a namespace and wait until it is gone."""
        self.rig.client().delete_namespace(namespaceName=name, **final)
        assert name not in self.rig.settle()["namespace"], self.last("delete_namespace")
        self.namespaces.pop(name, None)

    def add_snapshot(self, name: str, *, of: str = BASE) -> None:
        """A snapshot, AVAILABLE."""
        self.rig.client().create_snapshot(namespaceName=of, snapshotName=name)
        assert self.rig.settle()["snapshot"][name]["status"] == "AVAILABLE", self.last("create_snapshot")
        self.snapshots[name] = self.namespaces[of]

    def drop_snapshot(self, name: str) -> None:
        """Remove a snapshot of whatever status."""
        assert self.rig.client().delete_snapshot(snapshotName=name)["snapshot"]["status"] == "DELETED"
        self.snapshots.pop(name, None)

    def restore(self, snapshot: str, *, into: str) -> None:
        """Restore a snapshot; the namespace has to hold it from now on."""
        self.rig.client().restore_from_snapshot(namespaceName=into, workgroupName=into, snapshotName=snapshot)
        self.rig.settle()
        last = self.last("restore_from_snapshot")
        assert last is not None
        assert last["status"] == "succeeded", last
        self.namespaces[into] = self.snapshots[snapshot]
        changed = differences(self.read(into), self.snapshots[snapshot].fingerprint)
        assert not changed, f"{snapshot} was not restored exactly: {changed}"

    def last(self, kind: str) -> dict[str, Any] | None:
        """The newest operation of a kind."""
        return next((one for one in reversed(self.rig.operations()) if one["kind"] == kind), None)


class CrashOperation(Protocol):
    """One row of the matrix. An instance serves one point."""

    def prepare(self, world: World) -> None:
        """From the known state to the one in which it is asked for."""
        ...

    def ask(self, world: World) -> None:
        """The requests; they fail when what they need was killed before they were accepted."""
        ...

    def judge(self, world: World, resources: dict[str, Any]) -> None:
        """All or nothing has happened, and what the operations' records say is what is there."""
        ...

    def again(self, world: World) -> None:
        """Asked for again it works; afterwards the known state is there again."""
        ...


class CreateNamespaceAndWorkgroup:
    """CreateNamespace, and CreateWorkgroup, which makes its storage."""

    def prepare(self, world: World) -> None:
        self._name = world.name("made")

    def ask(self, world: World) -> None:
        client = world.rig.client()
        client.create_namespace(
            namespaceName=self._name, adminUsername="admin", adminUserPassword=world.rig.password
        )
        client.create_workgroup(namespaceName=self._name, workgroupName=self._name, **workgroup_options())

    def judge(self, world: World, resources: dict[str, Any]) -> None:
        if self._name in resources["workgroup"]:
            assert self._name in resources["namespace"]
            world.remember(self._name)
            self._use(world)

    def again(self, world: World) -> None:
        resources = world.rig.resources()
        if self._name not in resources["namespace"]:
            world.add_namespace(self._name)
        if self._name not in world.rig.resources()["workgroup"]:
            world.add_workgroup(self._name)
            world.remember(self._name)
        self._use(world)
        world.drop_workgroup(self._name)
        world.drop_namespace(self._name)

    def _use(self, world: World) -> None:
        with world.login(self._name).connect("dev") as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS used (id int)")
        world.remember(self._name)


class CreateSnapshot:
    """CreateSnapshot of `base`."""

    def prepare(self, world: World) -> None:
        world.mark(BASE)
        self._name = world.name("taken")

    def ask(self, world: World) -> None:
        world.rig.client().create_snapshot(namespaceName=BASE, snapshotName=self._name)

    def judge(self, world: World, resources: dict[str, Any]) -> None:
        judge_snapshot(world, resources, self._name, of=BASE)

    def again(self, world: World) -> None:
        if self._name in world.rig.resources()["snapshot"]:
            world.drop_snapshot(self._name)
        world.add_snapshot(self._name)
        world.drop_snapshot(self._name)


class RestoreFromSnapshot:
    """RestoreFromSnapshot of `origin` into a namespace that holds something else."""

    def __init__(self, into: str) -> None:
        self._into = into

    def prepare(self, world: World) -> None:
        world.mark(self._into)
        self._before = len(_of_kind(world, "restore_from_snapshot"))

    def ask(self, world: World) -> None:
        world.rig.client().restore_from_snapshot(
            namespaceName=self._into, workgroupName=self._into, snapshotName=ORIGIN
        )

    def judge(self, world: World, resources: dict[str, Any]) -> None:
        asked = _of_kind(world, "restore_from_snapshot")[self._before :]
        if asked and asked[-1]["status"] == "succeeded":
            world.namespaces[self._into] = world.snapshots[ORIGIN]
        elif asked:
            assert asked[-1]["failure"], asked[-1]

    def again(self, world: World) -> None:
        world.restore(ORIGIN, into=self._into)


class DeleteSnapshot:
    """DeleteSnapshot, which is done within its request."""

    def prepare(self, world: World) -> None:
        self._name = world.name("doomed")
        world.add_snapshot(self._name)

    def ask(self, world: World) -> None:
        world.rig.client().delete_snapshot(snapshotName=self._name)

    def judge(self, world: World, resources: dict[str, Any]) -> None:
        if self._name in resources["snapshot"]:
            assert resources["snapshot"][self._name]["status"] == "AVAILABLE"
        else:
            world.snapshots.pop(self._name)

    def again(self, world: World) -> None:
        if self._name not in world.rig.resources()["snapshot"]:
            world.add_snapshot(self._name)
        world.drop_snapshot(self._name)
        assert self._name not in world.rig.resources()["snapshot"]


class DeleteWorkgroup:
    """DeleteWorkgroup: the server goes, the data stay."""

    def prepare(self, world: World) -> None:
        world.mark(OTHER)

    def ask(self, world: World) -> None:
        world.rig.client().delete_workgroup(workgroupName=OTHER)

    def judge(self, world: World, resources: dict[str, Any]) -> None:
        assert OTHER in resources["namespace"]
        if OTHER not in resources["workgroup"]:
            world.add_workgroup(OTHER)

    def again(self, world: World) -> None:
        world.drop_workgroup(OTHER)
        world.add_workgroup(OTHER)
        assert world.read(OTHER) == world.namespaces[OTHER].fingerprint


class DeleteNamespaceWithFinalSnapshot:
    """DeleteNamespace: it may only be gone when its final snapshot is there."""

    def prepare(self, world: World) -> None:
        self._name, self._final = world.name("leaving"), world.name("final")
        world.add_namespace(self._name, filled=True)
        world.mark(self._name)
        self._content = world.namespaces.pop(self._name)
        world.drop_workgroup(self._name)

    def ask(self, world: World) -> None:
        world.rig.client().delete_namespace(namespaceName=self._name, finalSnapshotName=self._final)

    def judge(self, world: World, resources: dict[str, Any]) -> None:
        if self._name in resources["namespace"]:
            self._judge_kept(world, resources)
            return
        assert resources["snapshot"][self._final]["status"] == "AVAILABLE"
        world.snapshots[self._final] = self._content

    def again(self, world: World) -> None:
        if self._final in world.rig.resources()["snapshot"]:
            world.drop_snapshot(self._final)
        if self._name not in world.rig.resources()["namespace"]:
            self.prepare(world)
        world.drop_namespace(self._name, finalSnapshotName=self._final)
        assert world.rig.resources()["snapshot"][self._final]["status"] == "AVAILABLE"
        world.drop_snapshot(self._final)

    def _judge_kept(self, world: World, resources: dict[str, Any]) -> None:
        status = resources["snapshot"].get(self._final, {}).get("status")
        assert status in {None, "FAILED", "CANCELLED", "AVAILABLE"}
        if status == "AVAILABLE":
            world.snapshots[self._final] = self._content
        world.add_workgroup(self._name)
        assert world.read(self._name, world.rig.password) == self._content.fingerprint
        world.drop_workgroup(self._name)


class UpdateNamespace:
    """UpdateNamespace with a new admin password."""

    def prepare(self, world: World) -> None:
        self._old = world.namespaces[BASE].password
        self._new = f"Changed{next(world.numbers)}Password"

    def ask(self, world: World) -> None:
        self._ask(world, self._new)

    def judge(self, world: World, resources: dict[str, Any]) -> None:
        self._hold(world, _patiently(lambda: self._the_one_that_works(world), world.rig))

    def again(self, world: World) -> None:
        for password in (self._new, world.rig.password):
            self._ask(world, password)
            world.rig.settle()
            assert _logs_in(world.login(BASE, password)), world.last("update_namespace")
            self._hold(world, password)

    def _ask(self, world: World, password: str) -> None:
        world.rig.client().update_namespace(
            namespaceName=BASE, adminUsername="admin", adminUserPassword=password
        )

    def _hold(self, world: World, password: str) -> None:
        held = world.namespaces[BASE].fingerprint
        world.namespaces[BASE] = Content(password=password, fingerprint=held)

    def _the_one_that_works(self, world: World) -> str:
        works = [password for password in (self._old, self._new) if _logs_in(world.login(BASE, password))]
        assert len(works) == 1, f"{len(works)} of two passwords work"
        return works[0]


class UpdateWorkgroup:
    """UpdateWorkgroup with another capacity, which restarts the server."""

    def prepare(self, world: World) -> None:
        world.mark(BASE)
        self._old = world.rig.resources()["workgroup"][BASE]["baseCapacity"]
        self._new = 16 if self._old == 8 else 8

    def ask(self, world: World) -> None:
        world.rig.client().update_workgroup(workgroupName=BASE, baseCapacity=self._new)

    def judge(self, world: World, resources: dict[str, Any]) -> None:
        assert resources["workgroup"][BASE]["baseCapacity"] in {self._old, self._new}

    def again(self, world: World) -> None:
        world.rig.client().update_workgroup(workgroupName=BASE, baseCapacity=24)
        assert world.rig.settle()["workgroup"][BASE]["baseCapacity"] == 24
        assert world.read(BASE) == world.namespaces[BASE].fingerprint


OPERATIONS: dict[str, Callable[[], CrashOperation]] = {
    "create": CreateNamespaceAndWorkgroup,
    "snapshot": CreateSnapshot,
    "restore_same": lambda: RestoreFromSnapshot(BASE),
    "restore_other": lambda: RestoreFromSnapshot(OTHER),
    "delete_namespace": DeleteNamespaceWithFinalSnapshot,
    "delete_workgroup": DeleteWorkgroup,
    "update_workgroup": UpdateWorkgroup,
    "update_namespace": UpdateNamespace,
    "delete_snapshot": DeleteSnapshot,
}


def judge_snapshot(world: World, resources: dict[str, Any], name: str, *, of: str) -> None:
    """It never came to be, or it is there and holds what the namespace holds, or it says why it failed."""
    snapshot = resources["snapshot"].get(name)
    if snapshot is None:
        return
    if snapshot["status"] == "AVAILABLE":
        world.snapshots[name] = world.namespaces[of]
        return
    detail = world.rig.client(EXTENSION).describe_snapshot(snapshotName=name)["detail"]
    assert snapshot["status"] in {"FAILED", "CANCELLED"}
    assert detail["failure"]


def workgroup_options() -> dict[str, int]:
    """Small, and on a port that few others on this machine ask for."""
    return {"baseCapacity": 8, "port": random.choice(range(8191, 8216))}


def make_world(rig: Rig) -> World:
    """The known state on a service that was just started."""
    world = World(rig=rig)
    world.add_namespace(BASE, filled=True)
    world.add_namespace(OTHER)
    world.add_snapshot(ORIGIN)
    return world


def _of_kind(world: World, kind: str) -> list[dict[str, Any]]:
    return [one for one in world.rig.operations() if one["kind"] == kind]


def _logs_in(login: Login) -> bool:
    try:
        with login.connect("dev") as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            return False
        raise
    return True


def _patiently(look: Callable[[], Result], rig: Rig) -> Result:
    """A server that is being restarted refuses for a moment."""

    def refused_is_not_now() -> Result:
        try:
            return look()
        except psycopg.Error as error:
            raise AssertionError(str(error)) from error

    return eventually(refused_is_not_now, seconds=PATIENCE, told="the databases did not answer", rig=rig)
