"""How the copying of relation files is divided into units of work."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stillframe.backup import relations
from stillframe.backup.changes import BlockRange, Everything
from stillframe.backup.parallel import Unit
from stillframe.backup.reading import CopyContext
from stillframe.backup.relations import RelationCopy, relation_units
from stillframe.postgres.files import ListedFile, parse_relation_name
from stillframe.postgres.pages import BATCH_PAGES, PAGE_SIZE

pytestmark = pytest.mark.unit


def context() -> CopyContext:
    """Everything is read; nothing is."""
    return cast(
        "CopyContext",
        SimpleNamespace(
            root=Path("/nowhere"),
            changes=Everything(full_reason="a test"),
            tidying=None,
            segment_blocks=131072,
        ),
    )


def file(number: int, *, pages: int) -> ListedFile:
    name = str(16384 + number)
    return ListedFile(
        path=f"base/5/{name}", mode=0o600, size=pages * PAGE_SIZE, relation=parse_relation_name(name)
    )


def pieces_of(unit: Unit) -> list[tuple[RelationCopy, BlockRange]]:
    pieces: list[tuple[RelationCopy, BlockRange]] = cast("Any", unit).args[1]
    return pieces


@pytest.mark.parametrize("pages", [0, 1])
def test_thousands_of_small_files_are_never_open_at_once(pages: int) -> None:
    units = list(relation_units(context(), (file(number, pages=pages) for number in range(5000))))
    assert sum(len(pieces_of(unit)) for unit in units) == 5000
    assert max(len(pieces_of(unit)) for unit in units) <= relations._MOST_OF_A_UNIT


def test_a_unit_is_never_longer_than_a_batch() -> None:
    files = [file(number, pages=pages) for number, pages in enumerate((3, 700, 511, 1, 2000, 0, 513))]
    units = [pieces_of(unit) for unit in relation_units(context(), files)]
    assert all(sum(piece.count for _, piece in unit) <= BATCH_PAGES for unit in units)
    copied = {(copy.path, block) for unit in units for copy, piece in unit for block in _blocks(piece)}
    wanted = {(listed.path, block) for listed in files for block in range(listed.size // PAGE_SIZE)}
    assert copied == wanted


def _blocks(piece: BlockRange) -> range:
    return range(piece.first, piece.first + piece.count)
