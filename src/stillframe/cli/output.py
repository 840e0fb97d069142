"""How commands speak: results to standard output as text or JSON, remarks and progress to standard error."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text


class OutputFormat(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


class Terminal:
    """Standard output for results, standard error for remarks; knows which form the results take."""

    def __init__(self, output: OutputFormat = OutputFormat.TEXT) -> None:
        self.output = output

    @cached_property
    def out(self) -> "Console":
        """Standard output."""
        return _console(stderr=False)

    @cached_property
    def err(self) -> "Console":
        """Standard error."""
        return _console(stderr=True)

    @property
    def is_json(self) -> bool:
        """Whether programs read the result."""
        return self.output is OutputFormat.JSON

    def result(self, document: Any, render: "Callable[[], RenderableType]") -> None:
        """Print a command's result: `document` as JSON, or what `render` makes of it."""
        if self.is_json:
            sys.stdout.write(to_json(document))
        else:
            self.show(render())
        sys.stdout.flush()

    def show(self, item: "RenderableType", *, width: int | None = None) -> None:
        """Print something readable to standard output, at most `width` columns wide."""
        columns = min(width or self.out.width, self.out.width)
        if self.out.is_terminal:
            self.out.print(item, width=columns)
            return
        with self.out.capture() as capture:
            self.out.print(item, width=columns)
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
        sys.stdout.flush()

    def lines(self, document: Any, lines: Iterable[str]) -> None:
        """Print a result whose text form is meant for programs too: exactly these lines, never folded."""
        sys.stdout.write(to_json(document) if self.is_json else "".join(f"{line}\n" for line in lines))
        sys.stdout.flush()

    def remark(self, text: str) -> None:
        """Say something that is not the result."""
        self.err.print(text, markup=False)


_FILE_WIDTH = 1000


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # In a file or pipe one line stays one line, so that it can be searched and cut.
    return Console(stderr=stderr, highlight=False, width=None if is_terminal else _FILE_WIDTH)


def to_json(document: Any) -> str:
    """The JSON form of a result, ending with a newline; times as ISO 8601 in UTC."""
    return json.dumps(document, indent=2, default=_plain) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def table(
    columns: Sequence[str], rows: "Iterable[Sequence[str | Text]]", *, right: Sequence[str] = ()
) -> "Table":
    """A plain table; the columns named in `right` hold numbers. Cells are shown as they are, no markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        # Folded and never cut: a name that is shown in part cannot be used in the next command.
        grid.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return grid


def facts(pairs: "Mapping[str, str | Text | None]") -> "Table":
    """Names and values below each other; pairs without a value are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs.items():
        if value is not None:
            grid.add_row(name, value if isinstance(value, Text) else Text(value))
    return grid


def alarming(text: str) -> "Text":
    """A text that nobody should overlook: red where there are colours."""
    from rich.text import Text

    return Text(text, style="bold red")


_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def human_bytes(size: float | None) -> str:
    """A size in decimal units with three digits or so: `1.23 GB`; a dash when it is not known."""
    if size is None:
        return "-"
    value = float(size)
    for unit in _UNITS[:-1]:
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} {_UNITS[-1]}"


def human_rate(bytes_per_second: float | None) -> str:
    """Bytes in a second: `512 MB/s`; a dash when it is not known."""
    return "-" if bytes_per_second is None else f"{human_bytes(bytes_per_second)}/s"


def human_seconds(seconds: float | None) -> str:
    """A duration: `85 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`; a dash when it is not known."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def human_time(moment: datetime | None) -> str:
    """A moment in the reader's own time zone, to the second; a dash when there is none."""
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
