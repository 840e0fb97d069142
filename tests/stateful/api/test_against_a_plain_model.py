"""Hypothesis drives a real service and a model of it in dictionaries, and compares them after every step.

Among the steps are a kill of the service while nothing, and while a snapshot, is going on.
"""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.service import (
    CrashableLocal,
    Service,
    Warehouse,
    crashable_service,
    delete_namespace,
    error_code,
    make_warehouse,
    settled_namespace,
    settled_snapshot,
    wait_for,
)

pytestmark = pytest.mark.stateful

RUNS = int(os.environ.get("STATEFUL_RUNS", "3"))
STEPS = int(os.environ.get("STATEFUL_STEPS", "16"))
MOST_CRASHES = 2
"""In a run: a start takes longer than all other steps together."""

PAPER = st.sampled_from(["paper-1", "paper-2", "paper-3"])
SNAPSHOT = st.sampled_from(["snap-1", "snap-2", "snap-3"])
KEYS = st.sampled_from(["a", "b", "Ключ"])
VALUES = st.text(alphabet="xyz +-:", max_size=6)
ROLE = "arn:aws:iam::123456789012:role/Loader"


class Comparison(RuleBasedStateMachine):
    """`papers` are namespaces of metadata only; `shop` is one with a database that holds one number."""

    def __init__(self, service: Service, local: CrashableLocal) -> None:
        super().__init__()
        self.local = local
        self.account = service.account()
        self.client = self.account.client
        self.papers: dict[str, dict[str, Any]] = {}
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.number = 0
        self.crashes = 0

    @initialize()
    def open_shop(self) -> None:
        self.shop: Warehouse = make_warehouse(self.account, "shop")
        self.shop.query("CREATE TABLE number AS SELECT 0 AS n")

    @rule(name=PAPER)
    def create_paper(self, name: str) -> None:
        code = error_code(lambda: self.client.create_namespace(namespaceName=name))
        assert code == ("ConflictException" if name in self.papers else None)
        self.papers.setdefault(name, {"tags": {}, "roles": []})

    @rule(name=PAPER)
    def delete_paper(self, name: str) -> None:
        if name in self.papers:
            delete_namespace(self.client, name)
            del self.papers[name]
        else:
            assert (
                error_code(lambda: self.client.delete_namespace(namespaceName=name))
                == "ResourceNotFoundException"
            )

    @rule(name=PAPER, given_roles=st.booleans())
    def change_paper(self, name: str, given_roles: bool) -> None:
        roles = [ROLE] if given_roles else []
        code = error_code(lambda: self.client.update_namespace(namespaceName=name, iamRoles=roles))
        assert code == (None if name in self.papers else "ResourceNotFoundException")
        if code is None:
            settled_namespace(self.client, name)
            self.papers[name]["roles"] = roles

    @precondition(lambda self: self.papers)
    @rule(data=st.data(), key=KEYS, value=VALUES)
    def tag(self, data: st.DataObject, key: str, value: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.papers)))
        self.client.tag_resource(resourceArn=self._arn(name), tags=[{"key": key, "value": value}])
        self.papers[name]["tags"][key] = value

    @precondition(lambda self: self.papers)
    @rule(data=st.data(), key=KEYS)
    def untag(self, data: st.DataObject, key: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.papers)))
        self.client.untag_resource(resourceArn=self._arn(name), tagKeys=[key])
        self.papers[name]["tags"].pop(key, None)

    @rule(number=st.integers(1, 10**6))
    def write(self, number: int) -> None:
        self.shop.query(f"UPDATE number SET n = {number}")
        self.number = number

    @rule(name=SNAPSHOT, days=st.sampled_from([-1, 1, 30]))
    def snapshot(self, name: str, days: int) -> None:
        if name in self.snapshots:
            assert error_code(lambda: self._create(name)) == "ConflictException"
        else:
            self._create(name, retentionPeriod=days)
            self._settle_snapshot(name, days)

    @rule(name=SNAPSHOT)
    def delete_snapshot(self, name: str) -> None:
        code = error_code(lambda: self.client.delete_snapshot(snapshotName=name))
        assert code == (None if name in self.snapshots else "ResourceNotFoundException")
        self.snapshots.pop(name, None)

    @rule(name=SNAPSHOT, days=st.sampled_from([-1, 2, 3653]))
    def change_retention(self, name: str, days: int) -> None:
        code = error_code(lambda: self.client.update_snapshot(snapshotName=name, retentionPeriod=days))
        assert code == (None if name in self.snapshots else "ResourceNotFoundException")
        if code is None:
            self.snapshots[name]["days"] = days

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.snapshots)))
        self.shop.restore(snapshotName=name)
        self.number = self.snapshots[name]["number"]

    @precondition(lambda self: self.crashes < MOST_CRASHES)
    @rule()
    def crash(self) -> None:
        self._crash()

    @precondition(lambda self: self.crashes < MOST_CRASHES and "snap-9" not in self.snapshots)
    @rule()
    def crash_while_a_snapshot_is_taken(self) -> None:
        self._create("snap-9")
        self._crash()
        ended = wait_for(
            lambda: self.client.get_snapshot(snapshotName="snap-9")["snapshot"],
            lambda snapshot: snapshot["status"] != "CREATING",
        )
        if ended["status"] == "AVAILABLE":
            self.snapshots["snap-9"] = {"days": -1, "number": self.number}
        else:
            assert ended["status"] == "FAILED"
            self.client.delete_snapshot(snapshotName="snap-9")
        self.shop.settle()

    @invariant()
    def agree(self) -> None:
        listed = self.client.list_namespaces()["namespaces"]
        seen = {item["namespaceName"]: item for item in listed}
        assert sorted(seen) == sorted([*self.papers, "shop"])
        for name, paper in self.papers.items():
            assert seen[name]["status"] == "AVAILABLE"
            assert [role for role in paper["roles"] if role in seen[name]["iamRoles"][0]] == paper["roles"]
            tags = self.client.list_tags_for_resource(resourceArn=seen[name]["namespaceArn"])["tags"]
            assert {tag["key"]: tag["value"] for tag in tags} == paper["tags"]
        snapshots = {item["snapshotName"]: item for item in self.client.list_snapshots()["snapshots"]}
        expected = {name: snapshot["days"] for name, snapshot in self.snapshots.items()}
        assert {name: item["snapshotRetentionPeriod"] for name, item in snapshots.items()} == expected
        assert {item["status"] for item in snapshots.values()} <= {"AVAILABLE"}
        assert self.shop.query("SELECT n FROM number") == [(self.number,)]

    def teardown(self) -> None:
        if hasattr(self, "shop"):
            self.shop.settle()
            self.shop.tear_down()

    def _arn(self, name: str) -> str:
        arn: str = self.client.get_namespace(namespaceName=name)["namespace"]["namespaceArn"]
        return arn

    def _create(self, name: str, **options: Any) -> None:
        self.client.create_snapshot(namespaceName="shop", snapshotName=name, **options)

    def _settle_snapshot(self, name: str, days: int) -> None:
        settled_snapshot(self.client, name)
        self.snapshots[name] = {"days": days, "number": self.number}

    def _crash(self) -> None:
        self.crashes += 1
        self.local.crash()
        self.local.start()
        self.shop.settle()


def test_the_service_does_what_a_plain_model_does() -> None:
    with crashable_service() as (service, local):
        run_state_machine_as_test(
            lambda: Comparison(service, local),  # type: ignore[arg-type]
            settings=settings(
                max_examples=RUNS,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                # A failure is shown as it happened: after a crash that went wrong there is nothing to shrink on.
                phases=[Phase.generate],
            ),
        )
        assert "Traceback" not in local.log.read_text()
