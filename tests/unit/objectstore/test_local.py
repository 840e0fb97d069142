"""What only the local object store has to do."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillframe.errors import (
    Conflict,
    DiskFull,
    ObjectMissing,
    PermissionMissing,
    StillframeError,
    StoreUnavailable,
)
from stillframe.hydration.filesystem import is_in_memory
from stillframe.objectstore import LocalObjectStore

pytestmark = pytest.mark.unit


def temporaries(root: Path) -> list[Path]:
    return list((root / ".tmp").iterdir())


def test_a_store_that_is_not_there_is_not_a_store_without_the_object(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path / "store")
    store.put("a", b"x")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    for call in (
        lambda: store.get("a"),
        lambda: store.size("a"),
        lambda: list(store.list("")),
        lambda: store.delete("a"),
        lambda: store.put("b/c", b"x"),
    ):
        with pytest.raises(StoreUnavailable):
            call()
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    assert store.get("a") == b"x"


def test_an_empty_mount_point_is_not_taken_for_the_store(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreUnavailable):
        store.get("a")


def test_files_of_dead_writers_are_removed_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    (tmp_path / ".tmp" / "stale").write_bytes(b"half of somethi")
    with store._publications.begin(tmp_path) as living:
        LocalObjectStore(tmp_path)
        assert temporaries(tmp_path) == [living.path]
    LocalObjectStore(tmp_path)
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EROFS, PermissionMissing),
        (errno.EACCES, PermissionMissing),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
    ],
)
@pytest.mark.parametrize("step", ["write", "fsync", "link"])
@pytest.mark.parametrize("if_absent", [True])
def test_a_failed_publication_leaves_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
    expected: type[StillframeError],
    if_absent: bool,
) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("dir/other", b"x")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(expected):
        store.put("dir/a", b"content", if_absent=if_absent)
    monkeypatch.undo()
    with pytest.raises(ObjectMissing):
        store.get("dir/a")
    assert temporaries(tmp_path) == []


def test_an_object_whose_directory_could_not_be_synced_has_an_unknown_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("dir/other", b"x")
    real = os.fsync

    def fail_for_directories(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir():
            raise OSError(errno.ENOSPC, "no space")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_directories)
    with pytest.raises(StoreUnavailable):
        store.put("dir/a", b"content", if_absent=True)


def test_an_unreadable_object_is_unavailable_and_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("a", b"x")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(StoreUnavailable):
        store.get_range("a", 0, 1)


@pytest.mark.parametrize(("length", "stays"), [(1 << 18, True), (1 << 20, False)])
def test_what_is_read_by_the_half_megabyte_leaves_the_page_cache_to_others(
    tmp_path: Path, *, length: int, stays: bool
) -> None:
    store, data = LocalObjectStore(tmp_path), os.urandom(1 << 20)
    store.put("a", data)
    assert store.get_range("a", 0, length) == data[:length]
    with (tmp_path / "a").open("rb") as file:
        found = is_in_memory(file.fileno(), 0, length)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if is_in_memory(file.fileno(), 0, length):
            pytest.skip("the kernel does not take that advice here, or does not tell")
    assert found == stays
    assert store.get_range("a", 0, length) == data[:length]


def test_a_file_system_that_takes_no_advice_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, data = LocalObjectStore(tmp_path), os.urandom(1 << 20)
    store.put("a", data)

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    assert store.get("a") == data


def test_content_is_written_and_synced_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("dir/other", b"x")
    steps: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append("sync directory" if target.is_dir() else f"sync {target.stat().st_size} bytes")
        real_fsync(descriptor)

    def link(source: str, target: str) -> None:
        steps.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    store.put("dir/a", b"content", if_absent=True)
    assert steps == ["sync 7 bytes", "link", "sync directory"]


def test_others_cannot_look_into_the_store(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path / "store")
    store.put("packs/a", b"x")
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "store", *(tmp_path / "store").rglob("*"))}
    assert modes == {0}


def test_the_claim_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from stillframe.objectstore import LocalObjectStore\n"
        f"claim = LocalObjectStore(Path({str(tmp_path)!r})).claim('content')\n"
        "print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        store = LocalObjectStore(tmp_path)
        with pytest.raises(Conflict):
            store.claim("content", shared=True)
    finally:
        process.kill()
        process.communicate(timeout=10)
    store.claim("content").release()
    assert list((tmp_path / ".claims").iterdir()) == []


def synced_directories(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories that are synced from now on."""
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        if target.is_dir():
            synced.append(target)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return synced


def test_what_a_killed_process_left_named_is_synced_before_anything_else_gets_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("a/1", b"x")
    store.put("b/1", b"x")
    mark = tmp_path / ".tmp" / f"{'0' * 32}+a"
    os.link(tmp_path / "a" / "1", mark)
    (tmp_path / ".tmp" / f"{'1' * 32}+b").write_bytes(b"never named")
    synced = synced_directories(monkeypatch)
    store.put("c", b"x")
    assert synced == [tmp_path / "a", tmp_path]
    assert temporaries(tmp_path) == []


def test_what_is_said_to_be_missing_or_to_exist_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("a/1", b"x")
    synced = synced_directories(monkeypatch)
    for ask in (lambda: store.get("a/2"), lambda: store.size("a/2")):
        with pytest.raises(ObjectMissing):
            ask()
    store.delete("a/2")
    assert synced == [tmp_path / "a"] * 3
    with pytest.raises(Conflict):
        store.put("a/1", b"y", if_absent=True)
    assert synced == [tmp_path / "a"] * 4


def test_a_failed_sync_is_not_made_good_by_reading_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("a/1", b"x")
    real, failing = os.fsync, True

    def fsync(descriptor: int) -> None:
        if failing and Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path / "a":
            raise OSError(errno.EIO, "input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreUnavailable):
        store.put("a/2", b"y", if_absent=True)
    for ask in (lambda: store.get("a/2"), lambda: store.size("a/2"), lambda: store.put("b", b"z")):
        with pytest.raises(StoreUnavailable):
            ask()
    failing = False
    assert store.get("a/2") == b"y"
    store.put("b", b"z")
    assert temporaries(tmp_path) == []
