"""Snapshots that hold damage are flagged and never cost the last clean one; snapshots prove themselves."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from botocore.exceptions import ClientError

from stillframe.app.composition import build_parts
from stillframe.app.rebuild import snapshot_of
from stillframe.domain.identifiers import Region, SnapshotId
from stillframe.domain.proof import ProofResult
from stillframe.service.proofs import from_attributes
from support.damage import figures, flip_a_bit_of, flip_bit
from support.open_snapshots import prove
from support.service import REGION, Service, Warehouse, make_warehouse, running_service, wait_for, wait_gone

pytestmark = pytest.mark.acceptance

BLOCK = 7


@pytest.fixture(scope="module")
def quick() -> Iterator[Service]:
    """A service that looks at retention twice a second and never by its own passing of time."""
    with running_service(sweep_seconds=0.5) as service:
        yield service


@pytest.fixture
def shop(quick: Service) -> Iterator[Warehouse]:
    """A warehouse of the test's own, with a table."""
    made = make_warehouse(quick.account(), "shop")
    made.query("CREATE TABLE orders AS SELECT n, md5(n::text) AS note FROM generate_series(1, 5000) AS n")
    made.query("CREATE INDEX ON orders (n)")
    made.query("CREATE SEQUENCE tickets")
    made.query("CREATE DATABASE archive")
    yield made
    made.tear_down()


@pytest.fixture
def operator(shop: Warehouse) -> Any:
    """A client of our operations for its account."""
    return shop.account.service.operator_of(shop.account)


def conditions(operator: Any) -> dict[str, dict[str, Any]]:
    """What is known about the health of the account's snapshots, by name."""
    found = operator.list_snapshot_conditions()["conditions"]
    return {condition["snapshotName"]: condition for condition in found}


def _damaged(shop: Warehouse, name: str, **options: Any) -> str:
    """A snapshot of a namespace in which a bit has flipped; the file it flipped in."""
    shop.query("CREATE TABLE fresh AS SELECT n, md5(n::text) AS note FROM generate_series(1, 5000) AS n")
    path = flip_a_bit_of(shop, "fresh", block=BLOCK)
    shop.snapshot(name, **options)
    return path


def test_a_flipped_bit_of_a_running_namespace_is_named_and_the_snapshot_flagged(
    shop: Warehouse, operator: Any, quick: Service
) -> None:
    shop.snapshot("clean")
    path = _damaged(shop, "broken")
    detail = operator.describe_snapshot(snapshotName="broken")["detail"]
    assert detail["damaged"] is True
    assert detail["damage"] == (
        "A page fails its checksum and stays so: database dev, relation public.fresh, "
        f"file {path}, block {BLOCK}."
    )
    assert {name: item["damaged"] for name, item in conditions(operator).items()} == {
        "clean": False,
        "broken": True,
    }
    found = figures(quick)
    assert found[f'stillframe_snapshots_damaged{{region="{REGION}"}}'] >= 1
    assert found['stillframe_snapshots_read_in_full{reason="no_parent"}'] >= 1
    assert found["stillframe_damaged_map_pages"] == 0
    assert "damaged" not in shop.client.get_snapshot(snapshotName="broken")["snapshot"]


def test_the_last_clean_snapshot_does_not_expire_until_there_is_a_newer_one(
    shop: Warehouse, operator: Any, quick: Service
) -> None:
    shop.snapshot("older", retentionPeriod=1)
    shop.snapshot("clean", retentionPeriod=1)
    _damaged(shop, "broken", retentionPeriod=1)
    quick.local.advance(timedelta(days=3))
    wait_gone(lambda: shop.client.get_snapshot(snapshotName="older"))
    kept = wait_for(lambda: conditions(operator), lambda found: found.keys() == {"clean", "broken"})
    assert [item["protected"] for item in kept.values()] == [True, True]
    assert operator.describe_snapshot(snapshotName="clean")["detail"]["protected"] is True
    wait_for(lambda: quick.local.log_tail(100_000), lambda log: "last_clean_snapshot_kept" in log)
    shop.query("DROP TABLE fresh")
    shop.snapshot("healed")
    for name in ("clean", "broken"):
        wait_gone(lambda name=name: shop.client.get_snapshot(snapshotName=name))  # type: ignore[misc]
    assert conditions(operator)["healed"]["protected"] is False


def test_a_protected_snapshot_can_be_deleted_by_hand(shop: Warehouse, operator: Any) -> None:
    shop.snapshot("clean", retentionPeriod=1)
    _damaged(shop, "broken")
    assert conditions(operator)["clean"]["protected"] is True
    shop.client.delete_snapshot(snapshotName="clean")
    assert conditions(operator).keys() == {"broken"}


def test_a_good_snapshot_passes_its_proof_which_is_kept_with_it(
    shop: Warehouse, operator: Any, quick: Service
) -> None:
    taken = shop.snapshot("good")
    proof = prove(operator, "good")
    assert (proof["result"], proof["findings"]) == ("passed", [])
    databases = {database["name"]: database for database in proof["databases"]}
    assert databases.keys() >= {"dev", "archive"}
    assert databases["dev"]["rows"] == 5000
    assert (databases["dev"]["tables"], databases["archive"]["rows"]) == (1, 0)
    assert proof["durationSeconds"] > 0
    assert conditions(operator)["good"]["proof"] == "passed"
    assert figures(quick)[f'stillframe_snapshot_proofs{{region="{REGION}",result="passed"}}'] >= 1
    assert not _copies(shop)

    identifier = SnapshotId(UUID(taken["snapshotArn"].rpartition("/")[2]))
    document = build_parts(quick.local.settings).repositories.of(Region(REGION)).document(identifier)
    kept = from_attributes(document.attributes)
    assert kept is not None
    assert (kept.snapshot_id, kept.result) == (identifier, ProofResult.PASSED)
    assert abs(kept.proved_at - proof["provedAt"]) < timedelta(milliseconds=1)
    assert snapshot_of(document).retention_days == -1


def test_a_damaged_snapshot_fails_its_proof_loudly(shop: Warehouse, operator: Any, quick: Service) -> None:
    path = _damaged(shop, "broken")
    proof = prove(operator, "broken")
    assert proof["result"] == "failed"
    (finding,) = proof["findings"]
    assert finding.startswith(f"database dev, table public.fresh, file {path}: ")
    assert f"block {BLOCK}" in finding
    assert conditions(operator)["broken"]["proof"] == "failed"
    assert figures(quick)[f'stillframe_snapshot_proofs{{region="{REGION}",result="failed"}}'] >= 1
    assert "snapshot_proof_failed" in quick.local.log_tail(100_000)


def test_a_proof_goes_with_its_snapshot(shop: Warehouse, operator: Any, quick: Service) -> None:
    name = f'stillframe_snapshot_proofs{{region="{REGION}",result="passed"}}'
    shop.snapshot("good")
    before = figures(quick).get(name, 0)
    prove(operator, "good")
    assert figures(quick)[name] == before + 1
    shop.client.delete_snapshot(snapshotName="good")
    assert figures(quick).get(name, 0) == before


def test_what_is_not_there_cannot_be_proven(shop: Warehouse, operator: Any) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        operator.prove_snapshot(snapshotName="nothing")


def test_a_snapshot_whose_stored_content_is_damaged_fails_its_proof_and_does_not_hang() -> None:
    with running_service() as service:
        shop = make_warehouse(service.account(), "shop")
        operator = service.operator_of(shop.account)
        shop.query(
            "CREATE TABLE orders AS SELECT n, md5(n::text) AS note FROM generate_series(1, 50000) AS n"
        )
        shop.snapshot("good")
        _damage_largest_pack(service)
        proof = prove(operator, "good")
        assert proof["result"] == "failed"
        assert proof["findings"]
        shop.tear_down()


def test_every_snapshot_is_proven_once_and_every_stored_byte_verified_by_themselves() -> None:
    with running_service(sweep_seconds=0.5, prove_snapshots=True) as service:
        shop = make_warehouse(service.account(), "shop")
        operator = service.operator_of(shop.account)
        for name in ("one", "two"):
            shop.snapshot(name)
        wait_for(
            lambda: conditions(operator),
            lambda found: [item.get("proof") for item in found.values()] == ["passed", "passed"],
        )
        kinds = [item["kind"] for item in operator.list_operations()["operations"]]
        assert kinds.count("prove_snapshot") == 2
        assert "stillframe_repository_findings" not in " ".join(figures(service))
        service.local.advance(timedelta(days=1, minutes=1))
        found = f'stillframe_repository_findings{{region="{REGION}"}}'
        wait_for(lambda: figures(service).get(found), lambda number: number == 0)

        _damage_largest_pack(service)
        # What was found whole is believed for thirty days.
        service.local.advance(timedelta(days=31))
        wait_for(lambda: figures(service).get(found), lambda number: number is not None and number > 0)
        assert "repository_damaged" in service.local.log_tail(100_000)
        shop.tear_down()


def _damage_largest_pack(service: Service) -> None:
    packs = service.local.settings.paths.repository(REGION) / "packs"
    files = [path for path in packs.rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    flip_bit(largest, largest.stat().st_size // 2)


def _copies(shop: Warehouse) -> list[str]:
    """Directories below `namespaces` that are no namespace of this service."""
    root = shop.account.service.local.settings.paths.root / "namespaces"
    catalog = build_parts(shop.account.service.local.settings).catalog
    with closing(catalog), catalog.transaction() as transaction:
        known = {str(namespace.id) for namespace in transaction.namespaces.list()}
    return [path.name for path in root.iterdir() if path.name not in known]
