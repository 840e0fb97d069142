"""A request's JSON body becomes Python values of the types that the model names.

Whatever is wrong with the JSON itself or with the type of a value is a SerializationException here; whether a
well-typed value is allowed is decided in `validate`. Moments become aware datetimes in UTC. Members that the
model does not know are ignored, null members count as absent.
"""

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Never, assert_never

from stillframe.aws.errors import ProtocolCode, ProtocolError
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

_ISO_MOMENT = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII | re.IGNORECASE
)


def parse_body(body: bytes, shape: StructureShape) -> dict[str, Any]:
    """The members of the request, or a ProtocolError with the code SerializationException."""
    return _structure(decode_object(body), shape, "")


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; a ProtocolError for anything else, and for JSON that readers disagree about.

    Refused beside malformed JSON: names that appear twice in an object, NaN and infinities, numbers too large
    for a float, and nesting deeper than the interpreter's recursion limit.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique_names
        )
    except (ValueError, RecursionError):
        raise _malformed("The request body is not valid JSON") from None
    if not isinstance(value, dict):
        raise _malformed("The request body is not a JSON object")
    return value


def _refuse_constant(name: str) -> Never:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _unique_names(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _malformed("The request body names a member twice in one object")
    return members


def _convert(value: Any, shape: Shape, path: str) -> Any:
    if isinstance(shape, StructureShape):
        return _structure(value, shape, path)
    if isinstance(shape, ListShape):
        return _list(value, shape, path)
    if isinstance(shape, MapShape):
        return _map(value, shape, path)
    return _scalar(value, shape, path)


def _scalar(value: Any, shape: ScalarShape, path: str) -> Any:
    match shape:
        case StringShape():
            return _string(value, path)
        case IntegerShape():
            return _integer(value, shape, path)
        case DoubleShape():
            return _double(value, path)
        case BooleanShape():
            return _boolean(value, path)
        case TimestampShape():
            return _timestamp(value, shape, path)
        case _:
            assert_never(shape)


def _structure(value: Any, shape: StructureShape, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong_type(value, "a structure", path)
    return {
        name: _convert(value[name], member, f"{path}.{name}" if path else name)
        for name, member in shape.members.items()
        if value.get(name) is not None
    }


def _list(value: Any, shape: ListShape, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong_type(value, "a list", path)
    # A null item stays: it is for the validation to refuse, with the place where it is.
    return [
        None if item is None else _convert(item, shape.member, f"{path}.{place}.member")
        for place, item in enumerate(value, start=1)
    ]


def _map(value: Any, shape: MapShape, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong_type(value, "a map", path)
    return {
        _convert(key, shape.key, f"{path}.key"): _convert(item, shape.value, f"{path}.value")
        for key, item in value.items()
        if item is not None
    }


def _string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(value, "a String", path)
    # Neither can be stored: a lone surrogate has no UTF-8 form, and PostgreSQL has no NUL in text.
    if "\0" in value or not _encodable(value):
        raise _malformed(f"The string at '{path}' contains a character that is not allowed")
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _integer(value: Any, shape: IntegerShape, path: str) -> int:
    kind = "an Integer" if shape.bits == 32 else "a Long"
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(value, kind, path)
    limit = 1 << (shape.bits - 1)
    if not -limit <= value < limit:
        raise _malformed(f"The number at '{path}' does not fit into {kind}")
    return value


def _double(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(value, "a Double", path)
    try:
        return float(value)
    except OverflowError:
        raise _malformed(f"The number at '{path}' does not fit into a Double") from None


def _boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(value, "a Boolean", path)
    return value


def _timestamp(value: Any, shape: TimestampShape, path: str) -> datetime:
    try:
        if isinstance(value, str) and shape.style is TimestampStyle.ISO:
            return _iso_moment(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise _malformed(f"The value at '{path}' is not a valid Timestamp") from None
    raise _wrong_type(value, "a Timestamp", path)


def _iso_moment(text: str) -> datetime:
    if not _ISO_MOMENT.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text.upper()).astimezone(UTC)


def _wrong_type(value: Any, wanted: str, path: str) -> ProtocolError:
    return _malformed(f"{_token(value)} can not be converted to {wanted} at '{path}'")


def _token(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    if isinstance(value, str):
        return "STRING_VALUE"
    if isinstance(value, int | float):
        return "NUMBER_VALUE"
    return "Start of list" if isinstance(value, list) else "Start of structure or map"


def _malformed(message: str) -> ProtocolError:
    return ProtocolError(ProtocolCode.SERIALIZATION, message)
