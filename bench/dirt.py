"""Changing a known number of pages, scattered over the largest table."""

import random
from typing import Any

import psycopg

from bench.warehouse import Source, Warehouse

PAGE_SIZE = 8192
_TABLE = "lineitem"


class Scatter:
    """Deletes one row on each of many pages: it changes that page and nothing else of the table or its indexes.

    The pages are drawn by chance, the same ones in every run. Every call takes the next row of its pages: from
    `first_row` on, which nobody else may have taken; a page has more than forty.
    """

    def __init__(self, house: Warehouse, source: Source, *, first_row: int = 1) -> None:
        self._house = house
        self._source = source
        self._random = random.Random(first_row)
        self._row = first_row - 1

    def change(self, pages: int) -> None:
        """Change so many pages, and have them written out, so that nobody's checkpoint does it for others."""
        self._row += 1
        with self._house.connect(self._source.workgroup) as session:
            there = relation_pages(session, _TABLE)
            chosen = self._random.sample(range(there - 1), min(pages, there - 1))
            rows = [f"({page},{self._row})" for page in chosen]
            deleted = session.execute(f"DELETE FROM {_TABLE} WHERE ctid = ANY (%s::tid[])", (rows,)).rowcount
        assert deleted >= len(rows) * 0.9, f"{deleted} rows on {len(rows)} pages"
        with self._house.service_connection(self._source) as service:
            service.execute("CHECKPOINT")


def change_one_row(house: Warehouse, source: Source) -> None:
    """Another clerk for one order."""
    with house.connect(source.workgroup) as session:
        session.execute(
            "UPDATE orders SET o_clerk = 'Clerk#' || lpad((random() * 999999999)::int::text, 9, '0') "
            "WHERE o_orderkey = 1"
        )


def relation_pages(session: "psycopg.Connection[Any]", table: str) -> int:
    """How many pages a table has."""
    found = session.execute("SELECT pg_relation_size(%s::regclass) / %s", (table, PAGE_SIZE)).fetchone()
    assert found is not None
    return int(found[0])
