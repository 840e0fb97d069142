"""The first packets of a PostgreSQL connection, read the way the server reads them (ProcessStartupPacket).

Nothing after the start-up packet is interpreted here, except the one thing the relay wants to know: whether
the server's byte stream stands between two messages.
"""

import struct
from dataclasses import dataclass

MAX_PACKET_BYTES = 10_000
"""The longest start-up packet without its length word (PostgreSQL: MAX_STARTUP_PACKET_LENGTH)."""

MAX_CANCEL_KEY_BYTES = 256
"""The longest key of a cancel request (protocol 3.2)."""

SERVICE_ROLE = b"stillframe"
"""The superuser the service itself logs in as, by `peer` on the Unix socket. Nobody may be it from
outside."""

DRIVER_ONLY_KEYS = frozenset(
    {
        # redshift_connector 2, Redshift JDBC 2 and ODBC 2: what the driver is and which Redshift dialect it
        # speaks.
        b"client_protocol_version",
        b"server_protocol_version",
        b"driver_version",
        b"driver_discovery_version",
        b"os_version",
        b"plugin_name",
        # The same drivers when they log in through an identity provider.
        b"idp_type",
        b"provider_name",
        b"token_type",
        b"identity_namespace",
        b"idc_client_display_name",
        # Redshift JDBC: PostgreSQL would answer with a message this driver does not know.
        b"_pq_.compression",
    }
)
"""Start-up keys that only Redshift knows. PostgreSQL refuses keys it does not know, so these are taken out;
every other key is passed on, and an unknown one gets PostgreSQL's own error."""

_MISREADING_DRIVER = b"Redshift Python Driver "
_SASL_CODE = 10
_AUTHENTICATION = struct.Struct("!cII")
_CANCEL_CODE = 80877102
_SSL_CODE = 80877103
_GSS_CODE = 80877104
_HEADER = struct.Struct("!II")
_LENGTH = struct.Struct("!I")
_READY = frozenset({b"Z\0\0\0\5I", b"Z\0\0\0\5T", b"Z\0\0\0\5E"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A FATAL answer: SQLSTATE, a fact, and what to do."""

    sqlstate: str
    message: str
    hint: str = ""

    def encode(self) -> bytes:
        """The ErrorResponse message that carries it."""
        fields = [b"SFATAL", b"VFATAL", b"C" + self.sqlstate.encode(), b"M" + self.message.encode()]
        if self.hint:
            fields.append(b"H" + self.hint.encode())
        body = b"\0".join(fields) + b"\0\0"
        return b"E" + _LENGTH.pack(len(body) + 4) + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomplete:
    """More bytes are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionRequest:
    """SSLRequest or GSSENCRequest: the client asks whether the connection may be encrypted."""

    gss: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """To be handed to the route's server as it is."""

    packet: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupMessage:
    """`protocol` as on the wire (0x00030000 is 3.0); parameters in their order, duplicates kept."""

    protocol: int
    parameters: tuple[tuple[bytes, bytes], ...]

    def values(self, key: bytes) -> tuple[bytes, ...]:
        """Every value given for exactly this key."""
        return tuple(value for name, value in self.parameters if name == key)

    def encode(self) -> bytes:
        """The packet, made anew from the parameters and nothing else."""
        body = b"".join(name + b"\0" + value + b"\0" for name, value in self.parameters) + b"\0"
        return _HEADER.pack(len(body) + 8, self.protocol) + body


FirstPacket = Incomplete | EncryptionRequest | CancelRequest | StartupMessage | Refusal

NO_REPLY_TO_ENCRYPTION = b"N"
"""Go on without encryption. TLS will be answered here with `S`."""


def violation(message: str) -> Refusal:
    """A protocol violation (SQLSTATE 08P01)."""
    return Refusal(sqlstate="08P01", message=message)


def read_first_packet(buffer: bytes | bytearray) -> tuple[FirstPacket, int]:
    """Read one packet from the start of `buffer`; also how many bytes it took (0 if incomplete or
    refused)."""
    if len(buffer) < 4:
        return Incomplete(), 0
    length = _LENGTH.unpack_from(buffer)[0]
    if not 8 <= length <= MAX_PACKET_BYTES + 4:
        return violation("invalid length of startup packet"), 0
    if len(buffer) < length:
        return Incomplete(), 0
    return _parse(bytes(buffer[:length])), length


def strip_driver_keys(message: StartupMessage) -> StartupMessage:
    """The same start-up without the keys that only Redshift's drivers and servers know."""
    kept = tuple(pair for pair in message.parameters if pair[0] not in DRIVER_ONLY_KEYS)
    return StartupMessage(protocol=message.protocol, parameters=kept)


def admission_refusal(message: StartupMessage) -> Refusal | None:
    """Why this start-up must not reach a server, or None.

    The comparison is exact, as PostgreSQL's is: `Stillframe` is another role to it. What the server will
    see is made from the same parsed parameters, so there is no second reading that could differ.
    """
    users = message.values(b"user")
    if len(users) > 1:
        return violation("invalid startup packet: the user is given more than once")
    if SERVICE_ROLE in users:
        return Refusal(
            sqlstate="28000",
            message='role "stillframe" is not permitted to connect through the endpoint',
            hint="Connect as the namespace's admin user or a database user.",
        )
    if message.values(b"replication"):
        return Refusal(
            sqlstate="28000",
            message="replication connections are not permitted through the endpoint",
            hint="Use snapshots to copy a namespace.",
        )
    return None


def misreads_mechanisms(message: StartupMessage) -> bool:
    """Whether the client is redshift_connector, which (seen in 2.2) cannot read a list of SASL mechanisms.

    It takes the list's end for one more mechanism, without a name, and gives up; Redshift never sends one.
    """
    return any(value.startswith(_MISREADING_DRIVER) for value in message.values(b"driver_version"))


def without_list_end(answer: bytes) -> bytes | None:
    """A server's first answer with the NUL that ends AuthenticationSASL's list of mechanisms left out.

    Any other answer comes back as it is; None if it has not arrived completely.
    """
    if len(answer) < _AUTHENTICATION.size:
        return None
    kind, length, code = _AUTHENTICATION.unpack_from(answer)
    if kind != b"R" or code != _SASL_CODE or length > MAX_PACKET_BYTES:
        return answer
    if len(answer) <= length:
        return None
    return (
        _AUTHENTICATION.pack(kind, length - 1, code)
        + answer[_AUTHENTICATION.size : length]
        + answer[length + 1 :]
    )


def says_ready(tail: bytes) -> bool:
    """Whether `tail`, the last six bytes of a server's stream, is ReadyForQuery."""
    return tail in _READY


def is_whole_messages(chunk: bytes) -> bool:
    """Whether `chunk`, beginning at a message, ends exactly with one."""
    position = 0
    while position + 5 <= len(chunk):
        position += 1 + int(_LENGTH.unpack_from(chunk, position + 1)[0])
    return position == len(chunk)


def _parse(packet: bytes) -> FirstPacket:
    code = _HEADER.unpack_from(packet)[1]
    if code in {_SSL_CODE, _GSS_CODE}:
        return _parse_encryption(packet, gss=code == _GSS_CODE)
    if code == _CANCEL_CODE:
        return _parse_cancel(packet)
    if code >> 16 != 3:
        message = f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: server supports 3.0 to 3.2"
        return Refusal(sqlstate="0A000", message=message)
    return _parse_startup(packet, code)


def _parse_encryption(packet: bytes, *, gss: bool) -> FirstPacket:
    if len(packet) != 8:
        return violation("invalid length of encryption request")
    return EncryptionRequest(gss=gss)


def _parse_cancel(packet: bytes) -> FirstPacket:
    if not 12 < len(packet) <= 12 + MAX_CANCEL_KEY_BYTES:
        return violation("invalid length of cancel request")
    return CancelRequest(packet=packet)


def _parse_startup(packet: bytes, protocol: int) -> StartupMessage | Refusal:
    # A list of NUL-ended strings: name, value, name, value, and an empty name that must be the very last
    # byte.
    if packet[-1] != 0 or len(packet) < 9:
        return violation("invalid startup packet layout: expected terminator as last byte")
    strings = packet[8:-1].split(b"\0")
    if strings.pop() or len(strings) % 2:
        return violation("invalid startup packet layout: a parameter has no value")
    names, values = strings[0::2], strings[1::2]
    if b"" in names:
        return violation("invalid startup packet layout: expected terminator as last byte")
    return StartupMessage(protocol=protocol, parameters=tuple(zip(names, values, strict=True)))
