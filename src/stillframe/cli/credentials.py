"""`stillframe credentials`: access keys of the service."""

from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import RenderableType

from stillframe.cli.connection import connect
from stillframe.cli.options import DEFAULTS, Common
from stillframe.cli.output import facts, human_time, table

app = App(name="credentials", help="Access keys of the service.")


@app.command
def add(
    *,
    user: Annotated[str | None, Parameter(help="The name of the user that the key acts as.")] = None,
    account: Annotated[
        str | None, Parameter(help="Twelve digits; another account sees other resources.")
    ] = None,
    common: Common = DEFAULTS,
) -> None:
    """Make a new access key. Its secret is shown once, here."""
    answer = connect(common.data).extend("create_access_key", userName=user, accountId=account)
    common.terminal.result({"accessKey": answer["accessKey"]}, lambda: _one(answer["accessKey"]))


@app.command(name="list")
def list_(*, common: Common = DEFAULTS) -> None:
    """List the access keys, without their secrets."""
    keys = connect(common.data).extend("list_access_keys")["accessKeys"]
    common.terminal.result({"accessKeys": keys}, lambda: _many(keys))


@app.command
def remove(access_key_id: str, /, *, common: Common = DEFAULTS) -> None:
    """Delete an access key; requests signed with it are refused from then on."""
    connect(common.data).extend("delete_access_key", accessKeyId=access_key_id)
    common.terminal.remark(f"The access key {access_key_id} is deleted.")


def _one(key: dict[str, Any]) -> RenderableType:
    return facts(
        {
            "Access key id": key["accessKeyId"],
            "Secret access key": key["secretAccessKey"],
            "Account": key.get("accountId"),
            "User": key.get("userName"),
        }
    )


def _many(keys: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            key["accessKeyId"],
            key.get("accountId", "-"),
            key.get("userName", "-"),
            human_time(key.get("createdAt")),
        )
        for key in keys
    ]
    return table(("Access key id", "Account", "User", "Created"), rows)
