"""Every shape of the API, through botocore's own serializer and parser and through ours.

botocore interprets its model independently of us: what it sends we must understand, what we send it must
understand, and both must mean the same.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stillframe.aws.client import SERVICE, extension_session
from stillframe.aws.parser import parse_body
from stillframe.aws.serializer import serialize_answer
from stillframe.aws.validate import validate
from support.aws import operations

pytestmark = pytest.mark.contract

EXAMPLES = settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
SECONDS = st.integers(0, 4_000_000_000)


@cache
def theirs() -> Mapping[str, OperationModel]:
    """botocore's own reading of all operations."""
    session = extension_session()
    found: dict[str, OperationModel] = {}
    for service in ("redshift-serverless", SERVICE):
        model = session.get_service_model(service)
        found |= {name: model.operation_model(name) for name in model.operation_names}
    return found


def moments(shape: Shape, *, milliseconds: bool) -> st.SearchStrategy[datetime]:
    """Moments that survive the way: botocore sends whole seconds where the model says epoch."""
    iso = shape.serialization.get("timestampFormat") == "iso8601"
    steps = SECONDS.map(lambda second: second * 1000)
    if milliseconds or iso:
        steps = st.integers(0, 4_000_000_000_000)
    return steps.map(lambda step: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=step))


def strings(shape: Shape) -> st.SearchStrategy[str]:
    if shape.enum:
        return st.sampled_from(shape.enum)
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 20)
    pattern = shape.metadata.get("pattern")
    if pattern:
        compiled = re.compile(pattern, re.ASCII)
        return st.from_regex(compiled, fullmatch=True).filter(lambda text: least <= len(text) <= most)
    return st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        min_size=least,
        max_size=min(most, least + 20),
    )


def integers(shape: Shape) -> st.SearchStrategy[int]:
    bits = 64 if shape.type_name == "long" else 32
    return st.integers(
        shape.metadata.get("min", -(1 << (bits - 1))), shape.metadata.get("max", (1 << (bits - 1)) - 1)
    )


def values(shape: Shape, *, milliseconds: bool) -> st.SearchStrategy[Any]:
    """Valid values of a shape, by botocore's reading of it."""
    if isinstance(shape, StructureShape):
        return structures(shape, milliseconds=milliseconds)
    if isinstance(shape, ListShape):
        least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 3)
        return st.lists(
            values(shape.member, milliseconds=milliseconds), min_size=least, max_size=min(most, least + 2)
        )
    if isinstance(shape, MapShape):
        return st.dictionaries(TEXT, values(shape.value, milliseconds=milliseconds), max_size=3)
    if shape.type_name == "timestamp":
        return moments(shape, milliseconds=milliseconds)
    if shape.type_name in ("integer", "long"):
        return integers(shape)
    simple = {
        "boolean": st.booleans(),
        "double": st.floats(allow_nan=False, allow_infinity=False),
        "string": strings(shape) if shape.type_name == "string" else st.nothing(),
    }
    return simple[shape.type_name]


def structures(shape: StructureShape, *, milliseconds: bool) -> st.SearchStrategy[dict[str, Any]]:
    members = {name: values(member, milliseconds=milliseconds) for name, member in shape.members.items()}
    if shape.is_tagged_union:
        return st.one_of([st.fixed_dictionaries({name: member}) for name, member in members.items()])
    required = {name: members[name] for name in shape.required_members}
    optional = {name: member for name, member in members.items() if name not in required}
    # Both ends always occur: everything present, and nothing but what must be.
    return st.one_of(
        st.fixed_dictionaries(members),
        st.fixed_dictionaries(required, optional=optional),
        st.fixed_dictionaries(required),
    )


@pytest.mark.parametrize("name", sorted(operations()))
def test_a_request_of_botocore_is_understood_and_valid(name: str) -> None:
    theirs_of, ours = theirs()[name], operations()[name]
    shape = theirs_of.input_shape
    assert shape is not None

    @EXAMPLES
    @given(structures(shape, milliseconds=False))
    def check(params: dict[str, Any]) -> None:
        sent = create_serializer("json").serialize_to_request(params, theirs_of)
        parsed = parse_body(sent["body"], ours.input)
        validate(parsed, ours.input)
        assert sent["headers"]["X-Amz-Target"] == ours.target
        assert parsed == params

    check()


@pytest.mark.parametrize("name", sorted(operations()))
def test_an_answer_of_ours_is_understood_by_botocore(name: str) -> None:
    theirs_of, ours = theirs()[name], operations()[name]
    shape = theirs_of.output_shape
    assert shape is not None

    @EXAMPLES
    @given(structures(shape, milliseconds=True))
    def check(answer: dict[str, Any]) -> None:
        body = serialize_answer(ours, answer)
        response = {"status_code": 200, "headers": {}, "body": body, "context": {}}
        parsed = create_parser("json").parse(response, shape)
        del parsed["ResponseMetadata"]
        lists = [key for key, member in shape.members.items() if member.type_name == "list"]
        always: dict[str, Any] = {key: [] for key in lists} if name.startswith("List") else {}
        assert parsed == {**always, **answer}

    check()


def timestamps(shape: Shape, path: str = "", seen: tuple[str, ...] = ()) -> dict[str, str]:
    """Where moments are in an answer, and the encoding that botocore reads in the model."""
    if isinstance(shape, StructureShape) and shape.name not in seen:
        return {
            place: style
            for name, member in shape.members.items()
            for place, style in timestamps(member, f"{path}.{name}", (*seen, shape.name)).items()
        }
    if isinstance(shape, ListShape):
        return timestamps(shape.member, f"{path}[]", seen)
    if shape.type_name == "timestamp":
        return {path: shape.serialization.get("timestampFormat", "unixTimestamp")}
    return {}


def at(value: Any, path: str) -> Any:
    for step in path.removeprefix(".").replace("[]", ".[]").split("."):
        value = value[0] if step == "[]" else value[step]
    return value


def filled(shape: Shape, moment: datetime) -> Any:
    """A value with every member present, and one item in every list."""
    if isinstance(shape, StructureShape):
        names = list(shape.members)[:1] if shape.is_tagged_union else list(shape.members)
        return {name: filled(shape.members[name], moment) for name in names}
    if isinstance(shape, ListShape):
        return [filled(shape.member, moment)]
    if isinstance(shape, MapShape):
        return {"key": filled(shape.value, moment)}
    samples = {"timestamp": moment, "boolean": True, "string": "text"}
    return shape.enum[0] if shape.type_name == "string" and shape.enum else samples.get(shape.type_name, 1)


@pytest.mark.parametrize("name", sorted(operations()))
def test_each_moment_is_written_in_the_encoding_of_the_model(name: str) -> None:
    shape = theirs()[name].output_shape
    assert shape is not None
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    sent = json.loads(serialize_answer(operations()[name], filled(shape, moment)))
    expected = {"iso8601": "2026-01-02T03:04:05.678Z", "unixTimestamp": 1_767_323_045.678}
    for place, style in timestamps(shape).items():
        assert at(sent, place) == expected[style], place


def test_all_operations_of_botocore_are_there() -> None:
    model = botocore.session.Session().get_service_model("redshift-serverless")
    assert set(model.operation_names) <= set(operations())
    assert len(model.operation_names) >= 65
