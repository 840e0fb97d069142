"""The tag of a file that is arriving."""

import shutil
from pathlib import Path

import pytest

from stillframe.errors import OperatorError
from stillframe.hydration import TAG, tag, tagged
from stillframe.hydration.tags import is_suspect, limit_of, suspect, unsuspect, untag

pytestmark = pytest.mark.unit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.touch()
    try:
        with found.open("r+b") as file:
            tag(file.fileno(), 1)
            untag(file.fileno())
    except OperatorError as error:
        pytest.skip(f"no extended attributes here: {error.message}")
    return found


@pytest.mark.parametrize("limit", [0, 8192, 1 << 50])
def test_a_tag_tells_the_length_it_was_given(path: Path, limit: int) -> None:
    with path.open("r+b") as file:
        tag(file.fileno(), limit)
        assert limit_of(file.fileno()) == limit_of(str(path)) == limit
        untag(file.fileno())
        untag(file.fileno())
        assert limit_of(str(path)) is None


def test_a_tag_that_is_no_length_is_refused(path: Path) -> None:
    import os

    os.setxattr(path, TAG, b"-5")
    with pytest.raises(OperatorError, match="no length"):
        limit_of(str(path))


def test_tagged_files_are_found_but_not_through_symbolic_links(path: Path) -> None:
    root = path.parent
    inside = root / "base" / "1"
    inside.mkdir(parents=True)
    for name in ("5", "6"):
        with (inside / name).open("xb") as file:
            tag(file.fileno(), 8192)
    (root / "elsewhere").symlink_to(inside)
    (root / "base" / "link").symlink_to(inside / "5")
    assert sorted(tagged(root)) == [inside / "5", inside / "6"]


def test_what_a_server_removes_meanwhile_is_not_told_and_no_error(path: Path) -> None:
    for number in ("1", "2"):
        inside = path.parent / "base" / number
        inside.mkdir(parents=True)
        for name in ("5", "6"):
            with (inside / name).open("xb") as file:
                tag(file.fileno(), 8192)
    found = tagged(path.parent)
    next(found)
    shutil.rmtree(path.parent / "base")
    assert list(found) == []


def test_a_missing_directory_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="Looking for files"):
        list(tagged(tmp_path / "missing"))


def test_a_directory_is_suspect_until_it_was_checked(path: Path) -> None:
    suspect(path.parent)
    assert is_suspect(path.parent)
    unsuspect(path.parent)
    unsuspect(path.parent)
    assert not is_suspect(path.parent)
