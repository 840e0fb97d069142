"""The catalog schema's history, run by Alembic; `stillframe.catalog.schema` decides when."""
