"""The catalog: the service's own metadata and its queue of work, in PostgreSQL.

The only home of SQLAlchemy, Alembic and procrastinate.
"""

from stillframe.catalog.catalog import Catalog, Transaction
from stillframe.catalog.jobs import DEFAULT_QUEUE, JobWorker, RetryPolicy, recover
from stillframe.catalog.records import Page, PageKey, Records
from stillframe.catalog.timers import PeriodicTask

__all__ = [
    "DEFAULT_QUEUE",
    "Catalog",
    "JobWorker",
    "Page",
    "PageKey",
    "PeriodicTask",
    "Records",
    "RetryPolicy",
    "Transaction",
    "recover",
]
