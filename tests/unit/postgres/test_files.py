"""Which files of a data directory belong into a copy, by name and place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import Unsupported
from stillframe.postgres.files import (
    Fork,
    RelationFile,
    is_relation_folder,
    is_temporary_relation,
    list_data_directory,
    parse_relation_name,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "number", "fork", "segment"),
    [
        ("16384", 16384, Fork.MAIN, 0),
        ("16384.1", 16384, Fork.MAIN, 1),
        ("16384_fsm", 16384, Fork.FREE_SPACE, 0),
        ("16384_vm.12", 16384, Fork.VISIBILITY, 12),
        ("4294967295_init", 4294967295, Fork.INIT, 0),
    ],
)
def test_relation_names_are_taken_apart(name: str, number: int, fork: Fork, segment: int) -> None:
    assert parse_relation_name(name) == RelationFile(number=number, fork=fork, segment=segment)


@pytest.mark.parametrize(
    "name",
    ["", "0", "016384", "16384.", "16384.0", "16384.01", "16384_", "16384_foo", "16384_fsm_vm", "4294967296",
     "16384.1_fsm", "t3_16384", "PG_VERSION", "pg_filenode.map", "16384 ", "१६३८४", "16384.99999999999"],
)  # fmt: skip
def test_other_names_are_no_relations(name: str) -> None:
    assert parse_relation_name(name) is None


@given(number=st.integers(1, 2**32 - 1), fork=st.sampled_from(Fork), segment=st.integers(0, 2**32 - 1))
def test_every_name_postgresql_makes_is_understood(number: int, fork: Fork, segment: int) -> None:
    name = f"{number}" + (f"_{fork}" if fork else "") + (f".{segment}" if segment else "")
    assert parse_relation_name(name) == RelationFile(number=number, fork=fork, segment=segment)


def test_temporary_tables_are_known_by_their_names() -> None:
    assert is_temporary_relation("t3_16384")
    assert is_temporary_relation("t12_16384_fsm.2")
    assert not is_temporary_relation("t3_")
    assert not is_temporary_relation("3_16384")


def test_relations_live_in_three_kinds_of_directories() -> None:
    inside = ("global", "base/5", "pg_tblspc/16400/PG_18_202506291/5")
    outside = (
        "",
        "base",
        "base/5/sub",
        "pg_tblspc/16400",
        "pg_tblspc/16400/PG_18_202506291",
        "pg_xact",
        "base/x",
    )
    assert all(map(is_relation_folder, inside))
    assert not any(map(is_relation_folder, outside))


def make(root: Path, *paths: str) -> None:
    """Files with one byte; a path that ends with / is a directory."""
    for path in paths:
        place = root / path
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            place.write_bytes(b"x")


def test_what_belongs_to_the_running_server_only_is_left_out(tmp_path: Path) -> None:
    kept = {
        "PG_VERSION", "postgresql.conf", "base/5/16384", "base/5/PG_VERSION", "base/5/pg_filenode.map",
        "global/1262", "pg_xact/0000", "pg_multixact/offsets/0000", "pg_twophase/0000000000000001",
        "pg_tblspc/16400/PG_18_202506291/5/16401", "pg_xact/16384_vm",
    }  # fmt: skip
    skipped = {
        "postmaster.pid", "postmaster.opts", "backup_label", "backup_label.old", "tablespace_map",
        "backup_manifest", "recovery.signal", "standby.signal", "promote", "current_logfiles",
        "postgresql.auto.conf.tmp",
        "global/pg_control", "global/pg_internal.init", "base/5/pg_internal.init.123", "base/5/t3_16390",
        "base/pgsql_tmp/pgsql_tmp1.0", "pg_stat_tmp/a", "pg_replslot/s/state", "pg_notify/0000",
        "pg_serial/0000", "pg_snapshots/0", "pg_subtrans/0000", "pg_dynshmem/m", "pg_wal/000000010000000000000001",
        "pg_wal/00000002.history", "pg_wal/archive_status/x.done", "pg_wal/summaries/0000.summary",
        ".stillframe.conf.0123456789ab.tmp",
    }  # fmt: skip
    make(tmp_path, *kept, *skipped)
    listing = list_data_directory(tmp_path)
    assert {file.path for file in listing.files} == kept
    folders = {folder.path for folder in listing.directories}
    assert {
        "",
        "pg_replslot",
        "pg_wal/archive_status",
        "pg_wal/summaries",
        "pg_stat_tmp",
        "pg_notify",
    } <= folders
    assert "base/pgsql_tmp" not in folders
    assert "pg_replslot/s" not in folders


def test_unlogged_relations_keep_only_their_init_forks(tmp_path: Path) -> None:
    make(
        tmp_path, *(f"base/5/16384{suffix}" for suffix in ("", ".1", "_fsm", "_vm", "_init")), "base/5/16385"
    )
    found = {file.path for file in list_data_directory(tmp_path).files}
    assert found == {"base/5/16384_init", "base/5/16385"}


def test_a_tablespace_elsewhere_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "pg_tblspc/")
    (tmp_path / "pg_tblspc/16400").symlink_to(tmp_path)
    with pytest.raises(Unsupported, match="16400"):
        list_data_directory(tmp_path)


def test_other_links_are_refused_too(tmp_path: Path) -> None:
    make(tmp_path, "base/5/")
    (tmp_path / "base/5/16384").symlink_to(tmp_path)
    with pytest.raises(Unsupported, match="symbolic link"):
        list_data_directory(tmp_path)


def test_sizes_and_modes_are_those_of_the_moment(tmp_path: Path) -> None:
    make(tmp_path, "base/5/16384")
    (tmp_path / "base/5/16384").write_bytes(bytes(8192))
    (tmp_path / "base/5/16384").chmod(0o640)
    (tmp_path / "base/5").chmod(0o750)
    listing = list_data_directory(tmp_path)
    (file,) = listing.files
    assert (file.size, file.mode) == (8192, 0o640)
    assert {folder.path: folder.mode for folder in listing.directories}["base/5"] == 0o750
