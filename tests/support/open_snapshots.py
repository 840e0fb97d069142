"""Opening snapshots through our extension, and waiting for what becomes of them."""

from contextlib import closing
from typing import Any

import psycopg

from support.service import wait_for


def opened(operator: Any, name: str, **options: Any) -> dict[str, Any]:
    """The copy of a snapshot once it is OPEN, with its password."""
    answer = operator.open_snapshot(snapshotName=name, **options)
    identifier = answer["openSnapshot"]["openSnapshotId"]
    copy = wait_for(
        lambda: one(operator, identifier), lambda found: found is None or found["status"] != "OPENING"
    )
    assert copy is not None
    assert copy["status"] == "OPEN", copy
    return {**copy, "password": answer["password"]}


def one(operator: Any, identifier: str) -> dict[str, Any] | None:
    """The copy of that id; None when there is none any more."""
    found = operator.list_open_snapshots(openSnapshotId=identifier)["openSnapshots"]
    return found[0] if found else None


def await_closed(operator: Any, identifier: str) -> None:
    """Wait until nothing of the copy is left in the catalog."""
    wait_for(lambda: one(operator, identifier), lambda found: found is None)


def log_in(copy: dict[str, Any], database: str = "dev", **login: str) -> "psycopg.Connection[Any]":
    """A connection to an open copy, with its own login unless another one is given."""
    return psycopg.connect(
        host=copy["address"],
        port=copy["port"],
        user=login.get("user", copy["username"]),
        password=login.get("password", copy["password"]),
        dbname=database,
        autocommit=True,
        connect_timeout=30,
    )


def ask(copy: dict[str, Any], statement: str, database: str = "dev", **login: str) -> list[tuple[Any, ...]]:
    """The rows of one statement on an open copy."""
    with closing(log_in(copy, database, **login)) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def prove(operator: Any, name: str) -> dict[str, Any]:
    """The proof of a snapshot, asked for and waited for."""
    asked = operator.prove_snapshot(snapshotName=name)["operation"]
    wait_for(
        lambda: operation(operator, asked["operationId"]),
        lambda found: found["status"] in {"succeeded", "failed", "cancelled"},
    )
    ended = operation(operator, asked["operationId"])
    assert ended["status"] == "succeeded", ended
    detail: dict[str, Any] = operator.describe_snapshot(snapshotName=name)["detail"]
    return dict(detail["proof"])


def operation(operator: Any, identifier: str) -> dict[str, Any]:
    """One operation of the account, as it is now."""
    token: str | None = None
    while True:
        page = operator.list_operations(maxResults=100, **({"nextToken": token} if token else {}))
        for item in page["operations"]:
            if item["operationId"] == identifier:
                return dict(item)
        token = page.get("nextToken")
        assert token is not None, f"no operation {identifier}"
