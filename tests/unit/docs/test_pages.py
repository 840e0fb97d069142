"""Pages: their links lead somewhere, their examples parse, and no file tells where it was written."""

import ast
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.docs import ROOT, Block, agrees, anchors, blocks, commands, links, pages

pytestmark = pytest.mark.unit

_SKIPPED = {".git", ".venv", ".node", "node_modules", "__pycache__", "results"}
_SKIPPED_ENDS = ("_cache", ".egg-info", ".hypothesis")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        assert "://" not in link, f"{link}: documents name no outside address"
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_every_page_is_linked_from_the_readme_or_from_a_page_that_is() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            found = sorted(target.glob("*.md")) if target.is_dir() else [target]
            waiting += [item for item in found if item.suffix == ".md" and item not in seen]
    assert [str(page.relative_to(ROOT)) for page in pages() if page not in seen] == []


def _all_blocks() -> list[Block]:
    return [block for page in pages() for block in blocks(page)]


def test_python_examples_parse_and_data_examples_are_data() -> None:
    for block in _all_blocks():
        if block.language == "python":
            ast.parse(block.text, filename=f"{block.page.name}:{block.line}")
        elif block.language == "json":
            json.loads(block.text)


def test_marks_are_spelt_right_and_stand_before_a_block() -> None:
    """A mark that was not understood would silently be an example that nobody executes."""
    for page in pages():
        body = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        outside = re.sub(r"`[^`\n]*`", "", body)
        understood = sum(1 for block in blocks(page) if block.mark)
        assert outside.count("<!--") == understood, f"{page.name}: a comment that is no mark of a block"


def test_console_examples_begin_with_a_command() -> None:
    for block in _all_blocks():
        if block.language == "console":
            assert commands(block)[0].text


def _written_files() -> Iterator[Path]:
    """All files that are in the repository or would be, by git; without git, by their names."""
    # The checkout may belong to another user than the one who tests.
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    command = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        for directory, below, names in os.walk(ROOT):
            below[:] = [name for name in below if not _is_skipped(name)]
            yield from (Path(directory, name) for name in names)
    else:
        yield from (ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file())


def _is_skipped(name: str) -> bool:
    return name in _SKIPPED or name.endswith(_SKIPPED_ENDS)


# Put together from parts, so that this file does not find itself.
_MACHINE_PATH = re.compile("/" + r"(?:work/(?:main|shared)|root/\.|home/[a-z]|tmp/[a-z]+-?[a-z]*/)")
_REGISTRIES = (
    r"pypi\." + "org",
    "python" + "hosted",
    r"registry\." + "npmjs",
    r"repo1?\." + "maven",
    "index" + "-url=",
)
_REGISTRY = re.compile("|".join(_REGISTRIES))


def test_no_file_names_a_directory_of_this_machine_or_the_address_of_a_registry() -> None:
    found = []
    for path in _written_files():
        text = path.read_bytes().decode(errors="ignore")
        for pattern in (_MACHINE_PATH, _REGISTRY):
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


def test_the_picture_of_the_demo_loads_nothing_from_elsewhere() -> None:
    picture = (ROOT / "docs" / "images" / "demo.svg").read_text()
    outside = re.sub(r'xmlns="[^"]*"', "", picture)
    assert "://" not in re.sub(r"http://127\.0\.0\.1:\d+", "", outside)
    assert "Verified" in picture
    assert len(picture) < 100_000


@pytest.mark.parametrize(
    ("printed", "expected", "verdict"),
    [
        ("a\nb  \n", "a\nb", True),
        ("took 5 ms\n", "took …", True),
        ("took 5 ms\nand more\n", "took … ms", False),
        ("one\ntwo\nthree\n", "one\n…\nthree", True),
        ("", "", True),
        ("something", "", False),
    ],
)
def test_what_is_printed_is_compared_with_gaps(printed: str, expected: str, verdict: bool) -> None:
    assert agrees(printed, expected) is verdict
