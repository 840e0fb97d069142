"""A catalog of an earlier release becomes one of this release, with everything that was in it."""

from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import stillframe.catalog
from stillframe.catalog import Catalog
from stillframe.domain.operation import OperationKind, OperationStatus
from support.catalog import rows

pytestmark = pytest.mark.integration

OPERATION = """
    INSERT INTO operations (id, account, region, kind, status, namespace_id, subject_id, arguments, request_id,
        created_at, attempts, cancel_requested, phase, done_bytes)
    VALUES (gen_random_uuid(), '123456789012', 'us-east-1', %s, 'queued', gen_random_uuid(), gen_random_uuid(), '{}',
        '', now(), 0, false, 'queued', 0)
"""


def _as_of(conninfo: str, revision: str) -> None:
    """Make an empty database the catalog of an earlier release."""
    config = Config()
    config.set_main_option("script_location", str(Path(stillframe.catalog.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_a_catalog_of_0_1_0_is_upgraded_and_keeps_its_rows(empty: str) -> None:
    _as_of(empty, "0001")
    with psycopg.connect(empty) as connection:
        connection.execute(OPERATION, ("create_snapshot",))
        with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
            connection.execute(OPERATION, ("prove_snapshot",))
    with closing(Catalog(empty)) as catalog:
        catalog.migrate()
        with catalog.transaction() as transaction:
            (kept,) = transaction.operations.list()
            assert (kept.kind, kept.status) == (OperationKind.CREATE_SNAPSHOT, OperationStatus.QUEUED)
            assert transaction.proofs.list() == []
    with psycopg.connect(empty) as connection:
        for kind in OperationKind:
            connection.execute(OPERATION, (kind.value,))
    assert rows(empty, "SELECT count(*) FROM operations") == [(1 + len(OperationKind),)]
