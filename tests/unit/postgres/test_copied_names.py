"""Which files belong into a copy is decided by their names alone, in two ways that must agree."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.postgres.files import chosen_files, parse_relation_name, sorted_names

pytestmark = pytest.mark.unit

_NUMBERS = st.integers(1, 12).map(str)
_RELATIONS = st.builds(
    "".join,
    st.tuples(_NUMBERS, st.sampled_from(["", "_fsm", "_vm", "_init"]), st.sampled_from(["", ".1", ".2"])),
)
_OTHERS = st.sampled_from(
    [
        *("PG_VERSION", "pg_filenode.map", "pg_internal.init", "pg_internal.init.77", "backup_label"),
        *("t3_16400", "t3_16400_vm", "pgsql_tmp5", ".x.0123456789ab.tmp", "notes"),
        *(
            "12.bak",
            "012",
            "7_other",
            "7_init.x",
            "7.x",
            "4294967296",
            "4294967295",
            "1٣",
            "012_fsm",
            "1٣_vm",
        ),
    ]
)


@given(st.sets(st.one_of(_RELATIONS, _OTHERS), max_size=30), st.sampled_from(["base/5", "global"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_alone_say_what_looking_at_the_files_says(tmp_path: Path, names: set[str], folder: str) -> None:
    place = tmp_path / str(len(list(tmp_path.iterdir())))
    place.mkdir()
    for name in names:
        (place / name).touch()
    with os.scandir(place) as scan:
        looked_at = {file.path.rpartition("/")[2] for file in chosen_files(folder, scan)}
    found = sorted_names(folder, names)
    assert found.copied == looked_at
    assert found.plain == {name for name in looked_at if parse_relation_name(name) is None}
    assert found.maps == {name for name in looked_at if "_fsm" in name}
