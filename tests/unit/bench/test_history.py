"""Which pages the measure of a month of snapshots counts, and how."""

from pathlib import Path

import pytest
from bench.history import _pages

pytestmark = pytest.mark.unit

_PAGE = 8192


def _write(data: Path, name: str, *pages: bytes) -> None:
    path = data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(page * _PAGE for page in pages))


def test_changed_pages_are_read_from_the_file_of_their_fork(tmp_path: Path) -> None:
    _write(tmp_path, "base/5/16384", b"a", b"b", b"c")
    _write(tmp_path, "base/5/16384_vm", b"v")
    changed = [(1663, 5, 16384, 0, 2), (1663, 5, 16384, 0, 0), (1663, 5, 16384, 2, 0)]
    assert [page[:1] for page in _pages(tmp_path, changed)] == [b"c", b"a", b"v"]


def test_shared_relations_lie_in_the_global_directory(tmp_path: Path) -> None:
    _write(tmp_path, "global/1262", b"g")
    assert list(_pages(tmp_path, [(1664, 0, 1262, 0, 0)])) == [b"g" * _PAGE]


def test_a_page_of_a_later_segment_is_counted_from_the_segments_beginning(tmp_path: Path) -> None:
    _write(tmp_path, "base/5/16384.1", b"x", b"y")
    assert [page[:1] for page in _pages(tmp_path, [(1663, 5, 16384, 0, 131_073)])] == [b"y"]


def test_pages_of_what_was_dropped_or_truncated_count_nothing(tmp_path: Path) -> None:
    _write(tmp_path, "base/5/16384", b"a")
    changed = [(1663, 5, 16385, 0, 0), (1663, 5, 16384, 0, 7)]
    assert b"".join(_pages(tmp_path, changed)) == b""
