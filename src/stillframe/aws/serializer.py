"""A handler's answer becomes the JSON that the model describes.

A handler that answers with something the model does not know, with a wrong type or without a required member
has a bug: that is an InternalError with the place, never a response that some client cannot read.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never

from stillframe.aws.model import Operation
from stillframe.aws.shapes import (
    BooleanShape,
    DoubleShape,
    IntegerShape,
    ListShape,
    MapShape,
    ScalarShape,
    Shape,
    StringShape,
    StructureShape,
    TimestampShape,
    TimestampStyle,
)
from stillframe.aws.timestamps import epoch_number, iso_text
from stillframe.errors import InternalError


def serialize_answer(operation: Operation, answer: Mapping[str, Any]) -> bytes:
    """The body of a successful answer: no members that are None, but every array of a `List…` operation."""
    members = _structure(answer, operation.output, operation.name)
    if operation.lists:
        members = {**_empty_lists(operation.output), **members}
    return json.dumps(members, allow_nan=False, separators=(",", ":")).encode()


def serialize_members(members: Mapping[str, Any]) -> bytes:
    """The body of an error: text members as they are."""
    return json.dumps(members, separators=(",", ":")).encode()


def _empty_lists(shape: StructureShape) -> dict[str, Any]:
    return {name: [] for name, member in shape.members.items() if isinstance(member, ListShape)}


def _convert(value: Any, shape: Shape, path: str) -> Any:
    if isinstance(shape, StructureShape):
        return _structure(value, shape, path)
    if isinstance(shape, ListShape):
        return _list(value, shape, path)
    if isinstance(shape, MapShape):
        return _map(value, shape, path)
    return _scalar(value, shape, path)


def _structure(value: Any, shape: StructureShape, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _bug(value, shape, path)
    present = {name: item for name, item in value.items() if item is not None}
    _check_names(present, shape, path)
    return {name: _convert(item, shape.members[name], f"{path}.{name}") for name, item in present.items()}


def _check_names(present: Mapping[str, Any], shape: StructureShape, path: str) -> None:
    unknown = sorted(present.keys() - shape.members.keys())
    if unknown:
        raise InternalError(f"The answer has members at {path} that the model does not know: {unknown}")
    missing = sorted(set(shape.required) - present.keys())
    if missing:
        raise InternalError(f"The answer lacks required members at {path}: {missing}")
    if shape.union and len(present) != 1:
        raise InternalError(f"The answer has {len(present)} members of a union at {path}")


def _list(value: Any, shape: ListShape, path: str) -> list[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise _bug(value, shape, path)
    return [_convert(item, shape.member, f"{path}[]") for item in value]


def _map(value: Any, shape: MapShape, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _bug(value, shape, path)
    return {
        _convert(key, shape.key, path): _convert(item, shape.value, f"{path}[{key}]")
        for key, item in value.items()
    }


def _scalar(value: Any, shape: ScalarShape, path: str) -> Any:
    match shape:
        case StringShape():
            return _string(value, shape, path)
        case IntegerShape():
            return _integer(value, shape, path)
        case DoubleShape():
            return _double(value, shape, path)
        case BooleanShape():
            return _boolean(value, shape, path)
        case TimestampShape():
            return _timestamp(value, shape, path)
        case _:
            assert_never(shape)


def _string(value: Any, shape: StringShape, path: str) -> str:
    if not isinstance(value, str) or (shape.enum and value not in shape.enum):
        raise _bug(value, shape, path)
    return str(value)


def _integer(value: Any, shape: IntegerShape, path: str) -> int:
    limit = 1 << (shape.bits - 1)
    if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
        raise _bug(value, shape, path)
    return int(value)


def _double(value: Any, shape: DoubleShape, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _bug(value, shape, path)
    return float(value)


def _boolean(value: Any, shape: BooleanShape, path: str) -> bool:
    if not isinstance(value, bool):
        raise _bug(value, shape, path)
    return value


def _timestamp(value: Any, shape: TimestampShape, path: str) -> str | int | float:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _bug(value, shape, path)
    return iso_text(value) if shape.style is TimestampStyle.ISO else epoch_number(value)


def _bug(value: Any, shape: Shape, path: str) -> InternalError:
    # The value itself may be a password; its type is enough to find the handler.
    return InternalError(f"The answer has a {type(value).__name__} at {path} that is no valid {shape.name}")
