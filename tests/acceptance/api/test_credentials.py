"""GetCredentials, and database users that log in until their time is over."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redshift_connector

from support.service import Account, Warehouse, make_warehouse

pytestmark = pytest.mark.acceptance


def get(warehouse: Warehouse, **options: Any) -> dict[str, Any]:
    """Credentials for the shared workgroup."""
    answer: dict[str, Any] = warehouse.client.get_credentials(workgroupName="shop", **options)
    return answer


def login_of(credentials: dict[str, Any]) -> dict[str, str]:
    """What `Warehouse.connect` takes."""
    return {"user": credentials["dbUser"], "password": credentials["dbPassword"]}


def test_the_password_logs_in_as_the_caller_with_the_rights_of_everybody(warehouse: Warehouse) -> None:
    warehouse.query("CREATE TABLE secret AS SELECT 1 AS one")
    credentials = get(warehouse, dbName="dev")
    assert credentials["dbUser"] == "IAM:root"
    assert warehouse.query("SELECT current_user", **login_of(credentials)) == [("IAM:root",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        warehouse.query("SELECT * FROM secret", **login_of(credentials))
    warehouse.query("DROP TABLE secret")


def test_an_iam_user_gets_a_database_user_of_its_own_name(warehouse: Warehouse) -> None:
    caller = warehouse.account.service.another_key(warehouse.account.id, user_name="ada.lovelace@example")
    credentials = caller.client.get_credentials(workgroupName="shop")
    assert credentials["dbUser"] == "IAM:ada.lovelace@example"
    assert warehouse.query("SELECT current_user", **login_of(credentials)) == [("IAM:ada.lovelace@example",)]


def test_the_password_lives_fifteen_minutes_unless_told_otherwise(warehouse: Warehouse) -> None:
    now = datetime.now(UTC)
    first = get(warehouse)
    assert timedelta(minutes=14) < first["expiration"] - now < timedelta(minutes=16)
    assert now < first["nextRefreshTime"] < first["expiration"]
    longest = get(warehouse, durationSeconds=3600)
    assert timedelta(minutes=59) < longest["expiration"] - now < timedelta(minutes=61)


def test_postgresql_itself_knows_when_the_password_ends(warehouse: Warehouse) -> None:
    caller = warehouse.account.service.another_key(warehouse.account.id, user_name="clock")
    credentials = caller.client.get_credentials(workgroupName="shop", durationSeconds=1800)
    ((until,),) = warehouse.query("SELECT rolvaliduntil FROM pg_roles WHERE rolname = 'IAM:clock'")
    assert abs(until - credentials["expiration"]) < timedelta(seconds=2)


def test_a_password_whose_time_is_over_no_longer_logs_in(warehouse: Warehouse) -> None:
    caller = warehouse.account.service.another_key(warehouse.account.id, user_name="expiring")
    credentials = caller.client.get_credentials(workgroupName="shop")
    assert warehouse.query("SELECT 1", **login_of(credentials)) == [(1,)]
    # The admin, who may act for every temporary user, lets its time end now instead of in 15 minutes.
    warehouse.query("""ALTER ROLE "IAM:expiring" VALID UNTIL '2020-01-01'""")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse.connect(**login_of(credentials))


def test_asking_again_gives_a_password_that_works_and_so_does_the_first(warehouse: Warehouse) -> None:
    first, second = get(warehouse), get(warehouse)
    for credentials in (first, second):
        assert warehouse.query("SELECT 1", **login_of(credentials)) == [(1,)]


def test_the_redshift_driver_connects_with_these_credentials(warehouse: Warehouse) -> None:
    credentials = get(warehouse, dbName="dev")
    endpoint = warehouse.client.get_workgroup(workgroupName="shop")["workgroup"]["endpoint"]
    connection = redshift_connector.connect(
        host=endpoint["address"],
        port=endpoint["port"],
        database="dev",
        user=credentials["dbUser"],
        password=credentials["dbPassword"],
        ssl=False,
    )
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT current_user, %s + 1", (41,))
        assert cursor.fetchone() == ["IAM:root", 42]
    finally:
        connection.close()


@pytest.mark.parametrize("seconds", [899, 3601, 0, -1, 2**31 - 1])
def test_a_duration_out_of_range_is_refused(warehouse: Warehouse, seconds: int) -> None:
    with pytest.raises(warehouse.client.exceptions.ValidationException, match="between 900 and 3600"):
        get(warehouse, durationSeconds=seconds)


@pytest.mark.parametrize("name", ["1dev", "", "de v", "a" * 65, "select", "dev;x"])
def test_a_database_name_that_breaks_the_rules_is_refused(warehouse: Warehouse, name: str) -> None:
    with pytest.raises(warehouse.client.exceptions.ValidationException):
        get(warehouse, dbName=name)


def test_a_missing_workgroup_or_custom_domain_is_not_found(account: Account) -> None:
    missing = account.client.exceptions.ResourceNotFoundException
    with pytest.raises(missing, match=r"Serverless workgroup nowhere not found\."):
        account.client.get_credentials(workgroupName="nowhere")
    with pytest.raises(missing, match="Custom domain"):
        account.client.get_credentials(customDomainName="db.example.com")
    with pytest.raises(
        account.client.exceptions.ValidationException, match="workgroupName or customDomainName"
    ):
        account.client.get_credentials()


def test_a_workgroup_that_is_not_available_yet_has_no_credentials(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop")
    account.client.create_workgroup(namespaceName="shop", workgroupName="shop", baseCapacity=8)
    with pytest.raises(account.client.exceptions.ValidationException, match="not available"):
        account.client.get_credentials(workgroupName="shop")
    made = Warehouse(account=account, namespace="shop", workgroup="shop")
    made.settle()
    made.tear_down()


def test_times_are_epoch_numbers_on_the_wire(warehouse: Warehouse) -> None:
    answer = warehouse.account.send("GetCredentials", b'{"workgroupName":"shop"}').json()
    for member in ("expiration", "nextRefreshTime"):
        assert isinstance(answer[member], int | float)
        assert abs(answer[member] - time.time()) < 3700


def test_another_account_has_no_credentials_for_this_workgroup(
    warehouse: Warehouse, account: Account
) -> None:
    with pytest.raises(account.client.exceptions.ResourceNotFoundException):
        account.client.get_credentials(workgroupName="shop")


def test_a_user_who_owns_things_is_still_the_same_user_after_a_refresh(account: Account) -> None:
    made = make_warehouse(account, "shop")
    first = account.client.get_credentials(workgroupName="shop")
    made.query("CREATE TABLE own AS SELECT 3 AS three", **login_of(first))
    again = account.client.get_credentials(workgroupName="shop", durationSeconds=3600)
    assert made.query("SELECT three FROM own", **login_of(again)) == [(3,)]
    assert made.query("SELECT three FROM own") == [(3,)]
    made.tear_down()
