"""Run by Alembic for every command: hands it the connection that `stillframe.catalog.schema` opened."""

from alembic import context

from stillframe.catalog.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
