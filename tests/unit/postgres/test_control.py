"""pg_control is read by its layout, checked, and can be made useless without its label."""

import struct
from pathlib import Path

import pytest

from stillframe.domain.lsn import Lsn
from stillframe.errors import SourceDataCorrupt, Unsupported
from stillframe.postgres.control import (
    CONTROL_FILE,
    CONTROL_FILE_SIZE,
    INVALID_CHECKPOINT,
    ClusterState,
    parse_control_file,
    poisoned,
    read_control_file,
)
from stillframe.postgres.crc32c import crc32c

pytestmark = pytest.mark.unit


def control_bytes(*, version: int = 1800) -> bytes:
    """A pg_control built field by field, as the server's header file lists them."""
    head = struct.pack("<QIIi4xqQ", 7711298780269268058, version, 202506291, 6, 1763890000, 0x16EF460)
    copy = struct.pack("<QII?3xi", 0x16EF400, 3, 2, True, 1)
    counters = struct.pack("<QIIIIIII4xqIII4x", 752, 12784, 1, 0, 744, 1, 1, 1, 1763890000, 0, 0, 0)
    recovery = struct.pack("<QQI4xQQ?3x", 1000, 0x55, 2, 0, 0, False)
    limits = struct.pack("<i?3xiiiii?3x", 1, False, 108, 8, 4, 5, 64, False)
    sizes = struct.pack("<Id8I?3xI", 8, 1234567.0, 8192, 131072, 8192, 16777216, 64, 32, 1996, 2048, True, 1)
    body = head + copy + counters + recovery + limits + sizes
    body += (b"\1" if version == 1800 else b"") + bytes(32)
    body += bytes(-len(body) % 4)
    return (body + struct.pack("<I", crc32c(body))).ljust(CONTROL_FILE_SIZE, b"\0")


@pytest.mark.parametrize("version", [1700, 1800])
def test_the_fields_of_both_layouts_are_found(version: int) -> None:
    control = parse_control_file(control_bytes(version=version))
    assert control.system_identifier == 7711298780269268058
    assert control.control_version == version
    assert control.state is ClusterState.IN_PRODUCTION
    assert (control.checkpoint, control.redo, control.timeline) == (Lsn(0x16EF460), Lsn(0x16EF400), 3)
    assert (control.block_size, control.relation_segment_blocks) == (8192, 131072)
    assert (control.wal_block_size, control.wal_segment_size) == (8192, 16 * 1024 * 1024)
    assert control.data_checksum_version == 1
    assert (control.limits.max_connections, control.limits.max_prepared_transactions) == (108, 5)
    assert (control.min_recovery_point, control.min_recovery_timeline) == (Lsn(0x55), 2)


@pytest.mark.parametrize("position", [0, 8, 33, 150, 220, 255, 289, 292])
def test_every_flipped_byte_is_noticed(position: int) -> None:
    content = bytearray(control_bytes())
    content[position] ^= 0x10
    with pytest.raises((SourceDataCorrupt, Unsupported)):
        parse_control_file(bytes(content))


def test_an_unknown_layout_is_not_guessed_at() -> None:
    content = bytearray(control_bytes())
    content[8:12] = (1902).to_bytes(4, "little")
    with pytest.raises(Unsupported, match="1902"):
        parse_control_file(bytes(content))


def test_a_short_file_is_damage() -> None:
    with pytest.raises(SourceDataCorrupt, match="12 bytes"):
        parse_control_file(bytes(12))


@pytest.mark.parametrize("version", [1700, 1800])
def test_a_poisoned_file_is_whole_but_points_nowhere(version: int) -> None:
    content = control_bytes(version=version)
    control = parse_control_file(poisoned(content))
    assert control.checkpoint == INVALID_CHECKPOINT
    assert control.redo == parse_control_file(content).redo
    assert len(poisoned(content)) == len(content)


def test_a_file_that_is_being_written_is_read_until_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = control_bytes()
    path = tmp_path / CONTROL_FILE
    path.parent.mkdir()
    path.write_bytes(whole[:100] + bytes(len(whole) - 100))
    monkeypatch.setattr("stillframe.postgres.control.time.sleep", lambda _: path.write_bytes(whole))
    assert read_control_file(tmp_path).timeline == 3


def test_a_file_that_stays_broken_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / CONTROL_FILE
    path.parent.mkdir()
    path.write_bytes(control_bytes()[:-8000])
    broken = bytearray(control_bytes())
    broken[40] ^= 1
    path.write_bytes(bytes(broken))
    monkeypatch.setattr("stillframe.postgres.control.time.sleep", lambda _: None)
    with pytest.raises(SourceDataCorrupt):
        read_control_file(tmp_path)


def test_the_crc_is_the_castagnoli_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
