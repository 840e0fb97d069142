"""The databases of the demo besides TPC-H, and what is done to all of them."""

from dataclasses import dataclass

import psycopg
from psycopg import sql

WAREHOUSE = "warehouse"
BILLING = "billing"
ROLE = "bookkeeper"

SHOP_STATEMENTS = (
    """CREATE TABLE customers (
        id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, preferences jsonb, joined timestamptz)""",
    """CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id int REFERENCES customers,
        total numeric(10,2), labels text[], placed timestamptz)""",
    """INSERT INTO customers
        SELECT n, 'Customer ' || n, 'c' || n || '@example.com',
               jsonb_build_object('news', n % 2 = 0, 'level', n % 7),
               timestamptz '2020-01-01' + n * interval '1 hour'
        FROM generate_series(1, 5000) AS n""",
    """INSERT INTO orders (customer_id, total, labels, placed)
        SELECT 1 + n % 5000, (n * 37 % 100000) / 100.0, ARRAY['web', 'batch-' || n % 50],
               timestamptz '2024-01-01' + n * interval '1 minute'
        FROM generate_series(1, 40000) AS n""",
    "CREATE INDEX orders_by_customer ON orders (customer_id, placed)",
)

BILLING_STATEMENTS = (
    "CREATE SEQUENCE invoice_numbers START 10001 INCREMENT 7",
    """CREATE TABLE invoices (
        number bigint PRIMARY KEY DEFAULT nextval('invoice_numbers'), customer text NOT NULL,
        amount numeric(10,2), scan bytea)""",
    """INSERT INTO invoices (customer, amount, scan)
        SELECT 'Customer ' || n, n * 1.19, decode(repeat(md5(n::text), 20), 'hex')
        FROM generate_series(1, 3000) AS n""",
    "CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS invoices, sum(amount) AS amount FROM invoices",
    f"GRANT SELECT, INSERT ON invoices TO {ROLE}",
    f"GRANT USAGE ON SEQUENCE invoice_numbers TO {ROLE}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One statement that destroys something, and where it is given."""

    database: str
    statement: str


DAMAGE = (
    Blow(database=WAREHOUSE, statement="DROP TABLE lineitem"),
    Blow(database=WAREHOUSE, statement="UPDATE customer SET c_acctbal = 0, c_comment = 'oops'"),
    Blow(database="shop", statement="DELETE FROM orders WHERE id % 3 = 0"),
    Blow(database="shop", statement=f"DROP DATABASE {BILLING} WITH (FORCE)"),
    Blow(database="shop", statement=f"DROP ROLE {ROLE}"),
)


def run_all(connection: psycopg.Connection, statements: tuple[str, ...]) -> None:
    """Execute the statements one after the other."""
    for statement in statements:
        connection.execute(statement)


def create_role(connection: psycopg.Connection, password: str) -> None:
    """The role that must be able to log in again after the restore."""
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(password))
    )
