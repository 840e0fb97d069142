"""Showing how far something is: a live bar on a terminal, a line now and then elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from stillframe.cli.output import Terminal, human_bytes, human_rate, human_seconds

POLL_SECONDS = 0.25
_LINE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How far a piece of work is. Bytes and seconds, as its service measured them; None is not known."""

    phase: str
    done_bytes: int = 0
    total_bytes: int | None = None
    bytes_per_second: float | None = None
    remaining_seconds: float | None = None

    @property
    def sentence(self) -> str:
        """The report on one line."""
        if not self.total_bytes and not self.done_bytes:
            return self.phase
        of_total = f" of {human_bytes(self.total_bytes)}" if self.total_bytes else ""
        return f"{self.phase}: {human_bytes(self.done_bytes)}{of_total}{self.pace}"

    @property
    def pace(self) -> str:
        """Rate and time left, each only when known."""
        rate = f", {human_rate(self.bytes_per_second)}" if self.bytes_per_second else ""
        left = f", {human_seconds(self.remaining_seconds)} left" if self._is_foreseeable else ""
        return rate + left

    @property
    def _is_foreseeable(self) -> bool:
        # The first hundredth runs at no rate that means anything for the rest.
        return bool(self.remaining_seconds) and self.done_bytes * 100 > (self.total_bytes or 0)


class View(Protocol):
    """Something that shows reports."""

    def __call__(self, report: Report) -> None:
        """Show this one."""
        ...


class State(Protocol):
    """One look at a piece of work."""

    @property
    def report(self) -> Report:
        """How far it is."""
        ...

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more."""
        ...


StateT = TypeVar("StateT", bound=State)


def watch(look: Callable[[], StateT], view: View, *, sleep: Callable[[float], None] = time.sleep) -> StateT:
    """Look about four times a second and show what is seen, until the work has ended; the last look."""
    while True:
        state = look()
        view(state.report)
        if state.has_ended:
            return state
        sleep(POLL_SECONDS)


@contextlib.contextmanager
def progress(terminal: Terminal, title: str) -> Iterator[View]:
    """A view for one piece of work, on standard error; silent when programs read the result."""
    if terminal.err.is_terminal:
        with _live_bar(terminal, title) as view:
            yield view
    elif terminal.is_json:
        yield _silent
    else:
        yield _Lines(terminal, title)


def _silent(report: Report) -> None:
    """Show nothing."""
    del report


class _Lines:
    """A line when the phase changes, and every two seconds within one."""

    def __init__(self, terminal: Terminal, title: str) -> None:
        self._terminal = terminal
        self._title = title
        self._phase: str | None = None
        self._due = 0.0

    def __call__(self, report: Report) -> None:
        now = time.monotonic()
        if report.phase == self._phase and now < self._due:
            return
        self._phase, self._due = report.phase, now + _LINE_SECONDS
        self._terminal.remark(f"{self._title}: {report.sentence}")


@contextlib.contextmanager
def _live_bar(terminal: Terminal, title: str) -> Iterator[View]:
    with _bar(terminal) as bar:
        task = bar.add_task(title, total=None, amount="", pace="", phase="")

        def show(report: Report) -> None:
            of_total = f" / {human_bytes(report.total_bytes)}" if report.total_bytes else ""
            bar.update(
                task,
                total=report.total_bytes,
                completed=report.done_bytes,
                phase=report.phase,
                amount=f"{human_bytes(report.done_bytes)}{of_total}" if report.done_bytes else "",
                pace=report.pace.removeprefix(", "),
            )

        yield show


def _bar(terminal: Terminal) -> Any:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[amount]}", markup=False),
        TextColumn("{task.fields[pace]}", style="cyan", markup=False),
        TextColumn("{task.fields[phase]}", style="dim", markup=False),
        console=terminal.err,
        refresh_per_second=12,
    )
