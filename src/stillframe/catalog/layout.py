"""How a record becomes a row and a row a record: found once per record type from its type hints.

No code knows a particular record here, so a field added to a record needs its column and nothing else.
"""

import dataclasses
import math
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from stillframe.errors import InternalError, InvalidRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """Both directions between a field's value and what the driver takes and gives; None never gets here."""

    to_row: Callable[[Any], Any]
    from_row: Callable[[Any], Any]


class Layout(Generic[T]):
    """The correspondence of one record type and its table."""

    def __init__(self, record_type: type[T], table: sa.Table) -> None:
        hints = typing.get_type_hints(record_type)
        fields = dataclasses.fields(record_type)  # type: ignore[arg-type]
        self.record_type = record_type
        self.table = table
        self.names = tuple(field.name for field in fields)
        self.keys = tuple(column.name for column in table.primary_key.columns)
        self.has_creation_time = "created_at" in self.names
        self._codecs = {name: codec_for(hints[name]) for name in self.names}
        self.columns = tuple(self.column(name) for name in self.names)
        self._readers = tuple((name, self._codecs[name].from_row) for name in self.names)

    def column(self, name: str) -> "sa.Column[Any]":
        """The column of a field. Raises InternalError when the record or its table has no such field."""
        if name not in self._codecs or name not in self.table.c:
            raise InternalError(f"{self.record_type.__name__} has no field {name!r} in the catalog.")
        return self.table.c[name]

    def to_value(self, name: str, value: object) -> object:
        """One field's value as the driver takes it. Raises InvalidRequest for text that cannot be stored."""
        if value is None:
            return None
        return self._codecs[name].to_row(value)

    def to_row(self, record: T) -> dict[str, object]:
        """All columns of a record, as the driver takes them."""
        return {name: self.to_value(name, getattr(record, name)) for name in self.names}

    def to_record(self, row: "sa.Row[Any]") -> T:
        """The record of a row that was selected by `columns`."""
        return self.record_type(
            **{
                name: None if value is None else read(value)
                for (name, read), value in zip(self._readers, row, strict=True)
            }
        )


def codec_for(hint: object) -> Codec:
    """How values of a type hint are stored. Raises InternalError for a type the catalog has no form for."""
    hint = _bare(hint)
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _tuple_codec(typing.get_args(hint))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return Codec(to_row=_json_ready, from_row=_unchanged)
    if not isinstance(hint, type):
        raise InternalError(f"The catalog has no form for {hint!r}.")
    return _class_codec(hint)


def _bare(hint: object) -> object:
    """Without NewType and without None: neither changes the form in which a value is stored."""
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        present = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        return _bare(present[0]) if len(present) == 1 else hint
    return hint


def _class_codec(kind: type) -> Codec:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if issubclass(kind, Enum):
        return Codec(to_row=lambda member: kind(member).value, from_row=kind)
    if issubclass(kind, int):
        return Codec(to_row=int, from_row=kind)
    raise InternalError(f"The catalog has no form for {kind.__name__}.")


def _tuple_codec(kinds: tuple[object, ...]) -> Codec:
    """`tuple[X, ...]` holds any number of X; `tuple[X, Y]` one of each."""
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        item = _item_codec(kinds[0])
        return Codec(
            to_row=lambda values: [item.to_row(value) for value in values],
            from_row=lambda values: tuple(item.from_row(value) for value in values),
        )
    items = [_item_codec(kind) for kind in kinds]
    return Codec(
        to_row=lambda values: [item.to_row(value) for item, value in zip(items, values, strict=True)],
        from_row=lambda values: tuple(
            item.from_row(value) for item, value in zip(items, values, strict=True)
        ),
    )


def _item_codec(hint: object) -> Codec:
    """How a tuple's item is stored: inside JSON, which has no identifiers, times or bytes."""
    kind = _bare(hint)
    if kind is uuid.UUID:
        return Codec(to_row=str, from_row=uuid.UUID)
    if kind in {datetime, bytes}:
        raise InternalError(f"The catalog has no form for {kind!r} inside of a tuple.")
    return codec_for(kind)


def _unchanged(value: Any) -> Any:
    return value


def _storable_text(value: str) -> str:
    """PostgreSQL's text is UTF-8 without the zero character (PostgreSQL documentation, 8.3)."""
    if "\x00" in value:
        raise InvalidRequest("A text contains the zero character, which cannot be stored.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("A text contains half of a surrogate pair, which cannot be stored.") from None
    return str(value)


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise InternalError("A time without a time zone was about to be stored.")
    return value.astimezone(UTC)


def _json_ready(value: Any) -> Any:
    """The value as plain JSON types; raises InvalidRequest or InternalError where JSON has no such value."""
    if isinstance(value, str):
        return _storable_text(value)
    if isinstance(value, Mapping):
        return {_storable_text(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise InternalError(f"A value of type {type(value).__name__} was about to be stored as JSON.")


_PLAIN: dict[type, Codec] = {
    str: Codec(to_row=_storable_text, from_row=_unchanged),
    int: Codec(to_row=int, from_row=int),
    bool: Codec(to_row=_unchanged, from_row=_unchanged),
    float: Codec(to_row=float, from_row=_unchanged),
    bytes: Codec(to_row=_unchanged, from_row=bytes),
    uuid.UUID: Codec(to_row=_unchanged, from_row=_unchanged),
    datetime: Codec(to_row=_aware, from_row=_aware),
}
