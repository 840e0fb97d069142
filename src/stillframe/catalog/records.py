"""Reading and writing records of any type: one implementation for all tables."""

import builtins
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Self, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from stillframe.catalog.layout import Layout
from stillframe.catalog.translation import translated
from stillframe.errors import InternalError, InvalidRequest

T = TypeVar("T")
_List: TypeAlias = builtins.list  # a method of Records is called `list`


@dataclass(frozen=True, slots=True, kw_only=True)
class PageKey:
    """The place after one record in the order of a listing: its creation time, then its primary key."""

    created_at: datetime | None
    identity: tuple[str, ...]

    def as_tuple(self) -> tuple[str, ...]:
        """Plain texts, to be put into a token: the time in ISO form (empty: there is none), then the key."""
        moment = "" if self.created_at is None else self.created_at.isoformat()
        return (moment, *self.identity)

    @classmethod
    def from_tuple(cls, texts: Sequence[str]) -> Self:
        """The inverse of `as_tuple`. Raises InvalidRequest when the texts are not its result."""
        try:
            moment, *identity = texts
            created_at = datetime.fromisoformat(moment) if moment else None
        except ValueError:
            raise InvalidRequest("The pagination token is not valid.") from None
        if not identity or (created_at is not None and created_at.tzinfo is None):
            raise InvalidRequest("The pagination token is not valid.")
        return cls(created_at=created_at, identity=tuple(identity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a listing; `next` is where the following part begins, None when nothing follows."""

    items: tuple[T, ...]
    next: PageKey | None


class Records(Generic[T]):
    """All records of one type, within one transaction.

    Conditions are given as `field=value`; a tuple, list, set or frozenset means "one of", None "not set". A
    field that the record does not have is InternalError. CatalogUnavailable is raised when the catalog does
    not answer, Conflict also when a row stayed locked by another transaction for too long.
    """

    def __init__(self, connection: sa.Connection, layout: Layout[T]) -> None:
        self._connection = connection
        self._layout = layout
        self._table = layout.table
        self._kind = layout.record_type.__name__

    def insert(self, record: T) -> None:
        """Add a record.

        Raises Conflict (fact `constraint`) when a unique value is taken; the transaction can go on after it.
        A reference to a missing parent is found at commit.
        """
        with translated(), self._connection.begin_nested():
            self._connection.execute(self._table.insert().values(self._layout.to_row(record)))

    def put(self, record: T) -> None:
        """Write all fields of a record that is there.

        Raises InternalError when it is not there; and Conflict as `insert`, but then the transaction is over.
        """
        row = self._layout.to_row(record)
        identity = {name: row.pop(name) for name in self._layout.keys}
        matches = [self._table.c[name] == value for name, value in identity.items()]
        if self._changed(self._table.update().where(*matches).values(row)) != 1:
            raise InternalError(f"The {self._kind} to be updated is gone.", identity=identity)

    def upsert(self, record: T) -> None:
        """Add a record, or write all its fields when one with its primary key is there."""
        row = self._layout.to_row(record)
        statement = postgresql.insert(self._table).values(row)
        rest = {name: statement.excluded[name] for name in row if name not in self._layout.keys}
        self._changed(statement.on_conflict_do_update(index_elements=self._layout.keys, set_=rest))

    def change(self, values: Mapping[str, object], **equals: object) -> int:
        """Set some fields of all records that fit and leave the others as they are; how many those were."""
        row = {
            self._layout.column(name): self._layout.to_value(name, value) for name, value in values.items()
        }
        return self._changed(self._table.update().where(*self._conditions(equals)).values(row))

    def find(self, *, lock: bool = False, **equals: object) -> T | None:
        """The one record that fits, or None. With `lock`, nobody else changes it until the transaction ends.

        Raises InternalError when several fit.
        """
        statement = sa.select(*self._layout.columns).where(*self._conditions(equals)).limit(2)
        rows = self._rows(statement.with_for_update() if lock else statement)
        if len(rows) > 1:
            raise InternalError(f"More than one {self._kind} fits {sorted(equals)}.")
        return self._layout.to_record(rows[0]) if rows else None

    def page(
        self,
        *,
        after: PageKey | None = None,
        limit: int,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        **equals: object,
    ) -> Page[T]:
        """At most `limit` records in order of creation time, then primary key, beginning after `after`.

        Both bounds of the creation time are inclusive. Every record that exists during the whole of a listing
        is in exactly one of its pages, whatever is added or deleted meanwhile. Raises InvalidRequest when
        `after` does not come from a listing of this type.
        """
        conditions = self._conditions(equals) + self._created(created_from, created_to)
        if after is not None:
            conditions.append(self._beyond(after))
        statement = sa.select(*self._layout.columns).where(*conditions).order_by(*self._listing_order())
        records = [self._layout.to_record(row) for row in self._rows(statement.limit(limit + 1))]
        more = len(records) > limit
        items = tuple(records[:limit])
        return Page(items=items, next=self._place(items[-1]) if more and items else None)

    def count(self, **equals: object) -> int:
        """How many records fit."""
        statement = sa.select(sa.func.count()).select_from(self._table).where(*self._conditions(equals))
        return int(self._rows(statement)[0][0])

    def tally(self, field: str, *fields: str, **equals: object) -> "Counter[tuple[Any, ...]]":
        """How many records that fit have which values of these fields, as they are stored."""
        columns = [self._layout.column(name) for name in (field, *fields)]
        statement = sa.select(*columns, sa.func.count()).where(*self._conditions(equals)).group_by(*columns)
        return Counter({tuple(row[:-1]): int(row[-1]) for row in self._rows(statement)})

    def delete(self, **equals: object) -> int:
        """Delete the records that fit; how many those were. Raises InternalError without any condition."""
        if not equals:
            raise InternalError(f"All records of type {self._kind} were about to be deleted.")
        return self._changed(self._table.delete().where(*self._conditions(equals)))

    def list(
        self,
        *,
        order_by: str | Sequence[str] = (),
        limit: int | None = None,
        lock: bool = False,
        **equals: object,
    ) -> _List[T]:
        """All records that fit, by the given fields (`-field`: descending), then in the order of `page`.

        With `lock`, nobody else changes them until the transaction ends.
        """
        fields = [order_by] if isinstance(order_by, str) else order_by
        order = [self._ordering(field) for field in fields] + self._listing_order()
        statement = (
            sa.select(*self._layout.columns).where(*self._conditions(equals)).order_by(*order).limit(limit)
        )
        rows = self._rows(statement.with_for_update() if lock else statement)
        return [self._layout.to_record(row) for row in rows]

    def _conditions(self, equals: Mapping[str, object]) -> "_List[sa.ColumnElement[bool]]":
        return [self._condition(name, value) for name, value in equals.items()]

    def _condition(self, name: str, value: object) -> "sa.ColumnElement[bool]":
        column = self._layout.column(name)
        if value is None:
            return column.is_(None)
        if not isinstance(value, tuple | builtins.list | set | frozenset):
            return column == self._layout.to_value(name, value)
        if None in value:
            raise InternalError(f"None cannot be one of several values of {name!r}.")
        return column.in_([self._layout.to_value(name, item) for item in value])

    def _created(self, first: datetime | None, last: datetime | None) -> "_List[sa.ColumnElement[bool]]":
        conditions: _List[sa.ColumnElement[bool]] = []
        if first is not None:
            conditions.append(self._layout.column("created_at") >= first)
        if last is not None:
            conditions.append(self._layout.column("created_at") <= last)
        return conditions

    def _listing_columns(self) -> "_List[sa.Column[Any]]":
        names = ("created_at", *self._layout.keys) if self._layout.has_creation_time else self._layout.keys
        return [self._table.c[name] for name in names]

    def _listing_order(self) -> "_List[sa.ColumnElement[Any]]":
        return [column.asc() for column in self._listing_columns()]

    def _ordering(self, field: str) -> "sa.ColumnElement[Any]":
        column = self._layout.column(field.removeprefix("-"))
        return column.desc() if field.startswith("-") else column.asc()

    def _beyond(self, after: PageKey) -> "sa.ColumnElement[bool]":
        if (after.created_at is not None) != self._layout.has_creation_time:
            raise InvalidRequest("The pagination token is not valid.")
        moment = [] if after.created_at is None else [after.created_at]
        place = zip(self._listing_columns(), [*moment, *self._parsed(after.identity)], strict=True)
        literals = [sa.literal(value, column.type) for column, value in place]
        return sa.tuple_(*self._listing_columns()) > sa.tuple_(*literals)

    def _parsed(self, identity: tuple[str, ...]) -> "_List[object]":
        kinds = [self._table.c[name].type.python_type for name in self._layout.keys]
        try:
            return [kind(text) for kind, text in zip(kinds, identity, strict=True)]
        except ValueError:
            raise InvalidRequest("The pagination token is not valid.") from None

    def _place(self, record: T) -> PageKey:
        identity = tuple(str(getattr(record, name)) for name in self._layout.keys)
        return PageKey(created_at=getattr(record, "created_at", None), identity=identity)

    def _rows(self, statement: "sa.Select[Any]") -> "Sequence[sa.Row[Any]]":
        with translated():
            return self._connection.execute(statement).all()

    def _changed(self, statement: "sa.UpdateBase") -> int:
        with translated():
            return self._connection.execute(statement).rowcount
