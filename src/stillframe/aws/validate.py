"""Whether well-typed values satisfy the constraints of the model, told the way AWS tells it.

All violations go into one message: `2 validation errors detected: Value 'x' at 'namespaceName' failed to
satisfy constraint: Member must have length greater than or equal to 3; Value null at …`. Patterns must match
the whole value and know ASCII classes only. Values of sensitive shapes are never repeated.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stillframe.aws.errors import ProtocolCode, ProtocolError
from stillframe.aws.shapes import (
    Bounds,
    DoubleShape,
    IntegerShape,
    ListShape,
    MapShape,
    Shape,
    StringShape,
    StructureShape,
)
from stillframe.aws.timestamps import iso_text

_REDACTED = "***Sensitive Data Redacted***"
_NOT_NULL = "Member must not be null"

# A client can send a thousand wrong items of a kilobyte each; the answer must stay readable.
_MOST_VIOLATIONS = 100
_LONGEST_ECHO = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken constraint: `shown` is the value as it may be repeated, `path` where it was."""

    path: str
    shown: str
    constraint: str

    def __str__(self) -> str:
        return f"Value {self.shown} at '{self.path}' failed to satisfy constraint: {self.constraint}"


def validate(members: Mapping[str, Any], shape: StructureShape) -> None:
    """Raise a ProtocolError (ValidationException) that counts all violations and tells the first 100."""
    found = list(violations(members, shape))
    if found:
        raise ProtocolError(ProtocolCode.VALIDATION, describe(found))


def describe(found: list[Violation]) -> str:
    """The violations as one message in the words of AWS."""
    noun = "error" if len(found) == 1 else "errors"
    told = "; ".join(map(str, found[:_MOST_VIOLATIONS]))
    return f"{len(found)} validation {noun} detected: {told}"


def violations(members: Mapping[str, Any], shape: StructureShape, *, path: str = "") -> Iterator[Violation]:
    """Every violation below `path`, in the order of the model's members."""
    if shape.union and len(members) != 1:
        constraint = f"Exactly one of the members must be set: [{', '.join(shape.members)}]"
        yield Violation(path=path, shown=_shown(members, shape), constraint=constraint)
    for name, member in shape.members.items():
        place = f"{path}.{name}" if path else name
        if name in members:
            yield from _at(members[name], member, place)
        elif name in shape.required:
            yield Violation(path=place, shown="null", constraint=_NOT_NULL)


def _at(value: Any, shape: Shape, path: str) -> Iterator[Violation]:
    for constraint in _broken(value, shape):
        yield Violation(path=path, shown=_shown(value, shape), constraint=constraint)
    yield from _below(value, shape, path)


def _below(value: Any, shape: Shape, path: str) -> Iterator[Violation]:
    if isinstance(shape, StructureShape):
        yield from violations(value, shape, path=path)
    elif isinstance(shape, ListShape):
        yield from _items(value, shape, path)
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _at(key, shape.key, f"{path}.key")
            yield from _at(item, shape.value, f"{path}.{_cut(key)}.member")


def _items(values: list[Any], shape: ListShape, path: str) -> Iterator[Violation]:
    # What is beyond the greatest length is refused by that; looking into it would only cost time.
    for place, item in enumerate(values[: shape.length.greatest], start=1):
        if item is None:
            yield Violation(path=f"{path}.{place}.member", shown="null", constraint=_NOT_NULL)
        elif isinstance(shape.member, StructureShape | ListShape | MapShape):
            yield from _at(item, shape.member, f"{path}.{place}.member")
    yield from _simple_items(values, shape, path)


def _simple_items(values: list[Any], shape: ListShape, path: str) -> Iterator[Violation]:
    # For items that are not structures AWS shows the whole list and all that an item must satisfy, once.
    rules = _rules(shape.member)
    if any(any(_broken(item, shape.member)) for item in values if item is not None):
        constraint = f"Member must satisfy constraint: [{', '.join(rules)}]"
        yield Violation(path=path, shown=_shown(values, shape), constraint=constraint)


def _broken(value: Any, shape: Shape) -> Iterator[str]:
    match shape:
        case StringShape():
            yield from _outside(len(value), shape.length, "length")
            yield from _unfitting(value, shape)
        case IntegerShape() | DoubleShape():
            yield from _outside(value, shape.value, "value")
        case ListShape() | MapShape():
            yield from _outside(len(value), shape.length, "length")
        case _:
            return


def _unfitting(text: str, shape: StringShape) -> Iterator[str]:
    if shape.pattern is not None and not shape.pattern.fullmatch(text):
        yield _pattern_rule(shape.pattern.pattern)
    if shape.enum and text not in shape.enum:
        yield _enum_rule(shape.enum)


def _outside(size: float, bounds: Bounds, what: str) -> Iterator[str]:
    if bounds.greatest is not None and size > bounds.greatest:
        yield _greatest_rule(bounds.greatest, what)
    if bounds.least is not None and size < bounds.least:
        yield _least_rule(bounds.least, what)


def _rules(shape: Shape) -> list[str]:
    if isinstance(shape, StringShape):
        pattern = [_pattern_rule(shape.pattern.pattern)] if shape.pattern else []
        enum = [_enum_rule(shape.enum)] if shape.enum else []
        return [*_bound_rules(shape.length, "length"), *pattern, *enum]
    if isinstance(shape, IntegerShape | DoubleShape):
        return _bound_rules(shape.value, "value")
    return []


def _bound_rules(bounds: Bounds, what: str) -> list[str]:
    greatest = [] if bounds.greatest is None else [_greatest_rule(bounds.greatest, what)]
    least = [] if bounds.least is None else [_least_rule(bounds.least, what)]
    return [*greatest, *least]


def _greatest_rule(limit: int, what: str) -> str:
    return f"Member must have {what} less than or equal to {limit}"


def _least_rule(limit: int, what: str) -> str:
    return f"Member must have {what} greater than or equal to {limit}"


def _pattern_rule(pattern: str) -> str:
    return f"Member must satisfy regular expression pattern: {pattern}"


def _enum_rule(values: tuple[str, ...]) -> str:
    return f"Member must satisfy enum value set: [{', '.join(values)}]"


def _shown(value: Any, shape: Shape) -> str:
    return f"'{_cut(_rendered(value, shape))}'"


def _rendered(value: Any, shape: Shape) -> str:
    if isinstance(shape, StringShape | StructureShape) and shape.sensitive:
        return _REDACTED
    if isinstance(shape, StructureShape):
        pairs = (f"{name}={_rendered(item, shape.members[name])}" for name, item in value.items())
        return f"{shape.name}({', '.join(pairs)})"
    if isinstance(shape, ListShape):
        return f"[{', '.join('null' if item is None else _rendered(item, shape.member) for item in value)}]"
    if isinstance(shape, MapShape):
        pairs = (f"{_rendered(key, shape.key)}={_rendered(item, shape.value)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return iso_text(value) if isinstance(value, datetime) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_ECHO else f"{text[:_LONGEST_ECHO]}…"
