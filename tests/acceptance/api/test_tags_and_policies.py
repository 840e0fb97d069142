"""TagResource, UntagResource, ListTagsForResource; PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy."""

import json
from typing import Any

import pytest

from support.service import OTHER_REGION, REGION, Account, Warehouse

pytestmark = pytest.mark.acceptance

RESTORE = "redshift-serverless:RestoreFromSnapshot"


@pytest.fixture
def arn(account: Account) -> str:
    """The ARN of a namespace of the test's own account."""
    created: str = account.client.create_namespace(namespaceName="shop")["namespace"]["namespaceArn"]
    return created


def tags_of(account: Account, arn: str) -> dict[str, str]:
    """The tags of a resource as a dictionary."""
    return {
        tag["key"]: tag["value"] for tag in account.client.list_tags_for_resource(resourceArn=arn)["tags"]
    }


def policy(*accounts: str, action: str | list[str] = RESTORE, effect: str = "Allow") -> str:
    """A policy document of one statement."""
    statement = {"Effect": effect, "Principal": {"AWS": list(accounts)}, "Action": action}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_tags_are_added_changed_and_removed(account: Account, arn: str) -> None:
    assert tags_of(account, arn) == {}
    account.client.tag_resource(
        resourceArn=arn, tags=[{"key": "Team", "value": "bi"}, {"key": "team", "value": ""}]
    )
    account.client.tag_resource(resourceArn=arn, tags=[{"key": "Team", "value": "data"}])
    assert tags_of(account, arn) == {"Team": "data", "team": ""}
    account.client.untag_resource(resourceArn=arn, tagKeys=["Team", "never-there"])
    assert tags_of(account, arn) == {"team": ""}
    account.client.tag_resource(resourceArn=arn, tags=[])
    account.client.untag_resource(resourceArn=arn, tagKeys=[])
    assert tags_of(account, arn) == {"team": ""}


def test_success_is_an_empty_object(account: Account, arn: str) -> None:
    for operation, body in (
        ("TagResource", {"resourceArn": arn, "tags": [{"key": "a", "value": "b"}]}),
        ("UntagResource", {"resourceArn": arn, "tagKeys": ["a"]}),
    ):
        answer = account.send(operation, json.dumps(body).encode())
        assert (answer.status, answer.json()) == (200, {})


def test_tags_hang_on_namespaces_workgroups_and_snapshots(warehouse: Warehouse) -> None:
    client = warehouse.client
    arns = [
        client.get_namespace(namespaceName="shop")["namespace"]["namespaceArn"],
        client.get_workgroup(workgroupName="shop")["workgroup"]["workgroupArn"],
        warehouse.snapshot("tagged")["snapshotArn"],
    ]
    for number, arn in enumerate(arns):
        client.tag_resource(resourceArn=arn, tags=[{"key": "number", "value": str(number)}])
    assert [tags_of(warehouse.account, arn) for arn in arns] == [
        {"number": "0"},
        {"number": "1"},
        {"number": "2"},
    ]


def test_all_documented_characters_are_taken_and_given_back(account: Account, arn: str) -> None:
    pairs = {"Straße 7/ß:a=b+c-d@e_f.g": "值 Ωμέγα", "k" * 128: "v" * 256, "x": ""}
    tags = [{"key": key, "value": value} for key, value in pairs.items()]
    account.client.tag_resource(resourceArn=arn, tags=tags)
    assert tags_of(account, arn) == pairs


@pytest.mark.parametrize(
    "tags",
    [
        [{"key": "aws:owned", "value": "x"}],
        [{"key": "AWS:owned", "value": "x"}],
        [{"key": "same", "value": "1"}, {"key": "same", "value": "2"}],
        [{"key": "semi;colon", "value": "x"}],
        [{"key": "fine", "value": "<b>"}],
        [{"key": "k" * 129, "value": "x"}],
        [{"key": "fine", "value": "v" * 257}],
    ],
)
def test_tags_that_break_the_rules_are_refused_and_none_is_kept(
    account: Account, arn: str, tags: list[dict[str, str]]
) -> None:
    with pytest.raises(account.client.exceptions.ValidationException):
        account.client.tag_resource(resourceArn=arn, tags=[{"key": "first", "value": "1"}, *tags])
    assert tags_of(account, arn) == {}


def test_fifty_tags_is_the_most_after_merging(account: Account, arn: str) -> None:
    account.client.tag_resource(
        resourceArn=arn, tags=[{"key": f"k{number}", "value": "1"} for number in range(50)]
    )
    account.client.tag_resource(resourceArn=arn, tags=[{"key": "k7", "value": "changed"}])
    with pytest.raises(account.client.exceptions.TooManyTagsException, match="50") as caught:
        account.client.tag_resource(resourceArn=arn, tags=[{"key": "k50", "value": "1"}])
    assert caught.value.response["resourceName"] == arn
    assert len(tags_of(account, arn)) == 50
    assert tags_of(account, arn)["k7"] == "changed"


def wrong_arns(account: Account, arn: str) -> list[tuple[str, str]]:
    """ARNs that name nothing of this account here, and the error each must get."""
    missing, invalid = "ResourceNotFoundException", "ValidationException"
    return [
        (arn[:-4] + "0000", missing),
        (arn.replace("namespace/", "workgroup/"), missing),
        (arn.replace("namespace/", "recoverypoint/"), missing),
        (arn.replace(REGION, OTHER_REGION), missing),
        (arn.replace(account.id, "999999999999"), missing),
        ("nonsense", invalid),
        (arn + "/more", invalid),
        (arn.upper(), invalid),
        (arn.replace("redshift-serverless", "redshift"), invalid),
        ("arn:aws:redshift-serverless", invalid),
    ]


def test_an_arn_that_names_nothing_here_is_refused_by_every_tag_operation(account: Account, arn: str) -> None:
    for wrong, error in wrong_arns(account, arn):
        for operation, more in (
            ("TagResource", {"tags": [{"key": "a", "value": "b"}]}),
            ("UntagResource", {"tagKeys": ["a"]}),
            ("ListTagsForResource", {}),
        ):
            answer = account.send(operation, json.dumps({"resourceArn": wrong, **more}).encode())
            assert (answer.status, answer.json()["__type"]) == (400, error), (operation, wrong)


def test_a_policy_reads_back_as_it_was_written_until_it_is_taken_off(account: Account, arn: str) -> None:
    document = policy("111122223333")
    put = account.client.put_resource_policy(resourceArn=arn, policy=document)["resourcePolicy"]
    assert put["resourceArn"] == arn
    assert json.loads(put["policy"]) == json.loads(document)
    assert account.client.get_resource_policy(resourceArn=arn)["resourcePolicy"] == put
    other = policy("444455556666")
    account.client.put_resource_policy(resourceArn=arn, policy=other)
    read = account.client.get_resource_policy(resourceArn=arn)["resourcePolicy"]["policy"]
    assert json.loads(read) == json.loads(other)
    account.client.delete_resource_policy(resourceArn=arn)
    for call in (account.client.get_resource_policy, account.client.delete_resource_policy):
        with pytest.raises(
            account.client.exceptions.ResourceNotFoundException, match="does not exist"
        ) as caught:
            call(resourceArn=arn)
        assert caught.value.response["resourceName"] == arn


def test_a_policy_goes_with_its_snapshot(warehouse: Warehouse) -> None:
    client = warehouse.client
    arn = warehouse.snapshot("shared")["snapshotArn"]
    client.put_resource_policy(resourceArn=arn, policy=policy("111122223333", effect="Deny"))
    client.delete_snapshot(snapshotName="shared")
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="does not exist"):
        client.get_resource_policy(resourceArn=arn)


@pytest.mark.parametrize(
    ("document", "restore", "provisioned"),
    [
        (policy("111122223333", "000000000001"), ["000000000001", "111122223333"], []),
        (policy("arn:aws:iam::111122223333:root"), ["111122223333"], []),
        (policy("111122223333", action=[RESTORE, "redshift-serverless:GetSnapshot"]), ["111122223333"], []),
        (policy("111122223333", action="redshift-serverless:GetSnapshot"), [], []),
        (policy("111122223333", effect="Deny"), [], []),
        (policy("111122223333", action="redshift:RestoreFromClusterSnapshot"), [], ["111122223333"]),
        (
            json.dumps(
                {"Statement": {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": RESTORE}}
            ),
            ["111122223333"],
            [],
        ),
    ],
)
def test_a_policy_on_a_snapshot_says_who_may_restore_it(
    warehouse: Warehouse, document: str, restore: list[str], provisioned: list[str]
) -> None:
    client = warehouse.client
    try:
        arn = client.get_snapshot(snapshotName="granted")["snapshot"]["snapshotArn"]
    except client.exceptions.ResourceNotFoundException:
        arn = warehouse.snapshot("granted")["snapshotArn"]
    client.put_resource_policy(resourceArn=arn, policy=document)
    snapshot = client.get_snapshot(snapshotName="granted")["snapshot"]
    assert snapshot["accountsWithRestoreAccess"] == restore
    assert snapshot["accountsWithProvisionedRestoreAccess"] == provisioned


@pytest.mark.parametrize(
    "document",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        '{"Statement": []}',
        '{"Statement": "x"}',
        '{"Statement": [{}]}',
        '{"Statement": [{"Effect": "Maybe"}]}',
        policy("not-an-account"),
        policy(),
        json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": RESTORE}]}),
        json.dumps({"Statement": [{"Effect": "Allow", "Principal": {"AWS": "111122223333"}}]}),
        json.dumps({"Statement": [{"Effect": ["Allow"], "Principal": {"AWS": "1" * 12}, "Action": RESTORE}]}),
        json.dumps({"Statement": [{"Effect": "Allow", "Principal": {"AWS": [7]}, "Action": RESTORE}]}),
        "[" * 5000,
    ],
)
def test_a_malformed_policy_is_refused(account: Account, arn: str, document: str) -> None:
    with pytest.raises(account.client.exceptions.ValidationException):
        account.client.put_resource_policy(resourceArn=arn, policy=document)


def test_a_snapshot_is_shared_with_twenty_accounts_at_most(account: Account, arn: str) -> None:
    accounts = [f"{number:012d}" for number in range(1, 22)]
    account.client.put_resource_policy(resourceArn=arn, policy=policy(*accounts[:20]))
    with pytest.raises(account.client.exceptions.ServiceQuotaExceededException, match="20"):
        account.client.put_resource_policy(resourceArn=arn, policy=policy(*accounts))


def test_an_arn_that_names_nothing_here_gets_no_policy(account: Account, arn: str) -> None:
    for wrong, error in wrong_arns(account, arn):
        body: dict[str, Any] = {"resourceArn": wrong, "policy": policy("111122223333")}
        answer = account.send("PutResourcePolicy", json.dumps(body).encode())
        assert (answer.status, answer.json()["__type"]) == (400, error), wrong
