"""The first packets of a connection: what is read, what is passed on, what is refused."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillframe.endpoint import protocol
from stillframe.endpoint.protocol import (
    CancelRequest,
    EncryptionRequest,
    Incomplete,
    Refusal,
    StartupMessage,
    admission_refusal,
    read_first_packet,
    strip_driver_keys,
)

pytestmark = pytest.mark.unit

V3 = 0x00030000
SSL, GSS, CANCEL = 80877103, 80877104, 80877102


def packet(code: int, body: bytes) -> bytes:
    return struct.pack("!II", len(body) + 8, code) + body


def startup(*pairs: tuple[bytes, bytes], version: int = V3) -> bytes:
    return packet(version, b"".join(name + b"\0" + value + b"\0" for name, value in pairs) + b"\0")


def read_startup(data: bytes) -> StartupMessage:
    parsed, length = read_first_packet(data)
    assert isinstance(parsed, StartupMessage)
    assert length == len(data)
    return parsed


def server_reading(data: bytes) -> dict[bytes, bytes] | None:
    """What PostgreSQL's loop over a start-up packet makes of it (None: it refuses), written independently."""
    body = data[8:] + b"\0"  # the server adds a NUL behind what it received
    length = len(data) - 8
    offset, found = 0, {}
    while offset < length:
        end = body.index(b"\0", offset)
        name = body[offset:end]
        if not name:
            break
        start = end + 1
        if start >= length:
            break
        end = body.index(b"\0", start)
        found[name] = body[start:end]
        offset = end + 1
    return found if offset == length - 1 else None


def test_an_ordinary_startup_is_read_in_order() -> None:
    message = read_startup(startup((b"user", b"ann"), (b"database", b"dev"), (b"options", b"")))
    assert message.protocol == V3
    assert message.parameters == ((b"user", b"ann"), (b"database", b"dev"), (b"options", b""))


@pytest.mark.parametrize("version", [0x00030000, 0x00030002, 0x0003270F])
def test_every_minor_version_of_protocol_three_is_passed_on_as_it_is(version: int) -> None:
    data = startup((b"user", b"ann"), (b"_pq_.test", b"1"), version=version)
    assert strip_driver_keys(read_startup(data)).encode() == data


@pytest.mark.parametrize(("code", "gss"), [(SSL, False), (GSS, True)])
def test_encryption_requests_are_recognised(code: int, gss: bool) -> None:
    assert read_first_packet(packet(code, b"") + b"more") == (EncryptionRequest(gss=gss), 8)


@pytest.mark.parametrize("key_bytes", [4, 32, 256])
def test_a_cancel_request_is_kept_byte_for_byte(key_bytes: int) -> None:
    data = packet(CANCEL, b"\0\0\x12\x34" + b"k" * key_bytes)
    assert read_first_packet(data) == (CancelRequest(packet=data), len(data))


@pytest.mark.parametrize("body", [b"", b"\0\0\0\1", b"\0\0\0\1" + b"k" * 257])
def test_a_cancel_request_of_impossible_length_is_refused(body: bytes) -> None:
    assert isinstance(read_first_packet(packet(CANCEL, body))[0], Refusal)


@pytest.mark.parametrize("length", [0, 4, 7, 10_005, 0xFFFFFFFF, 0x16030100])
def test_an_impossible_length_is_refused_before_anything_is_waited_for(length: int) -> None:
    refusal, _ = read_first_packet(struct.pack("!I", length))
    assert isinstance(refusal, Refusal)
    assert refusal.sqlstate == "08P01"


def test_the_longest_packet_postgresql_takes_is_taken() -> None:
    value = b"x" * (10_004 - 8 - len(b"user\0ann\0options\0\0\0"))
    data = startup((b"user", b"ann"), (b"options", value))
    assert len(data) == 10_004
    assert read_startup(data).values(b"options") == (value,)


def test_protocol_two_is_refused_with_the_feature_code() -> None:
    refusal, _ = read_first_packet(packet(0x00020000, b"\0" * 288))
    assert isinstance(refusal, Refusal)
    assert refusal.sqlstate == "0A000"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="no terminator"),
        pytest.param(b"user\0ann\0", id="terminator is the value's"),
        pytest.param(b"user\0\0", id="terminator is the value"),
        pytest.param(b"user\0ann", id="unended value"),
        pytest.param(b"user\0ann\0\0x", id="byte behind the terminator"),
        pytest.param(b"user\0ann\0\0\0", id="two terminators"),
        pytest.param(b"user\0ann\0\0user\0stillframe\0\0", id="second list behind the terminator"),
        pytest.param(b"\0user\0stillframe\0\0", id="empty name first"),
    ],
)
def test_a_packet_with_another_layout_is_refused(body: bytes) -> None:
    refusal, _ = read_first_packet(packet(V3, body))
    assert isinstance(refusal, Refusal)
    assert refusal.sqlstate == "08P01"


def test_only_the_drivers_own_keys_are_taken_out() -> None:
    kept = [
        (b"user", b"ann"), (b"database", b"dev"), (b"application_name", b"a"), (b"DateStyle", b"ISO"),
        (b"TimeZone", b"UTC"), (b"myapp.tenant", b"7"), (b"no_such_setting", b"x"), (b"_pq_.other", b"1"),
        (b"DRIVER_VERSION", b"x"),
    ]  # fmt: skip
    sent = [*kept, *((key, b"v") for key in sorted(protocol.DRIVER_ONLY_KEYS))]
    assert list(strip_driver_keys(read_startup(startup(*sent))).parameters) == kept


def test_the_service_role_is_refused() -> None:
    refusal = admission_refusal(read_startup(startup((b"database", b"dev"), (b"user", b"stillframe"))))
    assert refusal is not None
    assert refusal.sqlstate == "28000"


@pytest.mark.parametrize("first", [b"stillframe", b"ann"])
@pytest.mark.parametrize("second", [b"stillframe", b"bob", b""])
def test_a_user_given_twice_is_refused_whichever_the_server_would_take(first: bytes, second: bytes) -> None:
    assert admission_refusal(read_startup(startup((b"user", first), (b"user", second)))) is not None


@pytest.mark.parametrize("value", [b"true", b"database", b"1", b"off", b""])
def test_replication_is_refused_for_everybody(value: bytes) -> None:
    refusal = admission_refusal(read_startup(startup((b"user", b"ann"), (b"replication", value))))
    assert refusal is not None
    assert refusal.sqlstate == "28000"


def test_a_nul_inside_the_name_cannot_hide_the_service_role() -> None:
    data = startup((b"options", b"user\0stillframe"), (b"user", b"ann"))
    parsed, _ = read_first_packet(data)
    assert isinstance(parsed, Refusal)
    data = startup((b"user", b"ann\0user\0stillframe"))
    assert admission_refusal(read_startup(data)) is not None


@given(
    st.lists(
        st.sampled_from(
            [b"user", b"stillframe", b"ann", b"options", b"replication", b"", b"\0", b"\0\0", b"x"]
        ),
        max_size=12,
    ).map(b"\0".join),
)
@example(b"user\0stillframe\0\0")
@example(b"options\0-c x=y\0user\0stillframe\0\0")
def test_nothing_that_the_server_would_read_as_the_service_role_gets_through(body: bytes) -> None:
    """What is passed on is read by an independent copy of the server's loop: never `stillframe`, never
    replication."""
    parsed, _ = read_first_packet(packet(V3, body))
    if not isinstance(parsed, StartupMessage) or admission_refusal(parsed) is not None:
        return
    passed_on = strip_driver_keys(parsed).encode()
    seen = server_reading(passed_on)
    assert seen is not None
    assert seen.get(b"user") != b"stillframe"
    assert b"replication" not in seen
    assert seen == dict(strip_driver_keys(parsed).parameters)


@given(st.lists(st.sampled_from([b"user", b"ann", b"", b"\0", b"x"]), max_size=10).map(b"\0".join))
def test_a_packet_that_ends_in_nul_is_refused_exactly_when_the_server_would_refuse_it(body: bytes) -> None:
    data = packet(V3, body + b"\0")
    parsed, _ = read_first_packet(data)
    assert isinstance(parsed, Refusal) == (server_reading(data) is None)


@given(st.binary(min_size=1, max_size=40).filter(lambda body: body[-1] != 0))
def test_a_packet_that_does_not_end_in_nul_is_refused_even_where_the_server_is_lenient(body: bytes) -> None:
    assert isinstance(read_first_packet(packet(V3, body))[0], Refusal)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_refused_or_waited_for(data: bytes) -> None:
    parsed, length = read_first_packet(data)
    assert 0 <= length <= len(data)
    if isinstance(parsed, Incomplete | Refusal):
        assert not (isinstance(parsed, Incomplete) and len(data) > 10_004)
    else:
        assert length >= 8


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=20).filter(lambda b: b"\0" not in b),
            st.binary(max_size=20).filter(lambda b: b"\0" not in b),
        ),
        max_size=8,
    ),
    st.integers(min_value=0, max_value=400),
)
def test_a_startup_cut_anywhere_is_waited_for_and_whole_is_read_as_it_was(
    pairs: list[tuple[bytes, bytes]], cut: int
) -> None:
    data = startup(*pairs)
    assert read_startup(data).parameters == tuple(pairs)
    assert read_startup(data).encode() == data
    assert read_first_packet(data[: min(cut, len(data) - 1)]) == (Incomplete(), 0)


def test_a_refusal_is_a_well_formed_error_response() -> None:
    data = Refusal(sqlstate="57P03", message="not now", hint="later").encode()
    assert data[:1] == b"E"
    assert struct.unpack_from("!I", data, 1)[0] == len(data) - 1
    assert data[5:] == b"SFATAL\0VFATAL\0C57P03\0Mnot now\0Hlater\0\0"


@pytest.mark.parametrize(
    ("chunk", "whole"),
    [
        (b"A\0\0\0\x0a123456", True),
        (b"A\0\0\0\x0a123456N\0\0\0\4", True),
        (b"A\0\0\0\x0a12345", False),
        (b"A\0\0\0\x0a123456N\0\0", False),
        (b"A\0\0\0\0A\0", False),
        (b"", True),
    ],
)
def test_whole_messages_are_told_from_cut_ones(chunk: bytes, whole: bool) -> None:
    assert protocol.is_whole_messages(chunk) is whole


@pytest.mark.parametrize("status", [b"I", b"T", b"E"])
def test_ready_for_query_is_seen_in_every_transaction_state(status: bytes) -> None:
    assert protocol.says_ready(b"Z\0\0\0\5" + status)
    assert not protocol.says_ready(b"Z\0\0\0\6" + status)
    assert not protocol.says_ready(b"\0\0\0\5" + status)


SASL = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"


def test_only_the_python_driver_of_redshift_gets_the_list_of_mechanisms_without_its_end() -> None:
    python = read_startup(startup((b"user", b"ann"), (b"driver_version", b"Redshift Python Driver 2.2.0")))
    java = read_startup(startup((b"user", b"ann"), (b"driver_version", b"Redshift JDBC Driver 2.1")))
    assert protocol.misreads_mechanisms(python)
    assert not protocol.misreads_mechanisms(java)
    assert protocol.without_list_end(SASL + b"more") == b"R\0\0\0\x16\0\0\0\x0aSCRAM-SHA-256\0more"


@pytest.mark.parametrize(
    "answer", [b"E\0\0\0\x10SFATAL\0\0\0\0\0\0", b"R\0\0\0\x08\0\0\0\0", b"R\0\0\0\x0c\0\0\0\5salt"]
)
def test_another_first_answer_is_passed_on_as_it_is(answer: bytes) -> None:
    assert protocol.without_list_end(answer) == answer


@pytest.mark.parametrize("arrived", range(len(SASL)))
def test_a_first_answer_that_has_not_arrived_is_waited_for(arrived: int) -> None:
    assert protocol.without_list_end(SASL[:arrived]) is None
