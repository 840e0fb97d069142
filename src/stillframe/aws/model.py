"""The operations of the API, read from the service model inside botocore, and our own beside them.

The models are interpreted, never retyped: a newer botocore brings its new members by itself. Our extension
has the same format; the shapes it names without defining them are those of the AWS model.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stillframe.aws.shapes import ShapeResolver, StructureShape
from stillframe.errors import ConfigurationInvalid, FormatUnknown

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: `target` is what a request has in `X-Amz-Target`, `errors` the names of its errors."""

    name: str
    target: str
    signing_name: str
    input: StructureShape
    output: StructureShape
    errors: frozenset[str]

    @property
    def lists(self) -> bool:
        """Whether the answer is a page of a list; the API names such operations `List…`."""
        return self.name.startswith("List")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceModel:
    """One service's operations by name."""

    service_id: str
    operations: Mapping[str, Operation]


def load_redshift_serverless() -> ServiceModel:
    """The model of Amazon Redshift Serverless; raise ConfigurationInvalid if botocore does not carry it."""
    return build_model(redshift_serverless_document())


def load_extension(base: Document) -> ServiceModel:
    """The model of our own operations, on the shapes of `base` (the AWS document)."""
    return build_model(extension_document(base))


def redshift_serverless_document() -> Document:
    """The newest `redshift-serverless` service model of the installed botocore, as parsed JSON."""
    try:
        newest = max(path for path in _versions().iterdir() if path.is_dir())
        return _read_document(newest)
    except (OSError, ValueError) as error:
        raise ConfigurationInvalid(
            "The installed botocore has no readable service model of redshift-serverless",
            hint="Install a current botocore.",
        ) from error


def extension_document(base: Document) -> Document:
    """Our service model made self-contained with the shapes it takes from `base`; its own shapes win.

    `stillframe.aws.client` gives it to botocore, so that clients can call our operations.
    """
    source = resources.files("stillframe.aws") / "extension" / "stillframe" / "2026-11-23" / "service-2.json"
    own: dict[str, Any] = json.loads(source.read_bytes())
    available = {**base["shapes"], **own["shapes"]}
    own["shapes"] = {name: available[name] for name in _reachable(own["operations"], available)}
    return own


def build_model(document: Document) -> ServiceModel:
    """Resolve a service model of the JSON protocol; raise FormatUnknown for anything we cannot interpret."""
    metadata = document["metadata"]
    if metadata["protocol"] != "json":
        raise FormatUnknown(f"The service model of {metadata['serviceId']} is not one of the JSON protocol")
    resolver = ShapeResolver(document["shapes"])
    operations = {
        name: _operation(definition, metadata, resolver)
        for name, definition in document["operations"].items()
    }
    return ServiceModel(service_id=metadata["serviceId"], operations=operations)


def _operation(definition: Document, metadata: Document, resolver: ShapeResolver) -> Operation:
    return Operation(
        name=definition["name"],
        target=f"{metadata['targetPrefix']}.{definition['name']}",
        signing_name=metadata["signingName"],
        input=resolver.structure(definition.get("input")),
        output=resolver.structure(definition.get("output")),
        errors=frozenset(error["shape"] for error in definition.get("errors", ())),
    )


def _versions() -> Path:
    # The data is read where it lies: importing botocore, its session and its loader would cost every start of
    # the service some hundred milliseconds.
    package = find_spec("botocore")
    if package is None or package.origin is None:
        raise FileNotFoundError("botocore")
    return Path(package.origin).parent / "data" / "redshift-serverless"


def _read_document(version: Path) -> Document:
    # Distributions repackage botocore's models uncompressed.
    plain = version / "service-2.json"
    raw = (
        plain.read_bytes()
        if plain.exists()
        else gzip.decompress((version / "service-2.json.gz").read_bytes())
    )
    document: Document = json.loads(raw)
    return document


def _reachable(operations: Document, shapes: Mapping[str, Document]) -> set[str]:
    pending = set(_references(operations))
    reached: set[str] = set()
    while pending:
        name = pending.pop()
        reached.add(name)
        pending |= set(_references(shapes.get(name, {}))) - reached
    return reached


def _references(node: object) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        name = node.get("shape")
        if isinstance(name, str):
            yield name
        for value in node.values():
            yield from _references(value)
