"""`stillframe key`: the keys that `kmsKeyId` can name."""

from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import RenderableType

from stillframe.cli.connection import connect
from stillframe.cli.options import DEFAULTS, Common
from stillframe.cli.output import facts, human_time, table

app = App(name="key", help="The keys that snapshots are encrypted under.")


@app.command
def create(
    *,
    alias: Annotated[
        str | None, Parameter(help="A name for it, `alias/…`, that can be moved to another key later.")
    ] = None,
    key_id: Annotated[
        str | None,
        Parameter(name="--id", help="The UUID it shall have, for configurations that name one already."),
    ] = None,
    common: Common = DEFAULTS,
) -> None:
    """Make a new key. Give its ARN to a namespace as `kmsKeyId`."""
    _show(common, connect(common.data).extend("create_key", alias=alias, keyId=key_id))


@app.command(name="list")
def list_(*, common: Common = DEFAULTS) -> None:
    """List the keys, without their material."""
    keys = connect(common.data).extend("list_keys")["keys"]
    common.terminal.result({"keys": keys}, lambda: _many(keys))


@app.command
def describe(key: str, /, *, common: Common = DEFAULTS) -> None:
    """Show a key, named by id, alias or ARN."""
    _show(common, connect(common.data).extend("describe_key", keyId=key))


@app.command
def alias(name: str, key: str, /, *, common: Common = DEFAULTS) -> None:
    """Let an alias stand for a key. Namespaces that name the alias take their next snapshot under that key."""
    _show(common, connect(common.data).extend("assign_key_alias", alias=name, keyId=key))


@app.command
def rotate(key: str, /, *, common: Common = DEFAULTS) -> int:
    """Give a key new material. What it protects stays readable. Exit status 1 when a repository is behind."""
    answer = connect(common.data).extend("rotate_key", keyId=key)
    told = {name: answer.get(name) for name in ("key", "rewrapped", "behind")}
    common.terminal.result(told, lambda: _one(answer["key"]))
    if not answer["behind"]:
        return 0
    common.terminal.remark(
        f"{answer['behind']} repositories could not be written; what they hold opens with the old material. "
        "Rotate again when they can be."
    )
    return 1


@app.command
def disable(key: str, /, *, common: Common = DEFAULTS) -> None:
    """Forbid a key's use: nothing under it can be read, and no snapshot be taken, until it is enabled."""
    _show(common, connect(common.data).extend("disable_key", keyId=key))


@app.command
def enable(key: str, /, *, common: Common = DEFAULTS) -> None:
    """Allow a key's use again."""
    _show(common, connect(common.data).extend("enable_key", keyId=key))


def _show(common: Common, answer: dict[str, Any]) -> None:
    common.terminal.result({"key": answer["key"]}, lambda: _one(answer["key"]))


def _one(key: dict[str, Any]) -> RenderableType:
    return facts(
        {
            "Key": key["keyId"],
            "State": key.get("state"),
            "Version": str(key["version"]) if "version" in key else None,
            "Aliases": ", ".join(key.get("aliases", [])) or None,
            "Created": human_time(key.get("createdAt")),
        }
    )


def _many(keys: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            key["keyId"],
            key.get("state", "-"),
            str(key.get("version", "-")),
            ", ".join(key.get("aliases", [])) or "-",
            human_time(key.get("createdAt")),
        )
        for key in keys
    ]
    return table(("Key", "State", "Version", "Aliases", "Created"), rows)
