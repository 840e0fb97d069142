"""Reads the documents: their tables, links and headings, and the examples that are to be executed.

A comment on the line before a fenced block says what the block is:

* ``<!-- run -->``: executed. Python as a program of its own; in a console block each line after ``$ `` is a command
  for bash, and the other lines are what it prints to standard output. All console blocks of a page share one shell.
* ``<!-- run with a service -->``, ``<!-- run with a service and a snapshot -->``, ``<!-- run without a service -->``,
  ``<!-- run after a service with a snapshot -->``: the same, on the first executed block of a page that needs it.
* ``<!-- file: NAME -->``: written to a file that later blocks can use.
* ``<!-- prints -->``: what the Python block before it prints.

``…`` in what is printed stands for anything.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_MARK = re.compile(r"\s*<!-- (?P<mark>run\b[^>]*?|prints|file: [\w.-]+) -->\s*")
_FENCE = re.compile(r"\s*```(?P<language>\w*)\s*")
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"#{1,6} (?P<title>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block and the mark before it, "" for none."""

    page: Path
    line: int
    language: str
    mark: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line of a console block and what it is said to print."""

    text: str
    prints: str


def pages() -> list[Path]:
    """All documents, those at the top first."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    mark, language, started, body = "", None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = _FENCE.fullmatch(line)
        if language is not None and fence and not fence["language"]:
            yield Block(page=page, line=started, language=language, mark=mark, text="\n".join(body) + "\n")
            mark, language, body = "", None, []
        elif language is not None:
            body.append(line)
        elif fence:
            language, started = fence["language"], number
        elif line.strip():
            found = _MARK.fullmatch(line)
            mark = found["mark"] if found else ""
    assert language is None, f"{page}: the block that begins in line {started} has no end"


def commands(block: Block) -> list[Command]:
    """The commands of a console block. A backslash at the end of a line carries a command on."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif found[-1][0][-1].endswith("\\") and not found[-1][1]:
            found[-1][0].append(line)
        else:
            found[-1][1].append(line)
    return [Command(text="\n".join(lines), prints="\n".join(printed)) for lines, printed in found]


def agrees(printed: str, expected: str) -> bool:
    """Whether a program printed what the page says, where `…` stands for anything and ends of lines for nothing."""
    pattern = ".*?".join(re.escape(part) for part in _trimmed(expected).split("…"))
    return re.fullmatch(pattern, _trimmed(printed), re.DOTALL) is not None


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    kept, inside = [], False
    for line in page.read_text().splitlines():
        if _FENCE.fullmatch(line):
            inside = not inside
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def links(page: Path) -> list[str]:
    """The targets of all links and pictures of a page, as written."""
    without_code = re.sub(r"`[^`\n]*`", "", prose(page))
    return [match["target"] for match in _LINK.finditer(without_code)]


def anchors(page: Path) -> set[str]:
    """What `page.md#…` can name: the headings, as code hosts turn them into anchors."""
    titles = [match["title"] for line in prose(page).splitlines() if (match := _HEADING.fullmatch(line))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def rows(page: Path, *, under: str | None = None) -> list[Sequence[str]]:
    """The cells of all table rows of a page, or of the section with this title; without the lines of headings."""
    lines = section(page, under).splitlines() if under else prose(page).splitlines()
    found = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in lines if "|" in line
    ]
    rules = [
        number for number, row in enumerate(found) if row and all(set(cell) <= set("-: ") for cell in row)
    ]
    headings = {number - 1 for number in rules} | set(rules)
    return [row for number, row in enumerate(found) if row and number not in headings]


def section(page: Path, title: str) -> str:
    """The text below a heading, up to the next heading of its level or above."""
    lines = page.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if re.fullmatch(rf"#+ {re.escape(title)}", line))
    level = len(lines[start].split(" ")[0])
    rest = lines[start + 1 :]
    ends = (number for number, line in enumerate(rest) if re.match(rf"#{{1,{level}}} ", line))
    return "\n".join(rest[: next(ends, len(rest))])


def code(cell: str) -> str:
    """What stands between the first backticks of a cell; the cell itself when there are none."""
    match = re.search(r"`([^`]*)`", cell)
    return match[1] if match else cell
