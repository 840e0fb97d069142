"""What the chapters share: the service, connections to its databases, and the facts they collect."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg

from stillframe import Local
from stillframe.cli.connection import Answer, Connection, connect_to
from stillframe.cli.demo.fingerprint import Difference, Fingerprints
from stillframe.cli.demo.narrator import Narrator
from stillframe.cli.output import Terminal
from stillframe.errors import OperatorError

NAMESPACE = "shop"
WORKGROUP = "shop-workgroup"
ADMIN = "admin"
FIRST_DATABASE = "shop"


def make_password() -> str:
    """Letters and digits, with at least one upper-case, one lower-case and one digit, as the API demands."""
    return f"Aa1{secrets.token_hex(12)}"


@dataclass(slots=True, kw_only=True)
class CaptureFacts:
    """One snapshot, as the service measured it: bytes and seconds."""

    seconds: float
    total_seconds: float
    read_bytes: int
    logical_bytes: int
    stored_bytes: int


@dataclass(slots=True, kw_only=True)
class Facts:
    """Everything the demo found out: bytes and seconds, measured."""

    start_seconds: float = 0.0
    workgroup_seconds: float = 0.0
    load_seconds: float = 0.0
    databases: int = 0
    relations: int = 0
    rows: int = 0
    first_snapshot: CaptureFacts | None = None
    second_snapshot: CaptureFacts | None = None
    damage: list[Difference] = field(default_factory=list)
    restore_seconds: float = 0.0
    differences: list[Difference] = field(default_factory=list)
    table_seconds: float = 0.0
    table_rows: int = 0
    look_seconds: float = 0.0
    proof_seconds: float = 0.0
    is_verified: bool = False
    total_seconds: float = 0.0


@dataclass(kw_only=True)
class Stage:
    """The running service and what the story knows so far."""

    local: Local
    terminal: Terminal
    narrator: Narrator
    generator: Path
    scale: float
    facts: Facts = field(default_factory=Facts)
    before: Fingerprints = field(default_factory=dict)
    admin_password: str = field(default_factory=make_password, repr=False)
    role_password: str = field(default_factory=make_password, repr=False)

    @cached_property
    def connection(self) -> Connection:
        """The service's API, by plain boto3 clients."""
        return connect_to(self.local.address)

    def call(self, operation: str, **parameters: Any) -> Answer:
        """Call the API and show the call."""
        self.narrator.call(operation, parameters)
        return self.connection.call(operation, **parameters)

    @contextlib.contextmanager
    def database(
        self, name: str, *, user: str = ADMIN, password: str | None = None
    ) -> Iterator[psycopg.Connection]:
        """A connection to one of the databases, every statement committed; OperatorError when SQL fails."""
        try:
            with self.local.connect(
                WORKGROUP, name, user=user, password=password or self.admin_password, autocommit=True
            ) as connection:
                yield connection
        except psycopg.Error as error:
            raise OperatorError(f"The database {name} reported: {str(error).strip()}") from error
