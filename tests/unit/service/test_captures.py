"""How a snapshot was taken is kept with its operation."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from stillframe.domain.identifiers import AccountId, NamespaceId, Region
from stillframe.domain.operation import Operation, OperationKind, OperationStatus
from stillframe.service.captures import Captured, how_captured

pytestmark = pytest.mark.unit

ASKED = Operation(
    id=uuid.uuid4(),
    account=AccountId("123456789012"),
    region=Region("eu-central-1"),
    kind=OperationKind.CREATE_SNAPSHOT,
    status=OperationStatus.SUCCEEDED,
    namespace_id=NamespaceId(uuid.uuid4()),
    subject_id=uuid.uuid4(),
    arguments={"asked": "for"},
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def test_what_is_noted_comes_back_from_the_catalog_beside_what_was_asked_for() -> None:
    how = Captured(full_because="summaries_off", damaged_maps=["A page fails."])
    stored = json.loads(json.dumps(how.beside(ASKED.arguments)))
    assert stored["asked"] == "for"
    assert how_captured(replace(ASKED, arguments=stored)) == how


def test_an_operation_of_an_earlier_release_says_nothing() -> None:
    assert how_captured(ASKED) is None
