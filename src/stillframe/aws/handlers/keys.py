"""Our operations on keys."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.domain.access import Caller
from stillframe.service.keys import KeyEntry, Keys


class KeyHandlers:
    """CreateKey, ListKeys, DescribeKey, AssignKeyAlias, RotateKey, DisableKey, EnableKey: all ours."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {
            "CreateKey": self.create,
            "ListKeys": self.list,
            "DescribeKey": self.describe,
            "AssignKeyAlias": self.assign,
            "RotateKey": self.rotate,
            "DisableKey": self.disable,
            "EnableKey": self.enable,
        }

    def create(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """CreateKey."""
        return _one(
            self._keys.create(caller, alias=members.get("alias"), chosen_id=members.get("keyId") or None)
        )

    def list(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - the port
        """ListKeys."""
        return {"keys": [_present(entry) for entry in self._keys.list(caller)]}

    def describe(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """DescribeKey."""
        return _one(self._keys.describe(caller, members["keyId"]))

    def assign(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """AssignKeyAlias."""
        return _one(self._keys.assign(caller, alias=members["alias"], text=members["keyId"]))

    def rotate(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """RotateKey."""
        rotated = self._keys.rotate(caller, members["keyId"])
        return {"key": _present(rotated.entry), "rewrapped": rotated.rewrapped, "behind": rotated.behind}

    def disable(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """DisableKey."""
        return _one(self._keys.disable(caller, members["keyId"]))

    def enable(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """EnableKey."""
        return _one(self._keys.enable(caller, members["keyId"]))


def _one(entry: KeyEntry) -> Mapping[str, Any]:
    return {"key": _present(entry)}


def _present(entry: KeyEntry) -> Mapping[str, Any]:
    return {
        "keyId": entry.key.key_id,
        "state": entry.key.state.value,
        "version": entry.key.version,
        "createdAt": entry.key.created_at,
        "aliases": list(entry.aliases),
    }
