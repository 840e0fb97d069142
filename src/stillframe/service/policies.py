"""Resource policies: sharing a snapshot with another account, and the three policy operations.

A policy is kept and echoed as the caller wrote it; what it means is read from it each time it matters.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller, ResourcePolicy
from stillframe.domain.identifiers import AccountId
from stillframe.errors import InvalidRequest, NotFound, QuotaExceeded
from stillframe.service.foundation import Foundation
from stillframe.service.resources import require_resource

RESTORE = "redshift-serverless:RestoreFromSnapshot"
PROVISIONED_RESTORE = "redshift:RestoreFromClusterSnapshot"
MOST_ACCOUNTS = 20
"""Accounts one snapshot may be shared with (user guide, "Quotas")."""

_PRINCIPAL = re.compile(r"(?:arn:aws:iam::)?([0-9]{12})(?::root)?")
_EFFECTS = frozenset({"Allow", "Deny"})


class ResourcePolicies:
    """PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy."""

    def __init__(self, foundation: Foundation) -> None:
        self._base = foundation

    def put(self, caller: Caller, arn: str, policy: str) -> ResourcePolicy:
        """Attach or replace a policy. Raises NotFound, InvalidRequest (malformed), QuotaExceeded (accounts)."""
        granted = accounts_granted(policy, RESTORE)
        if len(granted) > MOST_ACCOUNTS:
            raise QuotaExceeded(f"A snapshot can be shared with at most {MOST_ACCOUNTS} accounts.")
        record = ResourcePolicy(
            resource_arn=arn,
            account=caller.account,
            region=caller.region,
            policy=policy,
            updated_at=self._base.clock.now(),
        )
        with self._base.catalog.transaction() as transaction:
            require_resource(transaction, caller.scope, arn)
            transaction.policies.upsert(record)
        return record

    def get(self, caller: Caller, arn: str) -> ResourcePolicy:
        """The policy of a resource. Raises NotFound with the words `does not exist`, which Terraform looks for."""
        with self._base.catalog.transaction() as transaction:
            policy = transaction.policies.find(resource_arn=arn, account=caller.account, region=caller.region)
        if policy is None:
            raise _no_policy(arn)
        return policy

    def delete(self, caller: Caller, arn: str) -> None:
        """Take a policy off. Raises NotFound."""
        with self._base.catalog.transaction() as transaction:
            if not transaction.policies.delete(
                resource_arn=arn, account=caller.account, region=caller.region
            ):
                raise _no_policy(arn)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreAccess:
    """The accounts that a snapshot's policy lets restore it into a namespace, and to a provisioned cluster."""

    serverless: Sequence[AccountId] = ()
    provisioned: Sequence[AccountId] = ()


def restore_access(transaction: Transaction, arns: Sequence[str]) -> Sequence[RestoreAccess]:
    """What the policies on these snapshots grant, in their order; nothing where there is no policy."""
    granted = {
        policy.resource_arn: RestoreAccess(
            serverless=accounts_granted(policy.policy, RESTORE),
            provisioned=accounts_granted(policy.policy, PROVISIONED_RESTORE),
        )
        for policy in transaction.policies.list(resource_arn=tuple(arns))
    }
    return [granted.get(arn, RestoreAccess()) for arn in arns]


def accounts_allowed_to_restore(transaction: Transaction, arn: str) -> Sequence[AccountId]:
    """The accounts that the policy on this snapshot allows to restore it, sorted; empty without a policy."""
    return restore_access(transaction, [arn])[0].serverless


def accounts_granted(policy: str, action: str) -> Sequence[AccountId]:
    """The accounts a policy document allows `action`, less those it denies. Raises InvalidRequest when malformed."""
    allowed: set[str] = set()
    denied: set[str] = set()
    for statement in _statements(policy):
        accounts = set(_principals(statement))
        if _covers(statement, action):
            (allowed if statement["Effect"] == "Allow" else denied).update(accounts)
    return tuple(sorted(AccountId(account) for account in allowed - denied))


def _statements(policy: str) -> Iterator[Mapping[str, Any]]:
    try:
        document = json.loads(policy)
    except (ValueError, RecursionError):
        raise InvalidRequest("The resource policy is not valid JSON.") from None
    statements = document.get("Statement") if isinstance(document, dict) else None
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(statements, list) or not statements:
        raise InvalidRequest("The resource policy must hold at least one Statement.")
    for statement in statements:
        if not isinstance(statement, dict) or str(statement.get("Effect")) not in _EFFECTS:
            raise InvalidRequest("Each Statement of the resource policy needs an Effect of Allow or Deny.")
        yield statement


def _principals(statement: Mapping[str, Any]) -> Iterator[str]:
    principal = statement.get("Principal")
    named = principal.get("AWS") if isinstance(principal, dict) else None
    for item in _as_list(named, "Principal"):
        match = _PRINCIPAL.fullmatch(item)
        if match is None:
            raise InvalidRequest("Each Principal of the resource policy must be an AWS account id.")
        yield match[1]


def _covers(statement: Mapping[str, Any], action: str) -> bool:
    return any(
        item in {action, action.split(":", maxsplit=1)[0] + ":*"}
        for item in _as_list(statement.get("Action"), "Action")
    )


def _as_list(value: object, what: str) -> list[str]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
        raise InvalidRequest(f"Each Statement of the resource policy needs a {what}.")
    return items


def _no_policy(arn: str) -> NotFound:
    return NotFound(f"The resource policy for {arn} does not exist.", resource_name=arn)
