"""The voice of the demo: prose on standard output, nothing when programs read the result."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from stillframe import __version__
from stillframe.cli.output import Terminal, table

_WIDTH = 100
_HIDDEN = ("adminUserPassword",)


class Narrator:
    """Tells what happens. Chapters number themselves."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._chapter = 0

    def open(self) -> None:
        """The title."""
        self._show(
            Text.assemble(("Stillframe", "bold cyan"), f" {__version__}: a snapshot, a disaster, and back\n")
        )

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._chapter += 1
        self._show(Text.assemble("\n", (f"{self._chapter}. {title}", "bold")))

    def say(self, sentence: str) -> None:
        """A sentence about what was just done or seen."""
        self._show(Padding(Text(sentence), (0, 0, 0, 3)))

    def praise(self, sentence: str) -> None:
        """A sentence about something that was verified."""
        self._show(Padding(Text.assemble(("✓ ", "green bold"), sentence), (0, 0, 0, 3)))

    def regret(self, sentence: str) -> None:
        """A sentence about something that is not as it should be."""
        self._show(Padding(Text.assemble(("✗ ", "red bold"), sentence), (0, 0, 0, 3)))

    def call(self, operation: str, parameters: Mapping[str, Any]) -> None:
        """A call of the API, as one would write it in Python; passwords are not shown."""
        shown = ", ".join(
            f"{name}={'…' if name in _HIDDEN else repr(value)}" for name, value in parameters.items()
        )
        self._show(Padding(Text(f"client.{operation}({shown})", style="cyan"), (0, 0, 0, 3)))

    def statement(self, database: str, sql: str) -> None:
        """A statement sent to a database."""
        self._show(Padding(Text.assemble((f"{database}=> ", "dim"), (sql, "red")), (0, 0, 0, 3)))

    def list(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
    ) -> None:
        """A small table."""
        self._show(Padding(table(columns, rows, right=right), (0, 0, 0, 3)))

    def _show(self, item: RenderableType) -> None:
        if not self._terminal.is_json:
            self._terminal.show(item, width=_WIDTH)
