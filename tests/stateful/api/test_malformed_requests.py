"""Anything at all is sent to every operation of a real service: the answer is an error that a client knows.

The bodies are built from the model of each operation, with a mistake in it more often than not: another type, a
value far out of range, text that no database stores, members nobody knows, JSON that is none. All requests are
rightly signed, so that they reach the operation.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.clients import EXTENSION, add_extension_model
from support.service import PASSWORD, Account, Service, Warehouse, make_warehouse, running_service

pytestmark = pytest.mark.stateful

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
"""Requests for each operation; more by setting the variable, for a longer run than the CI's."""

OF_EVERY_OPERATION = {"SerializationException", "ValidationException", "AccessDeniedException"}
NOT_MODELLED_BUT_DOCUMENTED = {
    "CreateNamespace": {"ServiceQuotaExceededException"},
    "CreateWorkgroup": {"ServiceQuotaExceededException"},
    "UpdateWorkgroup": {"ServiceQuotaExceededException"},
}

ODD_TEXT = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="\0\t\n\r\x7f\x85\u200b\u202e\ufeff\ufffe\uffff\U0001f4a9'\"\\;$%_-/", max_size=12),
    st.sampled_from(
        [
            *(
                "",
                " ",
                "\0",
                "a\0b",
                "\ud800",
                "\udfff\ud800",
                "'; DROP TABLE namespaces; --",
                "%s%n",
                "../../etc",
            ),
            *(
                "${jndi:x}",
                "e\u0301",
                "ﬀ",
                "İ",
                "x" * 5000,
                "NULL",
                "true",
                "-1",
                "shop\n",
                "\u017fhop",
                "🦆" * 64,
            ),
        ]
    ),
)
KNOWN_TEXT = st.sampled_from(
    ["shop", "taken", "dev", "admin", PASSWORD, "nowhere", "new-one", "a" * 64, "a" * 255]
)
ODD_NUMBER = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -1, 1, 2**31 - 1, 2**31, -(2**31), 2**63, 10**400, 1e308, -0.0, 0.1, 253402300800]),
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | ODD_NUMBER | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4),
    max_leaves=8,
)


def models() -> dict[tuple[str, str], Any]:
    """The operation models of the API's built operations and of our extension, by target prefix and name."""
    session = botocore.session.Session()
    add_extension_model(session)
    found = {}
    for service in ("redshift-serverless", EXTENSION):
        model = session.get_service_model(service)
        for name in model.operation_names:
            found[model.metadata["targetPrefix"], name] = model.operation_model(name)
    return found


MODELS = models()


def likely(shape: Any) -> st.SearchStrategy[Any]:
    """Values of the shape's own type, within its rules and just beyond them."""
    match shape.type_name:
        case "structure":
            return structure(shape)
        case "list":
            return st.lists(value(shape.member), max_size=4)
        case "map":
            return st.dictionaries(value(shape.key), value(shape.value), max_size=3)
        case "boolean":
            return st.booleans()
        case "integer" | "long" | "double" | "timestamp" | "float":
            return st.one_of(st.integers(-2, 5000), ODD_NUMBER)
        case _:
            return st.one_of(KNOWN_TEXT, st.sampled_from(shape.enum or ["x"]), arns(), ODD_TEXT)


def arns() -> st.SearchStrategy[str]:
    """Texts that look like the ARNs of resources."""
    kinds = st.sampled_from(["namespace", "workgroup", "snapshot", "recoverypoint", "", "namespace/.."])
    identifiers = st.uuids().map(str) | ODD_TEXT
    return st.builds("arn:aws:redshift-serverless:us-east-1:200000000001:{}/{}".format, kinds, identifiers)


def value(shape: Any) -> st.SearchStrategy[Any]:
    """A likely value, and now and then anything else."""
    # One in six: with more, hardly a request would get past its first member.
    return st.integers(0, 5).flatmap(lambda dice: ANYTHING if dice == 0 else likely(shape))


def structure(shape: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Required members nearly always, the others at random, and members nobody knows."""
    known = {name: value(member) for name, member in shape.members.items()}
    required = {name: known.pop(name) for name in shape.required_members}
    return st.builds(
        lambda members, unknown: unknown | members,
        st.fixed_dictionaries(required, optional=known),
        st.dictionaries(ODD_TEXT, ANYTHING, max_size=1),
    )


def bodies(shape: Any) -> st.SearchStrategy[bytes]:
    """What is sent: JSON of the structure, JSON of anything, that with bytes cut off or changed, or any bytes."""
    encoded = st.one_of(*[structure(shape)] * 6, ANYTHING).map(encode)
    broken = st.builds(
        lambda body, cut, more: body[:cut] + more, encoded, st.integers(0, 40), st.binary(max_size=5)
    )
    deep = st.integers(1, 60000).map(lambda depth: b"[" * depth)
    return st.one_of(*[encoded] * 8, broken, st.binary(max_size=60), deep)


def encode(members: Any) -> bytes:
    """JSON with lone surrogates as escapes, which JSON allows and UTF-8 does not."""
    return json.dumps(members).encode()


@pytest.fixture(scope="module")
def target() -> Iterator[Warehouse]:
    """A warehouse `shop` with snapshot `taken`, on a service of its own: what is left behind goes with it."""
    with running_service(sweep_seconds=3600) as service:
        made = make_warehouse(service.account(), "shop")
        made.snapshot("taken")
        yield made


def modelled(operation: Any) -> set[str]:
    """The error codes that a client of this operation can be sent for a mistake of its own."""
    codes = {shape.error_code or shape.name for shape in operation.error_shapes} - {"InternalServerException"}
    return codes | OF_EVERY_OPERATION | NOT_MODELLED_BUT_DOCUMENTED.get(operation.name, set())


@pytest.mark.parametrize(("prefix", "name"), list(MODELS), ids=[name for _, name in MODELS])
def test_whatever_is_sent_the_answer_is_one_that_clients_know(
    target: Warehouse, prefix: str, name: str
) -> None:
    operation = MODELS[prefix, name]
    caller = _ordinary_caller(target.account) if prefix != "RedshiftServerless" else target.account
    allowed = modelled(operation)
    is_offered = caller.send(name, b"{}", prefix=prefix).status != 404

    @settings(
        max_examples=EXAMPLES if is_offered else 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(body=bodies(operation.input_shape))
    def check(body: bytes) -> None:
        answer = caller.send(name, body, prefix=prefix)
        assert 200 <= answer.status < 500, answer
        if answer.status == 200:
            assert isinstance(answer.json(), dict)
        elif answer.status == 404:
            assert answer.json() == {
                "__type": "UnknownOperationException",
                "message": f"Stillframe does not offer {name} yet.",
            }
        else:
            assert answer.json()["__type"] in allowed, answer
            assert answer.json()["__type"] == answer.headers["x-amzn-errortype"]
            assert "Traceback" not in answer.json()["message"]

    check()


def _ordinary_caller(account: Account) -> Account:
    # Not a root key: it could remove the very key that the requests are signed with.
    service: Service = account.service
    return service.another_key(account.id, user_name="fuzzer")


def test_afterwards_nothing_is_broken_and_the_log_holds_no_failure_of_the_service(target: Warehouse) -> None:
    target.settle()
    assert target.client.list_namespaces()["namespaces"]
    log = target.account.service.local.log_tail(100_000)
    assert "request_failed" not in log
    assert "Traceback" not in log
