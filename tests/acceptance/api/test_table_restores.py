"""RestoreTableFromSnapshot, GetTableRestoreStatus, ListTableRestoreStatus."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.service import PASSWORD, Account, Service, Warehouse, make_warehouse, warehouse_of
from support.table_restores import (
    ask_for_table,
    bring_table,
    ended_table_restore,
    leftovers,
    refused_table,
)

pytestmark = pytest.mark.acceptance

MILLION = 1_000_000

EVERYTHING = (
    "CREATE TYPE mood AS ENUM ('bad', 'good')",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE SEQUENCE tickets START 500",
    "CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)'",
    "CREATE TABLE customers (id int PRIMARY KEY)",
    "INSERT INTO customers SELECT generate_series(1, 10)",
    """CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 5) PRIMARY KEY,
        serial_number serial,
        gone int,
        ticket bigint DEFAULT nextval('tickets'),
        customer int REFERENCES customers,
        parent bigint REFERENCES orders,
        code varchar(20) NOT NULL UNIQUE,
        amount numeric(12,2) CHECK (amount >= 0),
        twice numeric GENERATED ALWAYS AS (amount * 2) STORED,
        thrice numeric GENERATED ALWAYS AS (amount * 3) VIRTUAL,
        moods mood[] DEFAULT '{good}',
        rank positive,
        kind regtype,
        document jsonb,
        payload text COLLATE "C",
        bytes bytea,
        ratio float8,
        length interval,
        placed timestamptz DEFAULT now(),
        CONSTRAINT sane CHECK (length(code) < 20))""",
    "ALTER TABLE orders DROP COLUMN gone",
    "ALTER TABLE orders ALTER payload SET STORAGE EXTERNAL",
    "ALTER TABLE orders ALTER bytes SET COMPRESSION pglz",
    "ALTER TABLE orders ALTER code SET STATISTICS 321",
    "ALTER TABLE orders SET (fillfactor = 90, autovacuum_enabled = false)",
    """INSERT INTO orders (customer, parent, code, amount, moods, rank, kind, document, payload, bytes, ratio, length)
        SELECT 1 + n % 10, CASE WHEN n > 1 THEN 100 END, 'c' || n, n * 1.25,
            CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '{bad,good}'::mood[] ELSE '{}' END, n,
            CASE n % 2 WHEN 0 THEN 'mood'::regtype ELSE 'int4'::regtype END,
            jsonb_build_object('n', n, 'text', E'a\\tb\\nc\\\\d'), repeat(md5(n::text), 400),
            decode(repeat(md5(n::text), 300), 'hex'), n / 7.0::float8, n * interval '1 day 0.001 second'
        FROM generate_series(1, 400) n""",
    "INSERT INTO orders (code, payload, ratio) VALUES ('huge', repeat('x', 5000000), 'NaN')",
    "CREATE INDEX by_amount ON orders (amount DESC) INCLUDE (code) WHERE amount > 5",
    "CREATE INDEX orders_shout_idx ON orders (shout(code))",
    "CREATE STATISTICS orders_customer_rank_stat (dependencies) ON customer, rank FROM orders",
    "ALTER STATISTICS orders_customer_rank_stat SET STATISTICS 77",
    "COMMENT ON STATISTICS orders_customer_rank_stat IS 'it''s correlated'",
    "COMMENT ON TABLE orders IS E'first\\n\\\\restrict x\\nlast'",
    "COMMENT ON COLUMN orders.amount IS 'in euros'",
    "ALTER TABLE orders REPLICA IDENTITY FULL",
    "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY few ON orders FOR SELECT USING (rank < 10)",
    "CREATE TABLE audit (code text)",
    """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.audit VALUES (NEW.code); RETURN NEW; END'""",
    "CREATE TRIGGER noting AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION note()",
    "CREATE VIEW big_orders AS SELECT * FROM orders WHERE amount > 1000",
    "CREATE ROLE analyst LOGIN PASSWORD 'Analyst1Pass'",
    "GRANT SELECT ON orders TO analyst",
)

OTHERS = (
    'CREATE SCHEMA "Sales"',
    'CREATE TABLE "Sales"."Orders 2024" AS SELECT 7 AS seven',
    "CREATE TABLE analysts AS SELECT 1 AS one",
    "ALTER TABLE analysts OWNER TO analyst",
    "CREATE TABLE taken AS SELECT 'old'::text AS age",
    "CREATE TABLE nothing ()",
    "INSERT INTO nothing DEFAULT VALUES",
    "CREATE TABLE generated (one int GENERATED ALWAYS AS (1) STORED)",
    "INSERT INTO generated DEFAULT VALUES",
    "CREATE TABLE parted (n int) PARTITION BY RANGE (n)",
    "CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE parent (n int)",
    "CREATE TABLE child () INHERITS (parent)",
    "CREATE UNLOGGED TABLE volatile (n int)",
    "CREATE DATABASE second",
)

COLUMNS = (
    "id, serial_number, ticket, customer, parent, code, amount, twice, thrice, moods::text, rank, kind::text, \
    document, payload, bytes, ratio, length, placed"
)


def checksum(table: str) -> str:
    """A query for the number and a sum over the rows of a table like `orders`."""
    return f"SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM (SELECT {COLUMNS} FROM {table}) AS t"


@pytest.fixture(scope="module")
def shop(service: Service) -> Iterator[Warehouse]:
    """A warehouse with tables of every kind, and snapshot `good` of them."""
    with warehouse_of(service.account(), "shop") as made:
        with made.connect() as connection:
            for statement in (*EVERYTHING, *OTHERS):
                connection.execute(statement.encode())
        made.snapshot("good")
        yield made


def catalog_facts(shop: Warehouse, table: str, database: str = "dev") -> dict[str, Any]:
    """What PostgreSQL's catalogs say of a table, without its names."""
    ((facts,),) = shop.query(
        f"""SELECT jsonb_build_object(
            'columns', (SELECT jsonb_agg(jsonb_build_array(attname, format_type(atttypid, atttypmod), attnotnull,
                attidentity, attgenerated, attstorage, attcompression, attstattarget, attcollation::regcollation,
                col_description(attrelid, attnum)) ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
            'options', to_jsonb(reloptions), 'replident', relreplident, 'rls', relrowsecurity,
            'policies', (SELECT jsonb_agg(jsonb_build_array(polname, polcmd, pg_get_expr(polqual, polrelid)))
                FROM pg_policy WHERE polrelid = c.oid),
            'constraints', (SELECT jsonb_agg(pg_get_constraintdef(k.oid) ORDER BY 1) FROM (
                SELECT oid FROM pg_constraint WHERE conrelid = c.oid AND contype <> 'f'
                ORDER BY pg_get_constraintdef(oid)) k),
            'indexes', (SELECT jsonb_agg(definition ORDER BY definition) FROM (
                SELECT regexp_replace(pg_get_indexdef(indexrelid), 'INDEX \\S+ ON \\S+', '') AS definition
                FROM pg_index WHERE indrelid = c.oid) i),
            'triggers', (SELECT jsonb_agg(tgname) FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal),
            'statistics', (SELECT jsonb_agg(jsonb_build_array(
                pg_get_statisticsobjdef_columns(oid), stxkind, stxstattarget,
                obj_description(oid, 'pg_statistic_ext'))) FROM pg_statistic_ext WHERE stxrelid = c.oid),
            'comment', obj_description(c.oid))
        FROM pg_class c WHERE c.oid = '{table}'::regclass""",
        database,
    )
    assert isinstance(facts, dict)
    return facts


def names_of(shop: Warehouse, table: str) -> set[str]:
    """The names of a table's indexes, constraints and sequences."""
    rows = shop.query(
        f"""SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = '{table}'::regclass
        UNION SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass
        UNION SELECT pg_get_serial_sequence('{table}', a) FROM (VALUES ('id'), ('serial_number')) AS t (a)"""
    )
    return {name for (name,) in rows}


def test_the_answer_is_pending_and_says_what_will_be_done(shop: Warehouse) -> None:
    before = datetime.now(UTC)
    answer = ask_for_table(shop, "analysts", "answered", sourceSchemaName="PUBLIC")
    assert str(uuid.UUID(answer["tableRestoreRequestId"])) == answer["tableRestoreRequestId"]
    assert abs(answer.pop("requestTime") - before) < timedelta(seconds=30)
    assert answer == {
        "tableRestoreRequestId": answer["tableRestoreRequestId"],
        "status": "PENDING",
        "namespaceName": "shop",
        "workgroupName": "shop",
        "snapshotName": "good",
        "sourceDatabaseName": "dev",
        "sourceSchemaName": "public",
        "sourceTableName": "analysts",
        "targetDatabaseName": "dev",
        "targetSchemaName": "public",
        "newTableName": "answered",
        "progressInMegaBytes": 0,
    }
    assert shop.client.get_namespace(namespaceName="shop")["namespace"]["status"] == "MODIFYING"
    assert shop.client.get_workgroup(workgroupName="shop")["workgroup"]["status"] == "AVAILABLE"
    with pytest.raises(shop.client.exceptions.ConflictException, match="operation in progress"):
        ask_for_table(shop, "analysts", "another")
    with pytest.raises(shop.client.exceptions.ConflictException, match="operation in progress"):
        shop.client.delete_snapshot(snapshotName="good")
    ended = ended_table_restore(shop.client, answer["tableRestoreRequestId"])
    assert ended["status"] == "SUCCEEDED"
    assert "message" not in ended
    assert ended["progressInMegaBytes"] == ended["totalDataInMegaBytes"] > 0
    assert shop.client.get_namespace(namespaceName="shop")["namespace"]["status"] == "AVAILABLE"


def test_rows_and_attributes_come_and_foreign_keys_views_and_grants_do_not(shop: Warehouse) -> None:
    bring_table(shop, "orders", "orders_back")
    assert shop.query(checksum("orders_back")) == shop.query(checksum("orders"))
    assert catalog_facts(shop, "orders_back") == catalog_facts(shop, "orders")
    foreign = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'orders_back'::regclass"
    assert shop.query(foreign) == [(0,)]
    assert shop.query("SELECT relacl FROM pg_class WHERE relname = 'orders_back'") == [(None,)]
    assert shop.query("SELECT count(*) FROM pg_views WHERE schemaname = 'public'") == [(1,)]
    assert shop.query("SELECT count(*) FROM audit WHERE code LIKE 'c%'") == [(0,)]
    assert leftovers(shop) == []
    shop.query("DROP TABLE orders_back")


def test_parts_are_named_as_postgresql_names_those_of_the_new_table(shop: Warehouse) -> None:
    bring_table(shop, "orders", "copied")
    assert {
        "copied_pkey",
        "copied_code_key",
        "copied_amount_check",
        "copied_code_not_null",
        "copied_shout_idx",
        "by_amount1",
        "sane",
        "public.copied_id_seq",
        "public.copied_serial_number_seq",
    } <= names_of(shop, "copied")
    assert not [name for name in names_of(shop, "copied") if "orders" in name]
    shop.query("DROP TABLE copied")


def test_identity_and_sequences_go_on_where_they_stood(shop: Warehouse) -> None:
    bring_table(shop, "orders", "going_on")
    source = shop.query("INSERT INTO orders (code) VALUES ('next') RETURNING id, serial_number")
    copied = shop.query("INSERT INTO going_on (code) VALUES ('next') RETURNING id, serial_number")
    assert copied == source == [(100 + 5 * 401, 402)]
    assert shop.query("SELECT count(*) FROM audit WHERE code = 'next'") == [(2,)]
    shop.query("DELETE FROM orders WHERE code = 'next'")
    shop.query("DROP TABLE going_on")


def test_a_million_rows_come_with_an_index_that_is_used(account: Account) -> None:
    with warehouse_of(account, "large") as made:
        made.query(
            f"CREATE TABLE million AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, {MILLION}) g"
        )
        made.query("CREATE INDEX ON million (id)")
        made.snapshot("good")
        ended = bring_table(made, "million", "million_back")
        assert ended["totalDataInMegaBytes"] > 50
        rows = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} AS t"
        assert made.query(rows.format("million_back")) == made.query(rows.format("million"))
        plan = made.query("EXPLAIN SELECT * FROM million_back WHERE id = 4711")
        assert any("million_back_id_idx" in line for (line,) in plan), plan


def test_after_the_table_was_dropped_it_comes_back_under_its_own_name(shop: Warehouse) -> None:
    before = shop.query(checksum("orders")), catalog_facts(shop, "orders"), names_of(shop, "orders")
    foreign = {name for name in before[2] if name.endswith("_fkey")}
    shop.query("DROP TABLE orders CASCADE")
    bring_table(shop, "orders", "orders")
    after = shop.query(checksum("orders")), catalog_facts(shop, "orders"), names_of(shop, "orders")
    assert after[:2] == before[:2]
    assert after[2] == before[2] - foreign
    shop.query("ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES customers")


def test_another_database_schema_and_name_with_types_of_their_own(shop: Warehouse) -> None:
    with shop.connect("second") as connection:
        for statement in (
            "CREATE TYPE unrelated AS ENUM ('x')",
            "CREATE TYPE mood AS ENUM ('bad', 'so-so', 'good')",
            "CREATE DOMAIN positive AS int",
            "CREATE SEQUENCE tickets",
            "CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)'",
            "CREATE TABLE audit (code text)",
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE SCHEMA archive",
        ):
            connection.execute(statement.encode())
    bring_table(shop, "orders", "y2024", targetDatabaseName="second", targetSchemaName="archive")
    assert shop.query(checksum("archive.y2024"), "second") == shop.query(checksum("orders"))


def test_names_are_folded_unless_they_are_to_be_taken_as_written(shop: Warehouse) -> None:
    asked: dict[str, Any] = {"sourceSchemaName": "Sales", "targetSchemaName": "public"}
    message = refused_table(shop, "Orders 2024", "Back", **asked)
    assert message == "Schema sales does not exist in database dev in the snapshot."
    ended = bring_table(shop, "Orders 2024", "Back 24", activateCaseSensitiveIdentifier=True, **asked)
    assert ended["newTableName"] == "Back 24"
    assert shop.query('SELECT seven FROM "Back 24"') == [(7,)]
    bring_table(shop, "ANALYSTS", "FOLDED")
    assert shop.query("SELECT one FROM folded") == [(1,)]


def test_tables_without_any_column_of_their_own_keep_their_rows(shop: Warehouse) -> None:
    bring_table(shop, "nothing", "nothing_back")
    assert shop.query("SELECT count(*) FROM nothing_back") == [(1,)]
    bring_table(shop, "generated", "generated_back")
    assert shop.query("SELECT one FROM generated_back") == [(1,)]


def test_the_owner_is_the_source_s_when_it_can_be_and_else_the_admin(shop: Warehouse) -> None:
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = '{}'"
    bring_table(shop, "analysts", "owned")
    assert shop.query(owner.format("owned")) == [("analyst",)]
    shop.query("CREATE SCHEMA closed")
    bring_table(shop, "analysts", "closed_owned", targetSchemaName="closed")
    assert shop.query(owner.format("closed_owned")) == [("admin",)]
    shop.query("GRANT USAGE, CREATE ON SCHEMA closed TO analyst")
    bring_table(shop, "analysts", "open_owned", targetSchemaName="closed")
    assert shop.query(owner.format("open_owned")) == [("analyst",)]


def test_15_a_target_that_exists_fails_the_request_and_is_not_touched(shop: Warehouse) -> None:
    shop.query("UPDATE taken SET age = 'new'")
    message = refused_table(shop, "taken", "taken")
    assert message.startswith("public.taken already exists in database dev.")
    assert shop.query("SELECT age FROM taken") == [("new",)]
    shop.query("CREATE TYPE named AS ENUM ('x')")
    assert "already exists" in refused_table(shop, "taken", "named")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sourceTableName": "missing"}, "Table public.missing does not exist in database dev in the snapshot."),
        ({"sourceSchemaName": "missing", "targetSchemaName": "public"},
         "Schema missing does not exist in database dev in the snapshot."),
        ({"sourceDatabaseName": "missing", "targetDatabaseName": "dev"},
         "Database missing does not exist in the snapshot."),
        ({"targetDatabaseName": "missing"}, "Database missing does not exist."),
        ({"targetSchemaName": "missing"}, "Schema missing does not exist in database dev."),
        ({"sourceDatabaseName": "postgres", "targetDatabaseName": "dev"},
         "Database postgres does not exist in the snapshot."),
        ({"targetDatabaseName": "template1"}, "Database template1 does not exist."),
        ({"targetSchemaName": "pg_catalog"}, "Schema pg_catalog belongs to PostgreSQL"),
        ({"sourceSchemaName": "pg_catalog", "targetSchemaName": "public", "sourceTableName": "pg_authid"},
         "pg_catalog.pg_authid belongs to PostgreSQL"),
        ({"sourceTableName": "parted"}, "public.parted is partitioned"),
        ({"sourceTableName": "part"}, "public.part is a partition of another table"),
        ({"sourceTableName": "parent"}, "public.parent inherits, or is inherited from"),
        ({"sourceTableName": "child"}, "public.child inherits, or is inherited from"),
        ({"sourceTableName": "volatile"}, "public.volatile is unlogged"),
        ({"sourceTableName": "big_orders"}, "public.big_orders is a view"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_restored_fails_with_a_sentence(
    shop: Warehouse, changes: dict[str, str], message: str
) -> None:
    assert refused_table(shop, "taken", "impossible", **changes).startswith(message)
    assert shop.query("SELECT to_regclass('impossible')") == [(None,)]


def test_what_the_table_needs_and_the_target_lacks_fails_it_and_nothing_is_left(account: Account) -> None:
    with warehouse_of(account, "poor") as made:
        made.query("CREATE TYPE mood AS ENUM ('bad', 'good')")
        made.query("CREATE TABLE needy AS SELECT 'good'::mood AS mood, 1 AS id")
        made.query("CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
        made.query("CREATE TABLE indexed AS SELECT 1 AS id")
        made.query("CREATE INDEX ON indexed (f(id))")
        made.snapshot("good")
        made.query("DROP TYPE mood CASCADE")
        made.query("DROP FUNCTION f CASCADE")
        assert 'type "public.mood" does not exist' in refused_table(made, "needy", "needy_back")
        assert "function public.f(integer) does not exist" in refused_table(made, "indexed", "indexed_back")
        assert made.query("SELECT count(*) FROM pg_tables WHERE tablename LIKE '%back'") == [(0,)]


def test_requests_that_make_no_sense_are_refused_at_once(shop: Warehouse, account: Account) -> None:
    client = shop.client
    for changes, error in (
        ({"namespaceName": "nobody"}, client.exceptions.ResourceNotFoundException),
        ({"workgroupName": "nobody"}, client.exceptions.ResourceNotFoundException),
        ({"snapshotName": "nothing"}, client.exceptions.ResourceNotFoundException),
        ({"newTableName": ""}, client.exceptions.ValidationException),
        ({"newTableName": "x" * 64}, client.exceptions.ValidationException),
    ):
        with pytest.raises(error):
            ask_for_table(shop, "taken", "wrong", **changes)
    assert client.get_namespace(namespaceName="shop")["namespace"]["status"] == "AVAILABLE"
    for request_id in (str(uuid.uuid4()), "no-id", str(uuid.uuid4()).upper()):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.get_table_restore_status(tableRestoreRequestId=request_id)


def test_a_snapshot_or_workgroup_of_another_namespace_is_refused(shop: Warehouse) -> None:
    with warehouse_of(shop.account, "neighbour") as neighbour:
        invalid = shop.client.exceptions.ValidationException
        with pytest.raises(invalid, match="was not taken of namespace neighbour"):
            ask_for_table(neighbour, "taken", "wrong")
        with pytest.raises(invalid, match="is not associated with namespace"):
            ask_for_table(shop, "taken", "wrong", workgroupName="neighbour")


def test_requests_stay_listed_with_filters_and_pages(account: Account) -> None:
    made = make_warehouse(account, "listed")
    made.query("CREATE TABLE one AS SELECT 1 AS one")
    made.snapshot("good")
    ids = [bring_table(made, "one", f"one_{n}")["tableRestoreRequestId"] for n in range(3)]
    made.tear_down()
    client = account.client
    pages = client.get_paginator("list_table_restore_status").paginate(
        namespaceName="listed", PaginationConfig={"PageSize": 2}
    )
    found = [[item["tableRestoreRequestId"] for item in page["tableRestoreStatuses"]] for page in pages]
    assert found == [ids[:2], ids[2:]]
    assert [len(client.list_table_restore_status(**chosen)["tableRestoreStatuses"]) for chosen in (
        {}, {"workgroupName": "listed"}, {"workgroupName": "other"}, {"namespaceName": "other"},
    )] == [3, 3, 0, 0]  # fmt: skip
    token = client.list_table_restore_status(maxResults=1)["nextToken"]
    with pytest.raises(ClientError) as caught:
        client.list_table_restore_status(namespaceName="listed", nextToken=token)
    assert caught.value.response["Error"]["Code"] in {"ValidationException", "InvalidPaginationException"}


def test_requests_are_seen_by_their_own_account_only(shop: Warehouse, account: Account) -> None:
    ended = bring_table(shop, "taken", "private_copy")
    assert account.client.list_table_restore_status()["tableRestoreStatuses"] == []
    with pytest.raises(account.client.exceptions.ResourceNotFoundException):
        account.client.get_table_restore_status(tableRestoreRequestId=ended["tableRestoreRequestId"])
    assert shop.query("SELECT 1", password=PASSWORD) == [(1,)]
