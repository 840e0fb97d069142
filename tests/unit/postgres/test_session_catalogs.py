"""Which files come before a restored server starts."""

import pytest

from stillframe.postgres.session_catalogs import by_use, is_for_every_session

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("path", ["base/5/1259", "base/16391/1249", "base/16391/2662", "global/1260"])
def test_catalogs_that_every_session_reads_are_known_by_their_first_files(path: str) -> None:
    assert is_for_every_session(path)


@pytest.mark.parametrize(
    "path",
    [
        "base/1/1259",  # template1: nobody's first session is there
        "base/4/1259",
        "base/5/1259_fsm",
        "base/5/1259_vm",
        "base/5/1259.1",
        "base/5/1255",  # all functions: large, and a session looks at few
        "base/5/16385",
        "base/16391/16385",
        "global/1259",
        "global/pg_control",
        "base/5/pg_filenode.map",
        "pg_tblspc/16500/PG_18_202506291/5/1259",
        "1259",
    ],
)
def test_nothing_else_is(path: str) -> None:
    assert not is_for_every_session(path)


def test_what_all_sessions_share_comes_first() -> None:
    paths = ["base/16391/1259", "base/5/1259", "global/1260", "base/16400/1259"]
    assert sorted(paths, key=by_use) == ["global/1260", "base/5/1259", "base/16391/1259", "base/16400/1259"]
