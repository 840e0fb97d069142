"""A proof as it is kept with its snapshot in the repository."""

import uuid
from datetime import UTC, datetime

import msgspec
import pytest

from stillframe.domain.identifiers import AccountId, Region, SnapshotId
from stillframe.domain.proof import Proof, ProofResult
from stillframe.service.proofs import ATTRIBUTE, from_attributes, to_attribute
from support.backup import attributes

pytestmark = pytest.mark.unit

PROOF = Proof(
    snapshot_id=SnapshotId(uuid.uuid4()),
    account=AccountId("123456789012"),
    region=Region("us-east-1"),
    result=ProofResult.FAILED,
    proved_at=datetime(2026, 11, 23, 12, 30, 0, 123456, tzinfo=UTC),
    duration_seconds=1.5,
    server_version="18.6",
    findings=("database dev, table public.orders, file base/1/2: block 7 is wrong.",),
    remarks=("One index is marked invalid.",),
    databases=({"name": "dev", "tables": 1, "indexes": 2, "rows": 3, "bytes": 4},),
)


def test_a_kept_proof_is_read_as_it_was() -> None:
    kept = msgspec.structs.replace(attributes(), extra={ATTRIBUTE: to_attribute(PROOF), "other": "x"})
    assert from_attributes(kept) == PROOF


def test_a_snapshot_that_was_never_proven_has_none() -> None:
    assert from_attributes(attributes()) is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"result": "unheard of"}'])
def test_one_that_cannot_be_read_counts_as_none(text: str) -> None:
    assert from_attributes(msgspec.structs.replace(attributes(), extra={ATTRIBUTE: text})) is None
