"""Showing what was found: in the terminal, as Markdown, as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from bench.results import Goal, Section, Table

_COLOURS = {True: "green", False: "red", None: "yellow"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole run."""

    command: str
    note: str
    started_at: datetime
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    sections: Sequence[Section]

    @property
    def goals(self) -> list[Goal]:
        """Of all sections."""
        return [goal for section in self.sections for goal in section.goals]


def show(report: Report, console: Console) -> None:
    """Tables in the terminal, the goals last."""
    if report.note:
        console.print(report.note, markup=False)
    for title, facts in (("Machine", report.machine), ("Versions", report.versions)):
        console.print(f"[bold]{title}[/]: " + ", ".join(f"{name} {value}" for name, value in facts.items()))
    for table in (table for section in report.sections for table in section.tables):
        console.print(_rich(table))
        for note in table.notes:
            console.print(f"[dim]{note}[/]", highlight=False)
    for goal in report.goals:
        console.print(
            f"[{_COLOURS[goal.reached]}]{goal.verdict:>12}[/]  {goal.text}: {goal.found}", highlight=False
        )


def _rich(table: Table) -> RichTable:
    rich = RichTable(title=table.title, title_justify="left", title_style="bold")
    for number, column in enumerate(table.columns):
        rich.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        rich.add_row(*row)
    return rich


def write_json(report: Report, path: Path) -> None:
    """Everything, with every single measurement."""
    content: dict[str, Any] = {
        "command": report.command,
        "note": report.note,
        "started_at": report.started_at.isoformat(),
        "machine": dict(report.machine),
        "versions": dict(report.versions),
        "goals": [asdict(goal) for goal in report.goals],
        "sections": {section.name: section.raw for section in report.sections},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def write_markdown(report: Report, path: Path, *, comment: Path) -> None:
    """The page of recorded results; what people have to say about them is kept in a file of its own."""
    remarks = comment.read_text() if comment.exists() else ""
    path.write_text("\n".join([*_lines(report), remarks]).rstrip() + "\n")


def _lines(report: Report) -> Iterator[str]:
    day = report.started_at.astimezone(UTC).strftime("%d %B %Y, %H:%M UTC")
    yield from ("# Benchmarks", "", f"Written by `{report.command}` on {day}. Do not edit: run it again.", "")
    yield from ("Ours and the peers, in one run, on the same data, in turns. `make bench` repeats it.", "")
    if report.note:
        yield from (report.note, "")
    yield from ("## Goals", "", "| goal | found | |", "|---|---|---|")
    yield from (f"| {goal.text} | {goal.found} | {goal.verdict} |" for goal in report.goals)
    yield ""
    for title, facts in (("Machine", report.machine), ("Versions", report.versions)):
        yield from (f"## {title}", "", "| | |", "|---|---|")
        yield from (f"| {name} | {value} |" for name, value in facts.items())
        yield ""
    for section in report.sections:
        for table in section.tables:
            yield from _markdown(table)


def _markdown(table: Table) -> Iterator[str]:
    yield from (f"## {table.title}", "")
    yield "| " + " | ".join(table.columns) + " |"
    yield "|---|" + "---:|" * (len(table.columns) - 1)
    yield from ("| " + " | ".join(row) + " |" for row in table.rows)
    yield ""
    yield from (f"* {note}" for note in table.notes)
    yield ""
