"""Records and rows correspond by type hints alone."""

import dataclasses
import types
import typing
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.catalog.layout import Layout, codec_for
from stillframe.catalog.tables import NAMESPACES, TABLE_OF, TAGS
from stillframe.domain.lsn import Lsn
from stillframe.domain.namespace import Namespace, NamespaceStatus
from stillframe.errors import InternalError, InvalidRequest
from support.catalog import MORNING, a_namespace, records_of, values_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("record_type", TABLE_OF, ids=lambda record: record.__name__)
def test_a_column_is_there_for_each_field_and_nullable_as_the_field_is(record_type: type) -> None:
    table, hints = TABLE_OF[record_type], typing.get_type_hints(record_type)
    assert [column.name for column in table.columns] == [f.name for f in dataclasses.fields(record_type)]
    for name, hint in hints.items():
        assert table.c[name].nullable == (types.NoneType in typing.get_args(hint)), name


@pytest.mark.parametrize("record_type", TABLE_OF, ids=lambda record: record.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_record_survives_the_way_to_its_row_and_back(record_type: type, data: st.DataObject) -> None:
    layout: Layout[typing.Any] = Layout(record_type, TABLE_OF[record_type])
    record = data.draw(records_of(record_type))
    row = layout.to_row(record)
    assert layout.to_record(typing.cast("typing.Any", [row[name] for name in layout.names])) == record


@pytest.mark.parametrize(
    "hint", [tuple[tuple[uuid.UUID, int], ...], tuple[str, int], Lsn, NamespaceStatus | None, datetime]
)
@given(data=st.data())
def test_values_come_back_from_their_stored_form(hint: object, data: st.DataObject) -> None:
    codec = codec_for(hint)
    value = data.draw(st.builds(Lsn, st.integers(0, 2**64 - 1)) if hint is Lsn else values_of(hint))
    if value is not None:
        found = codec.from_row(codec.to_row(value))
        assert found == value
        assert type(found) is type(value)


def test_a_time_is_stored_in_utc_whatever_zone_it_was_given_in() -> None:
    there = MORNING.astimezone(timezone(timedelta(hours=9)))
    stored = codec_for(datetime).to_row(there)
    assert stored == MORNING
    assert stored.tzinfo is UTC


def test_a_time_without_a_zone_is_a_mistake_of_ours() -> None:
    with pytest.raises(InternalError):
        codec_for(datetime).to_row(MORNING.replace(tzinfo=None))


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": float("inf")}, {"a": {1, 2}}, {"a": b"x"}])
def test_what_json_has_no_form_for_is_a_mistake_of_ours(value: dict[str, object]) -> None:
    with pytest.raises(InternalError):
        codec_for(Mapping[str, object]).to_row(value)


@pytest.mark.parametrize("value", [{"a\x00": 1}, {"a": ["\x00"]}, {"a": {"b": "\ud800"}}])
def test_unstorable_text_is_found_however_deep(value: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        codec_for(Mapping[str, object]).to_row(value)


@pytest.mark.parametrize("hint", [list[str], object(), complex, int | str, tuple[datetime, ...]])
def test_a_type_without_a_form_is_refused_when_the_layout_is_made(hint: object) -> None:
    with pytest.raises(InternalError):
        codec_for(hint)


def test_a_table_that_lacks_a_field_is_refused_when_the_layout_is_made() -> None:
    with pytest.raises(InternalError, match="no field"):
        Layout(Namespace, TAGS)
    assert Layout(Namespace, NAMESPACES).to_row(a_namespace())["name"] == "sales"
