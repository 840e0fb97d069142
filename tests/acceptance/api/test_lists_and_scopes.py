"""Paging of every list, and what one account or Region sees of another."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.service import OTHER_REGION, Account, Service, Warehouse, error_code

pytestmark = pytest.mark.acceptance

LISTS = {
    "list_namespaces": "namespaces",
    "list_workgroups": "workgroups",
    "list_snapshots": "snapshots",
}


@pytest.fixture(scope="module")
def crowded(service: Service) -> Account:
    """An account with seven namespaces."""
    account = service.account()
    for number in range(7):
        account.client.create_namespace(namespaceName=f"number-{number}")
    return account


@pytest.mark.parametrize(("operation", "member"), LISTS.items())
def test_an_empty_list_is_an_array_without_a_token(account: Account, operation: str, member: str) -> None:
    camel = "".join(part.capitalize() for part in operation.split("_"))
    assert account.send(camel, b"{}").json() == {member: []}
    assert getattr(account.client, operation)()[member] == []
    assert account.client.get_paginator(operation).paginate().build_full_result() == {member: []}


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 100])
def test_pages_of_any_size_hold_everything_once_and_the_last_has_no_token(
    crowded: Account, size: int
) -> None:
    paginator = crowded.client.get_paginator("list_namespaces")
    pages = list(paginator.paginate(PaginationConfig={"PageSize": size}))
    names = [item["namespaceName"] for page in pages for item in page["namespaces"]]
    assert names == [f"number-{number}" for number in range(7)]
    assert len(pages) == -(-7 // size)
    assert all(len(page["namespaces"]) <= size for page in pages)
    assert "nextToken" not in pages[-1]
    tokens = [page["nextToken"] for page in pages[:-1]]
    assert len(set(tokens)) == len(tokens)
    assert all(8 <= len(token) <= 1024 for token in tokens)


def test_snapshots_and_workgroups_are_paged_as_well(warehouse: Warehouse) -> None:
    for number in range(3):
        warehouse.snapshot(f"page-{number}")
    pages = list(warehouse.client.get_paginator("list_snapshots").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(page["snapshots"]) for page in pages] == [2, 1]
    pages = list(warehouse.client.get_paginator("list_workgroups").paginate(PaginationConfig={"PageSize": 1}))
    assert [len(page["workgroups"]) for page in pages] == [1]


def test_what_is_created_between_two_pages_does_not_disturb_them(account: Account) -> None:
    for name in ("aaa", "bbb", "ccc"):
        account.client.create_namespace(namespaceName=name)
    first = account.client.list_namespaces(maxResults=2)
    account.client.create_namespace(namespaceName="000-sorts-first")
    rest = account.client.list_namespaces(nextToken=first["nextToken"])
    assert [item["namespaceName"] for item in rest["namespaces"]] == ["ccc", "000-sorts-first"]


@pytest.mark.parametrize("token", ["nonsense", "x" * 1024, "AAAAAAAAAAAA", "ünïcödé-töken", "' OR 1=1 --"])
@pytest.mark.parametrize("operation", list(LISTS))
def test_a_token_that_was_never_given_out_is_refused(account: Account, operation: str, token: str) -> None:
    with pytest.raises(account.client.exceptions.ValidationException, match="token"):
        getattr(account.client, operation)(nextToken=token)


def test_a_token_is_good_for_its_own_list_filter_account_and_region_only(
    warehouse: Warehouse, crowded: Account
) -> None:
    token = crowded.client.list_namespaces(maxResults=1)["nextToken"]
    foreign = crowded.service.account()
    for client, operation in (
        (crowded.client, "list_workgroups"),
        (crowded.client, "list_snapshots"),
        (crowded.in_region(OTHER_REGION), "list_namespaces"),
        (foreign.client, "list_namespaces"),
    ):
        with pytest.raises(client.exceptions.ValidationException, match="token"):
            getattr(client, operation)(nextToken=token)
    for number in range(2):
        warehouse.snapshot(f"token-{number}")
    of_snapshots = warehouse.client.list_snapshots(maxResults=1)["nextToken"]
    with pytest.raises(warehouse.client.exceptions.ValidationException, match="token"):
        warehouse.client.list_snapshots(nextToken=of_snapshots, namespaceName="shop")


@pytest.mark.parametrize("size", [101, 2**31 - 1])
@pytest.mark.parametrize("operation", list(LISTS))
def test_more_than_a_hundred_a_page_is_refused(account: Account, operation: str, size: int) -> None:
    with pytest.raises(account.client.exceptions.ValidationException, match="less than or equal to 100"):
        getattr(account.client, operation)(maxResults=size)


def test_a_whole_quota_of_namespaces_is_one_page_when_nothing_is_said(account: Account) -> None:
    for number in range(25):
        account.client.create_namespace(namespaceName=f"number-{number}")
    answer = account.client.list_namespaces()
    assert len(answer["namespaces"]) == 25
    assert "nextToken" not in answer
    with pytest.raises(account.client.exceptions.ServiceQuotaExceededException, match="namespaces"):
        account.client.create_namespace(namespaceName="number-25")


def test_accounts_and_regions_do_not_see_each_other(warehouse: Warehouse, account: Account) -> None:
    warehouse.snapshot("private")
    mine, other_region = warehouse.client, warehouse.account.in_region(OTHER_REGION)
    arn = mine.get_namespace(namespaceName="shop")["namespace"]["namespaceArn"]
    for stranger in (account.client, other_region):
        for operation, member in LISTS.items():
            assert getattr(stranger, operation)()[member] == []
        for call in (
            lambda client=stranger: client.get_namespace(namespaceName="shop"),
            lambda client=stranger: client.get_workgroup(workgroupName="shop"),
            lambda client=stranger: client.get_snapshot(snapshotName="private"),
            lambda client=stranger: client.delete_snapshot(snapshotName="private"),
            lambda client=stranger: client.delete_workgroup(workgroupName="shop"),
            lambda client=stranger: client.create_snapshot(namespaceName="shop", snapshotName="stolen"),
            lambda client=stranger: client.list_tags_for_resource(resourceArn=arn),
            lambda client=stranger: client.get_credentials(workgroupName="shop"),
        ):
            assert error_code(call) == "ResourceNotFoundException"
    assert mine.get_snapshot(snapshotName="private")["snapshot"]["status"] == "AVAILABLE"


def test_the_same_names_live_side_by_side_in_other_accounts_and_regions(account: Account) -> None:
    other = account.service.account()
    clients = [account.client, account.in_region(OTHER_REGION), other.client]
    created = [client.create_namespace(namespaceName="same")["namespace"] for client in clients]
    arns = [namespace["namespaceArn"] for namespace in created]
    assert len(set(arns)) == 3
    assert f":{OTHER_REGION}:{account.id}:" in arns[1]
    assert f":{other.id}:" in arns[2]
    clients[0].delete_namespace(namespaceName="same")
    assert clients[1].get_namespace(namespaceName="same")["namespace"] == created[1]
    assert clients[2].get_namespace(namespaceName="same")["namespace"] == created[2]


def test_of_many_who_want_one_name_exactly_one_gets_it(account: Account) -> None:
    def attempt(_: int) -> str | None:
        return error_code(lambda: account.client.create_namespace(namespaceName="wanted"))

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(16)))
    assert sorted(outcomes, key=str) == ["ConflictException"] * 15 + [None]
    assert len(account.client.list_namespaces()["namespaces"]) == 1


def test_of_many_who_want_one_snapshot_or_workgroup_exactly_one_gets_it(warehouse: Warehouse) -> None:
    client = warehouse.client

    def race(call: Any) -> list[str | None]:
        with ThreadPoolExecutor(6) as pool:
            return list(pool.map(lambda _: error_code(call), range(6)))

    outcomes = race(lambda: client.create_snapshot(namespaceName="shop", snapshotName="wanted"))
    assert sorted(outcomes, key=str) == ["ConflictException"] * 5 + [None]
    warehouse.settle()
    client.create_namespace(namespaceName="raced")
    outcomes = race(
        lambda: client.create_workgroup(namespaceName="raced", workgroupName="raced", baseCapacity=8)
    )
    assert sorted(outcomes, key=str) == ["ConflictException"] * 5 + [None]
    other = Warehouse(account=warehouse.account, namespace="raced", workgroup="raced")
    other.settle()
    other.tear_down()


def test_of_many_who_delete_one_snapshot_exactly_one_does(warehouse: Warehouse) -> None:
    warehouse.snapshot("doomed")
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(
            pool.map(
                lambda _: error_code(lambda: warehouse.client.delete_snapshot(snapshotName="doomed")),
                range(6),
            )
        )
    assert sorted(outcomes, key=str) == [None] + ["ResourceNotFoundException"] * 5


def test_those_who_tag_one_resource_at_once_do_not_exceed_its_tags(account: Account) -> None:
    arn = account.client.create_namespace(namespaceName="shop")["namespace"]["namespaceArn"]
    account.client.tag_resource(
        resourceArn=arn, tags=[{"key": f"k{number}", "value": ""} for number in range(47)]
    )

    def tag(number: int) -> str | None:
        return error_code(
            lambda: account.client.tag_resource(
                resourceArn=arn, tags=[{"key": f"raced-{number}", "value": ""}]
            )
        )

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(tag, range(12)))
    assert outcomes.count(None) == 3
    assert outcomes.count("TooManyTagsException") == 9


def test_of_many_who_race_for_the_last_places_of_the_quota_no_more_than_these_get_one(
    account: Account,
) -> None:
    for number in range(20):
        account.client.create_namespace(namespaceName=f"taken-{number}")
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(
            pool.map(
                lambda number: error_code(
                    lambda: account.client.create_namespace(namespaceName=f"raced-{number}")
                ),
                range(16),
            )
        )
    assert outcomes.count(None) == 5
    assert outcomes.count("ServiceQuotaExceededException") == 11
