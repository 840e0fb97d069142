"""`stillframe snapshot open`, `opened`, `close` and `query`: looking into a snapshot without restoring it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import RenderableType

from stillframe.cli.connection import Connection, connect
from stillframe.cli.options import DEFAULTS, Common
from stillframe.cli.output import OutputFormat, Terminal, facts, human_time, table
from stillframe.cli.progress import Report, progress, watch
from stillframe.cli.questions import Login, ask_for_csv, ask_for_json, ask_for_table
from stillframe.errors import InvalidRequest, NotFound, OperatorError

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_QUERY_SECONDS = 3600
"""When a copy made for one question is closed at the latest, if the command was killed."""

NameOption = Annotated[str, Parameter(help="The snapshot.")]


class AnswerForm(StrEnum):
    """How the rows of an answer are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenState:
    """A copy in one moment, and its password, which only the answer to its opening has."""

    copy: Mapping[str, Any]
    password: str = field(repr=False)

    @property
    def report(self) -> Report:
        """How far the opening is."""
        return Report(phase=str(self.copy["status"]).lower())

    @property
    def has_ended(self) -> bool:
        """Whether the copy is open, or will not be."""
        return bool(self.copy["status"] != "OPENING")

    def login(self, database: str) -> Login:
        """How to connect to it."""
        return Login(
            host=self.copy["address"],
            port=self.copy["port"],
            user=self.copy["username"],
            password=self.password,
            database=database,
        )


def register(app: App) -> None:
    """Add the commands to those of snapshots."""
    app.command(open_, name="open")
    app.command(opened)
    app.command(close)
    app.command(query)


def open_(
    name: str,
    /,
    *,
    ttl: Annotated[str, Parameter(help="How long it stays open: 90s, 15m, 1h, 7d.")] = "1h",
    common: Common = DEFAULTS,
) -> None:
    """Open a snapshot to look into it: a private, read-only copy to connect to. Nothing is restored."""
    connection, terminal = connect(common.data), common.terminal
    state = _opened(connection, terminal, name, seconds=parse_ttl(ttl), temporary=False)
    document = {"openSnapshot": state.copy, "password": state.password}
    terminal.result(document, lambda: _login_facts(state))


def opened(*, common: Common = DEFAULTS) -> None:
    """List the snapshots that are open."""
    copies = connect(common.data).extend("list_open_snapshots")["openSnapshots"]
    common.terminal.result({"openSnapshots": copies}, lambda: _many(copies))


def close(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Close a snapshot that is open; connections to it are ended."""
    copies = connect(common.data).extend("close_snapshot", snapshotName=name)["openSnapshots"]
    common.terminal.result({"openSnapshots": copies}, lambda: f"The snapshot {name} is being closed.")


def query(
    name: str,
    statement: str,
    /,
    *,
    database: Annotated[str, Parameter(name=["--database", "-d"], help="The database to ask.")],
    form: Annotated[
        AnswerForm,
        Parameter(name="--format", help="`csv` and `json` print all rows, `table` the first 1000."),
    ] = AnswerForm.TABLE,
    common: Common = DEFAULTS,
) -> None:
    """Ask a snapshot one question. It is opened for that and closed again, unless it is open already."""
    connection, terminal = connect(common.data), common.terminal
    chosen = AnswerForm.JSON if common.output is OutputFormat.JSON else form
    with opened_for_a_question(connection, terminal, name) as state:
        login = state.login(database)
        match chosen:
            case AnswerForm.CSV:
                ask_for_csv(login, statement)
            case AnswerForm.JSON:
                ask_for_json(login, statement)
            case AnswerForm.TABLE:
                answer = ask_for_table(login, statement)
                terminal.show(table(answer.columns, answer.rows, right=answer.numbers))
                if answer.is_cut:
                    terminal.remark(
                        f"Only the first {len(answer.rows)} rows are shown: --format csv prints all."
                    )


@contextmanager
def opened_for_a_question(connection: Connection, terminal: Terminal, name: str) -> Iterator[OpenState]:
    """An open copy of the snapshot; one that was opened for this is closed again. Raises OperatorError."""
    answer = connection.extend(
        "open_snapshot", snapshotName=name, durationSeconds=_QUERY_SECONDS, temporary=True
    )
    state = OpenState(copy=answer["openSnapshot"], password=answer["password"])
    try:
        yield _awaited(connection, terminal, state)
    finally:
        if state.copy["temporary"]:
            _close_again(connection, state)


def _close_again(connection: Connection, state: OpenState) -> None:
    try:
        connection.extend("close_snapshot", openSnapshotId=state.copy["openSnapshotId"])
    except NotFound:
        # Its time was over meanwhile, or the service was started anew.
        return


def _opened(
    connection: Connection, terminal: Terminal, name: str, *, seconds: int, temporary: bool
) -> OpenState:
    answer = connection.extend(
        "open_snapshot", snapshotName=name, durationSeconds=seconds, temporary=temporary
    )
    return _awaited(connection, terminal, OpenState(copy=answer["openSnapshot"], password=answer["password"]))


def _awaited(connection: Connection, terminal: Terminal, begun: OpenState) -> OpenState:
    """The copy once it can be connected to; raise OperatorError when that will not be."""

    def look() -> OpenState:
        found = connection.extend("list_open_snapshots", openSnapshotId=begun.copy["openSnapshotId"])
        if not found["openSnapshots"]:
            raise OperatorError(f"The snapshot {name} was closed before it was open.")
        return OpenState(copy=found["openSnapshots"][0], password=begun.password)

    name = begun.copy["snapshotName"]
    with progress(terminal, f"Opening {name}") as view:
        state = watch(look, view)
    if state.copy["status"] != "OPEN":
        reason = state.copy.get("message") or "it was closed meanwhile"
        raise OperatorError(f"The snapshot {name} could not be opened: {reason}")
    return state


def parse_ttl(text: str) -> int:
    """Seconds of `90s`, `15m`, `1h`, `7d` or a bare number. Raises InvalidRequest for anything else."""
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip())
    if match is None:
        raise InvalidRequest(f"{text!r} is not a duration.", hint="Write it as 90s, 15m, 1h or 7d.")
    return int(match[1]) * _UNITS[match[2]]


def _login_facts(state: OpenState) -> RenderableType:
    copy = state.copy
    return facts(
        {
            "Snapshot": copy["snapshotName"],
            "Host": copy["address"],
            "Port": str(copy["port"]),
            "User": copy["username"],
            "Password": state.password,
            "Open until": human_time(copy["expiresAt"]),
        }
    )


def _many(copies: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            copy["snapshotName"],
            copy["status"],
            f"{copy['address']}:{copy['port']}" if copy.get("port") else "-",
            copy["username"],
            human_time(copy["expiresAt"]),
            copy.get("message") or "",
        )
        for copy in copies
    ]
    return table(("Snapshot", "Status", "Address", "User", "Open until", ""), rows)
