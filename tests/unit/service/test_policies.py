"""A resource policy grants what it says, to whom it says, and is refused when it says nothing clear."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import InvalidRequest
from stillframe.service.policies import RESTORE, accounts_granted

pytestmark = pytest.mark.unit

A, B = "111111111111", "222222222222"


def policy(*statements: dict[str, Any]) -> str:
    """A policy document of these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def statement(*accounts: str, effect: str = "Allow", action: Any = RESTORE) -> dict[str, Any]:
    """One statement about these accounts."""
    return {"Effect": effect, "Principal": {"AWS": list(accounts)}, "Action": action, "Sid": ""}


def test_the_named_accounts_may_restore() -> None:
    assert accounts_granted(policy(statement(B, A)), RESTORE) == (A, B)


def test_an_account_may_be_named_by_its_root_arn() -> None:
    assert accounts_granted(policy(statement(f"arn:aws:iam::{A}:root")), RESTORE) == (A,)


def test_a_single_statement_and_a_single_principal_need_no_list() -> None:
    document = {"Statement": {"Effect": "Allow", "Principal": {"AWS": A}, "Action": [RESTORE]}}
    assert accounts_granted(json.dumps(document), RESTORE) == (A,)


def test_a_denial_is_stronger_than_a_grant() -> None:
    assert accounts_granted(policy(statement(A, B), statement(B, effect="Deny")), RESTORE) == (A,)


def test_another_action_grants_no_restore() -> None:
    assert accounts_granted(policy(statement(A, action="redshift-serverless:GetSnapshot")), RESTORE) == ()


def test_all_actions_of_the_service_grant_a_restore() -> None:
    assert accounts_granted(policy(statement(A, action="redshift-serverless:*")), RESTORE) == (A,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        json.dumps({"Statement": []}),
        json.dumps({"Statement": ["x"]}),
        policy({"Effect": "Perhaps", "Principal": {"AWS": A}, "Action": RESTORE}),
        policy({"Effect": "Allow", "Action": RESTORE}),
        policy({"Effect": "Allow", "Principal": "*", "Action": RESTORE}),
        policy({"Effect": "Allow", "Principal": {"AWS": "somebody"}, "Action": RESTORE}),
        policy({"Effect": "Allow", "Principal": {"AWS": A}}),
        "[" * 5000,
    ],
)
def test_a_policy_that_is_not_clear_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        accounts_granted(text, RESTORE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_no_document_breaks_the_reader(document: Any) -> None:
    with pytest.raises(InvalidRequest):
        accounts_granted(json.dumps({"Statement": document}), RESTORE)
