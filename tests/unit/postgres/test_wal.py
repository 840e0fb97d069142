"""The WAL of a copy is contiguous and where it says it is."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.domain.lsn import Lsn
from stillframe.errors import SourceDataCorrupt
from stillframe.postgres.backup_session import parse_backup_label
from stillframe.postgres.wal import TimelineEntry, check_wal_pages, parse_history, wal_segments

pytestmark = pytest.mark.unit

SEGMENT = 1024 * 1024


@given(start=st.integers(SEGMENT, 2**40), length=st.integers(1, 5 * SEGMENT), timeline=st.integers(1, 2**31))
def test_segments_cover_the_range_without_a_gap(start: int, length: int, timeline: int) -> None:
    segments = wal_segments(
        start=Lsn(start), stop=Lsn(start + length), timeline=timeline, segment_size=SEGMENT
    )
    assert segments[0].start <= start < segments[0].start + SEGMENT
    assert segments[-1].start + segments[-1].needed == start + length
    assert 0 < segments[-1].needed <= SEGMENT
    for earlier, later in pairwise(segments):
        assert earlier.needed == SEGMENT
        assert later.start == earlier.start + SEGMENT
    assert all(segment.path.startswith(f"pg_wal/{timeline:08X}") for segment in segments)


def wal_pages(start: int, count: int, *, system: int = 42) -> bytes:
    """WAL pages with right headers and nothing else."""
    pages = []
    for number in range(count):
        head = struct.pack("<HHIQ", 0xD118, 2 if number == 0 else 0, 1, start + number * 8192)
        if number == 0:
            head += struct.pack("<I4xQII", 0, system, SEGMENT, 8192)
        pages.append(head.ljust(8192, b"\0"))
    return b"".join(pages)


def test_wal_of_another_place_or_cluster_is_refused() -> None:
    (segment,) = wal_segments(start=Lsn(SEGMENT), stop=Lsn(SEGMENT + 20000), timeline=1, segment_size=SEGMENT)
    good = wal_pages(SEGMENT, 3)[:20000]
    check_wal_pages(good, segment=segment, offset=0, system_identifier=42)
    moved = good[:8192] + wal_pages(7 * SEGMENT, 2)
    for wrong, system in ((good, 43), (wal_pages(2 * SEGMENT, 3), 42), (moved, 42), (b"", 42)):
        with pytest.raises(SourceDataCorrupt):
            check_wal_pages(wrong, segment=segment, offset=0, system_identifier=system)


def test_after_an_early_switch_the_rest_of_a_segment_is_zero() -> None:
    first, last = wal_segments(
        start=Lsn(SEGMENT), stop=Lsn(2 * SEGMENT + 20000), timeline=1, segment_size=SEGMENT
    )
    switched = wal_pages(SEGMENT, 3) + bytes(5 * 8192)

    def ended(content: bytes, *, offset: int = 0, before: bool = False) -> bool:
        return check_wal_pages(content, segment=first, offset=offset, system_identifier=42, ended=before)

    assert not ended(switched[: 3 * 8192])
    assert ended(switched)
    assert ended(bytes(8192), offset=3 * 8192)
    assert ended(bytes(8192), offset=8 * 8192, before=True)
    again = wal_pages(SEGMENT, 5)[4 * 8192 :]
    for wrong in (switched + again, switched[:-1] + b"x", bytes(8192)):
        with pytest.raises(SourceDataCorrupt):
            ended(wrong)
    with pytest.raises(SourceDataCorrupt):
        ended(again, offset=4 * 8192, before=True)
    with pytest.raises(SourceDataCorrupt):
        # What the snapshot ends in was not switched away from before its end.
        check_wal_pages(wal_pages(2 * SEGMENT, 1) + bytes(8192), segment=last, offset=0, system_identifier=42)


def test_nothing_is_asked_of_what_lies_behind_the_end() -> None:
    (segment,) = wal_segments(start=Lsn(SEGMENT), stop=Lsn(SEGMENT + 100), timeline=1, segment_size=SEGMENT)
    check_wal_pages(b"", segment=segment, offset=8192, system_identifier=42)


def test_a_history_lists_the_ancestors() -> None:
    text = "1\t0/3000158\tno recovery target specified\n\n# a note\n4\t1/A0\tbefore\n"
    assert list(parse_history(text)) == [
        TimelineEntry(timeline=1, until=Lsn(0x3000158)),
        TimelineEntry(timeline=4, until=Lsn(0x1_0000_00A0)),
    ]
    with pytest.raises(SourceDataCorrupt):
        list(parse_history("one\t0/1\n"))


def test_a_backup_label_is_read_and_anything_else_refused() -> None:
    text = (
        "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000080\n"
        "BACKUP METHOD: streamed\nSTART TIMELINE: 3\n"
    )
    label = parse_backup_label(text)
    assert (label.start_lsn, label.checkpoint_lsn, label.timeline) == (Lsn(0x2000028), Lsn(0x2000080), 3)
    with pytest.raises(SourceDataCorrupt):
        parse_backup_label(text.replace("CHECKPOINT", "CHECK"))
