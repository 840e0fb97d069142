"""The types of a service model, resolved: no names left to look up, patterns compiled.

The document they are built from is the service model format of the AWS SDKs (`service-2.json`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from stillframe.errors import FormatUnknown


class TimestampStyle(StrEnum):
    """How a moment is written in JSON; values are the model's own words."""

    EPOCH = "unixTimestamp"
    ISO = "iso8601"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Least and greatest length or value, both inclusive; None is no limit."""

    least: int | None
    greatest: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StringShape:
    """Text. `length` counts characters; an empty `enum` allows any value."""

    name: str
    length: Bounds
    pattern: re.Pattern[str] | None
    enum: tuple[str, ...]
    sensitive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerShape:
    """A signed whole number of 32 or 64 bits."""

    name: str
    bits: int
    value: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleShape:
    """A finite number."""

    name: str
    value: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class BooleanShape:
    """True or false."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampShape:
    """A moment in UTC."""

    name: str
    style: TimestampStyle


@dataclass(frozen=True, slots=True, kw_only=True)
class ListShape:
    """Items of one shape."""

    name: str
    member: "Shape"
    length: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class MapShape:
    """Text keys to values of one shape."""

    name: str
    key: "Shape"
    value: "Shape"
    length: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureShape:
    """Named members. A `union` has exactly one of them."""

    name: str
    members: Mapping[str, "Shape"]
    required: tuple[str, ...]
    union: bool
    sensitive: bool


ScalarShape = StringShape | IntegerShape | DoubleShape | BooleanShape | TimestampShape
Shape = ScalarShape | ListShape | MapShape | StructureShape

Definition = Mapping[str, Any]

EMPTY_STRUCTURE = StructureShape(name="Unit", members={}, required=(), union=False, sensitive=False)
"""What an operation without input or output takes or gives."""


def _bounds(definition: Definition) -> Bounds:
    return Bounds(least=definition.get("min"), greatest=definition.get("max"))


def _string(name: str, definition: Definition) -> StringShape:
    pattern = definition.get("pattern")
    return StringShape(
        name=name,
        length=_bounds(definition),
        pattern=re.compile(pattern, re.ASCII) if pattern else None,
        enum=tuple(definition.get("enum", ())),
        sensitive=bool(definition.get("sensitive", False)),
    )


def _integer(name: str, definition: Definition, *, bits: int) -> IntegerShape:
    return IntegerShape(name=name, bits=bits, value=_bounds(definition))


def _double(name: str, definition: Definition) -> DoubleShape:
    return DoubleShape(name=name, value=_bounds(definition))


def _boolean(name: str, _definition: Definition) -> BooleanShape:
    return BooleanShape(name=name)


def _timestamp(name: str, definition: Definition) -> TimestampShape:
    # The JSON protocol writes epoch numbers wherever the model names no format.
    style = definition.get("timestampFormat", TimestampStyle.EPOCH)
    return TimestampShape(name=name, style=TimestampStyle(style))


_SCALARS: Mapping[str, Callable[[str, Definition], ScalarShape]] = {
    "string": _string,
    "integer": partial(_integer, bits=32),
    "long": partial(_integer, bits=64),
    "double": _double,
    "float": _double,
    "boolean": _boolean,
    "timestamp": _timestamp,
}


class ShapeResolver:
    """Turns the `shapes` of a service model into linked objects; each name is resolved once."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self._definitions = definitions
        self._resolved: dict[str, Shape] = {}

    def structure(self, reference: Definition | None) -> StructureShape:
        """The structure that `{"shape": name}` refers to, the empty one for None.

        Raises FormatUnknown if the name is that of another type.
        """
        if reference is None:
            return EMPTY_STRUCTURE
        shape = self.shape(reference["shape"])
        if not isinstance(shape, StructureShape):
            raise FormatUnknown(f"The shape {shape.name} of the service model is not a structure")
        return shape

    def shape(self, name: str) -> Shape:
        """The shape of that name; FormatUnknown if the model has none or its type is not known."""
        known = self._resolved.get(name)
        if known is not None:
            return known
        definition = self._definitions.get(name)
        if definition is None:
            raise FormatUnknown(f"The service model refers to a shape {name} that it does not define")
        shape = self._build(name, definition)
        self._resolved[name] = shape
        return shape

    def _build(self, name: str, definition: Definition) -> Shape:
        kind = definition["type"]
        if kind == "structure":
            return self._structure(name, definition)
        if kind == "list":
            return self._list(name, definition)
        if kind == "map":
            return self._map(name, definition)
        if kind not in _SCALARS:
            raise FormatUnknown(f"The shape {name} of the service model has the unknown type {kind}")
        return _SCALARS[kind](name, definition)

    def _list(self, name: str, definition: Definition) -> ListShape:
        member = self.shape(definition["member"]["shape"])
        return ListShape(name=name, member=member, length=_bounds(definition))

    def _map(self, name: str, definition: Definition) -> MapShape:
        return MapShape(
            name=name,
            key=self.shape(definition["key"]["shape"]),
            value=self.shape(definition["value"]["shape"]),
            length=_bounds(definition),
        )

    def _structure(self, name: str, definition: Definition) -> StructureShape:
        members: dict[str, Shape] = {}
        structure = StructureShape(
            name=name,
            members=members,
            required=tuple(definition.get("required", ())),
            union=bool(definition.get("union", False)),
            sensitive=bool(definition.get("sensitive", False)),
        )
        # Known before its members are resolved, so that a structure may contain itself.
        self._resolved[name] = structure
        for member, reference in definition["members"].items():
            members[member] = self.shape(reference["shape"])
        return structure
