"""CreateNamespace, GetNamespace, ListNamespaces: every parameter, every field, every documented refusal."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.service import PASSWORD, REGION, Account

pytestmark = pytest.mark.acceptance

ROLE = "arn:aws:iam::123456789012:role/analytics/Loader"
OTHER_ROLE = "arn:aws:iam::123456789012:role/Reader"
UNKNOWN_KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def test_a_namespace_of_nothing_but_a_name_has_the_documented_defaults(account: Account) -> None:
    answer = account.client.create_namespace(namespaceName="shop")
    namespace = dict(answer["namespace"])
    assert re.fullmatch(UUID, namespace["namespaceId"])
    created: datetime = namespace.pop("creationDate")
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=5)
    assert namespace == {
        "adminUsername": "admin",
        "dbName": "dev",
        "iamRoles": [],
        "kmsKeyId": "AWS_OWNED_KMS_KEY",
        "logExports": [],
        "namespaceArn": f"arn:aws:redshift-serverless:{REGION}:{account.id}:namespace/{namespace['namespaceId']}",
        "namespaceId": namespace["namespaceId"],
        "namespaceName": "shop",
        "status": "AVAILABLE",
    }


def test_every_parameter_of_a_namespace_comes_back_in_its_answer(account: Account) -> None:
    key = account.make_key()
    created = account.client.create_namespace(
        namespaceName="shop-2",
        adminUsername="Owner_1",
        adminUserPassword=PASSWORD,
        dbName="sales",
        defaultIamRoleArn=ROLE,
        iamRoles=[ROLE, OTHER_ROLE],
        kmsKeyId=key,
        logExports=["userlog", "connectionlog", "useractivitylog"],
        tags=[{"key": "team", "value": "bi"}],
    )["namespace"]
    assert created["adminUsername"] == "Owner_1"
    assert created["dbName"] == "sales"
    assert created["defaultIamRoleArn"] == ROLE
    assert created["iamRoles"] == [
        f"IamRole(applyStatus=in-sync, iamRoleArn={ROLE})",
        f"IamRole(applyStatus=in-sync, iamRoleArn={OTHER_ROLE})",
    ]
    assert created["kmsKeyId"] == key
    assert created["logExports"] == ["userlog", "connectionlog", "useractivitylog"]
    assert account.client.list_tags_for_resource(resourceArn=created["namespaceArn"])["tags"] == [
        {"key": "team", "value": "bi"}
    ]


def test_a_namespace_reads_back_as_it_was_created(account: Account) -> None:
    created = account.client.create_namespace(namespaceName="shop", dbName="sales")["namespace"]
    assert account.client.get_namespace(namespaceName="shop")["namespace"] == created
    assert account.client.list_namespaces()["namespaces"] == [created]


def test_no_answer_ever_holds_the_admin_password(account: Account) -> None:
    answer = account.client.create_namespace(
        namespaceName="shop", adminUsername="admin", adminUserPassword=PASSWORD
    )
    assert PASSWORD not in repr(answer)
    assert PASSWORD not in repr(account.client.get_namespace(namespaceName="shop"))


def test_a_managed_password_is_shown_as_a_secret(account: Account) -> None:
    namespace = account.client.create_namespace(namespaceName="shop", manageAdminPassword=True)["namespace"]
    assert namespace["adminPasswordSecretArn"].startswith(
        f"arn:aws:secretsmanager:{REGION}:{account.id}:secret:"
    )
    assert namespace["adminPasswordSecretKmsKeyId"] == "AWS_OWNED_KMS_KEY"
    username, password = account.service.reveal_secret(account, namespace["adminPasswordSecretArn"])
    assert username == "admin"
    assert len(password) >= 8


def test_a_managed_password_is_kept_under_the_key_that_was_named(account: Account) -> None:
    key = account.make_key()
    namespace = account.client.create_namespace(
        namespaceName="shop", adminUsername="boss", manageAdminPassword=True, adminPasswordSecretKmsKeyId=key
    )["namespace"]
    assert namespace["adminPasswordSecretKmsKeyId"] == key
    assert namespace["adminUsername"] == "boss"


def test_a_second_namespace_of_the_same_name_is_refused(account: Account) -> None:
    account.client.create_namespace(namespaceName="shop")
    with pytest.raises(
        account.client.exceptions.ConflictException, match=r"Serverless namespace shop already exists\."
    ):
        account.client.create_namespace(namespaceName="shop")


def test_a_missing_namespace_is_not_found_by_name(account: Account) -> None:
    with pytest.raises(
        account.client.exceptions.ResourceNotFoundException, match=r"Serverless namespace nowhere not found\."
    ) as caught:
        account.client.get_namespace(namespaceName="nowhere")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert caught.value.response["resourceName"] == "nowhere"


@pytest.mark.parametrize(
    "name", ["a" * 65, "Shop", "shop_1", "shop.1", "shop 1", "späti", "shop\n", "select", "default"]
)
def test_a_name_that_breaks_the_rules_is_refused(account: Account, name: str) -> None:
    with pytest.raises(account.client.exceptions.ValidationException):
        account.client.create_namespace(namespaceName=name)
    assert account.client.list_namespaces()["namespaces"] == []


@pytest.mark.parametrize("name", ["abc", "a" * 64, "0-0", "---", "shop-1"])
def test_a_name_within_the_rules_is_accepted(account: Account, name: str) -> None:
    assert account.client.create_namespace(namespaceName=name)["namespace"]["namespaceName"] == name


@pytest.mark.parametrize(
    "password",
    [
        *("Short1x", "nouppercase1", "NOLOWERCASE1", "NoDigitHere", "With'quote1", 'With"quote1'),
        *("With\\slash1", "With/slash1", "With@at1111", "With space1", "Long1" * 13, "Ünicode1x"),
    ],
)
def test_a_weak_or_odd_admin_password_is_refused_and_not_repeated(account: Account, password: str) -> None:
    with pytest.raises(account.client.exceptions.ValidationException) as caught:
        account.client.create_namespace(
            namespaceName="shop", adminUsername="admin", adminUserPassword=password
        )
    assert password not in str(caught.value)


@pytest.mark.parametrize(
    ("admin", "words"),
    [
        ({"adminUsername": "admin"}, "Specify both the user name and password, or neither."),
        ({"adminUserPassword": PASSWORD}, "Specify both the user name and password, or neither."),
        ({"adminUserPassword": PASSWORD, "manageAdminPassword": True}, "manageAdminPassword"),
        ({"adminPasswordSecretKmsKeyId": UNKNOWN_KEY}, "manageAdminPassword"),
        ({"adminUsername": "1st", "adminUserPassword": PASSWORD}, "user name"),
        ({"adminUsername": "postgres;", "adminUserPassword": PASSWORD}, "user name"),
        ({"adminUsername": "pg_admin", "adminUserPassword": PASSWORD}, "reserved"),
        ({"adminUsername": "select", "adminUserPassword": PASSWORD}, "reserved"),
        ({"adminUsername": "stillframe", "adminUserPassword": PASSWORD}, "reserved"),
        ({"adminUsername": "public", "adminUserPassword": PASSWORD}, "reserved"),
    ],
)
def test_an_admin_that_breaks_the_rules_is_refused(
    account: Account, admin: dict[str, Any], words: str
) -> None:
    with pytest.raises(account.client.exceptions.ValidationException, match=words):
        account.client.create_namespace(namespaceName="shop", **admin)


@pytest.mark.parametrize(
    "parameters",
    [
        {"dbName": "1sales"},
        {"dbName": "select"},
        {"dbName": "template1"},
        {"dbName": "a" * 65},
        {"dbName": "sales;drop"},
        {"iamRoles": ["not-an-arn"]},
        {"defaultIamRoleArn": ROLE},
        {"defaultIamRoleArn": ROLE, "iamRoles": [OTHER_ROLE]},
        {"kmsKeyId": "not a key"},
        {"kmsKeyId": "../../etc/passwd"},
        {"logExports": ["everything"]},
        {"logExports": ["userlog"] * 17},
        {"tags": [{"key": "aws:me", "value": "x"}]},
        {"tags": [{"key": "twice", "value": "1"}, {"key": "twice", "value": "2"}]},
        {"tags": [{"key": "k" * 129, "value": "x"}]},
        {"tags": [{"key": "k", "value": "v" * 257}]},
        {"tags": [{"key": f"k{number}", "value": ""} for number in range(201)]},
    ],
)
def test_a_value_out_of_its_range_is_refused(account: Account, parameters: dict[str, Any]) -> None:
    with pytest.raises(account.client.exceptions.ValidationException):
        account.client.create_namespace(namespaceName="shop", **parameters)
    assert account.client.list_namespaces()["namespaces"] == []


def test_more_tags_than_a_resource_can_have_are_too_many_tags(account: Account) -> None:
    tags = [{"key": f"k{number}", "value": ""} for number in range(51)]
    with pytest.raises(account.client.exceptions.TooManyTagsException, match="50"):
        account.client.create_namespace(namespaceName="shop", tags=tags)
    assert account.client.create_namespace(namespaceName="shop", tags=tags[:50])["namespace"]


def test_all_violations_are_named_in_one_message(account: Account) -> None:
    with pytest.raises(account.client.exceptions.ValidationException) as caught:
        account.client.create_namespace(namespaceName="NO-CAPITALS", logExports=["everything"])
    message = caught.value.response["Error"]["Message"]
    assert message.startswith("2 validation errors detected: ")
    assert "'namespaceName' failed to satisfy constraint" in message
    assert "[useractivitylog, userlog, connectionlog]" in message


def test_a_name_that_boto3_itself_would_not_send_is_refused_too(account: Account) -> None:
    answer = account.send("CreateNamespace", b'{"namespaceName":"ab"}')
    assert answer.status == 400
    assert answer.json()["__type"] == "ValidationException"
    assert "length greater than or equal to 3" in answer.json()["message"]
