"""Reading service models."""

import json
import re
from typing import Any

import boto3
import pytest

from stillframe.aws.client import SERVICE, extension_session
from stillframe.aws.model import build_model, extension_document, load_extension, redshift_serverless_document
from stillframe.aws.shapes import (
    IntegerShape,
    ListShape,
    StringShape,
    StructureShape,
    TimestampShape,
    TimestampStyle,
)
from stillframe.errors import FormatUnknown
from support.aws import models, operations

pytestmark = pytest.mark.unit


def document(**shapes: Any) -> dict[str, Any]:
    """A service model with one operation, whose input is the shape `In`."""
    return {
        "metadata": {"protocol": "json", "serviceId": "T", "targetPrefix": "T", "signingName": "t"},
        "operations": {"Do": {"name": "Do", "input": {"shape": "In"}}},
        "shapes": shapes,
    }


def test_the_service_model_has_all_operations_with_their_target_and_errors() -> None:
    model, _ = models()
    assert len(model.operations) >= 65
    create = model.operations["CreateSnapshot"]
    assert create.target == "RedshiftServerless.CreateSnapshot"
    assert create.signing_name == "redshift-serverless"
    assert "TooManyTagsException" in create.errors
    assert create.input.required == ("namespaceName", "snapshotName")


def test_shapes_are_resolved_with_their_constraints() -> None:
    members = operations()["ListSnapshots"].input.members
    limit, start = members["maxResults"], members["startTime"]
    assert isinstance(limit, IntegerShape)
    assert (limit.bits, limit.value.least, limit.value.greatest) == (32, 1, 100)
    assert isinstance(start, TimestampShape)
    assert start.style is TimestampStyle.EPOCH
    name = operations()["CreateNamespace"].input.members["namespaceName"]
    assert isinstance(name, StringShape)
    assert (name.length.least, name.length.greatest) == (3, 64)
    assert name.pattern == re.compile("^[a-z0-9-]+$", re.ASCII)


def test_sensitive_members_are_known() -> None:
    members = operations()["CreateNamespace"].input.members
    sensitive = {
        name for name, shape in members.items() if isinstance(shape, StringShape) and shape.sensitive
    }
    assert sensitive == {"adminUsername", "adminUserPassword"}


def test_an_operation_without_output_answers_nothing() -> None:
    only = build_model(document(In={"type": "structure", "members": {}})).operations["Do"]
    assert only.output.members == {}
    assert only.errors == frozenset()


def test_a_shape_may_contain_itself() -> None:
    tree = {"type": "structure", "members": {"below": {"shape": "Trees"}}}
    model = build_model(document(In=tree, Trees={"type": "list", "member": {"shape": "In"}}))
    root = model.operations["Do"].input
    below = root.members["below"]
    assert isinstance(below, ListShape)
    assert below.member is root


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({}, "In"),
        ({"In": {"type": "string"}}, "not a structure"),
        ({"In": {"type": "structure", "members": {"x": {"shape": "Gone"}}}}, "Gone"),
        (
            {"In": {"type": "structure", "members": {"x": {"shape": "X"}}}, "X": {"type": "hologram"}},
            "hologram",
        ),
    ],
)
def test_a_model_that_we_cannot_interpret_is_refused(shapes: dict[str, Any], told: str) -> None:
    with pytest.raises(FormatUnknown, match=told):
        build_model(document(**shapes))


def test_another_protocol_is_refused() -> None:
    other = document(In={"type": "structure", "members": {}})
    other["metadata"]["protocol"] = "rest-xml"
    with pytest.raises(FormatUnknown, match="JSON protocol"):
        build_model(other)


def test_the_extension_uses_the_shapes_of_the_service_model() -> None:
    base = redshift_serverless_document()
    cancel = load_extension(base).operations["CancelSnapshot"]
    assert cancel.target == "Stillframe.CancelSnapshot"
    assert cancel.signing_name == "redshift-serverless"
    snapshot = cancel.output.members["snapshot"]
    assert isinstance(snapshot, StructureShape)
    theirs = operations()["GetSnapshot"].output.members["snapshot"]
    assert isinstance(theirs, StructureShape)
    assert set(snapshot.members) == set(theirs.members)


def test_the_extension_is_complete_in_itself() -> None:
    complete = extension_document(redshift_serverless_document())
    assert build_model(complete).operations.keys() == complete["operations"].keys()
    assert "Workgroup" not in complete["shapes"], "carries along what none of its operations uses"
    assert json.loads(json.dumps(complete)) == complete


def test_no_operation_of_ours_has_the_name_of_one_of_theirs() -> None:
    api, extension = models()
    assert not api.operations.keys() & extension.operations.keys()


def test_boto3_makes_clients_of_both_services() -> None:
    session = boto3.Session(
        botocore_session=extension_session(),
        region_name="eu-central-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    ours = session.client(SERVICE, endpoint_url="http://localhost:9439")
    assert ours.meta.service_model.signing_name == "redshift-serverless"
    assert ours.meta.method_to_api_mapping["cancel_snapshot"] == "CancelSnapshot"
    theirs = session.client("redshift-serverless")
    assert theirs.meta.method_to_api_mapping["create_snapshot"] == "CreateSnapshot"
