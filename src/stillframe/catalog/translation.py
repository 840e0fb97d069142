"""What PostgreSQL and its driver report, in the words of `stillframe.errors`.

A driver's own message may carry the row it failed on, which may hold a password verifier: only the primary
message, the SQLSTATE and the constraint's name are passed on, and the driver's exception is not chained.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors as pg
from sqlalchemy import exc

from stillframe.errors import (
    CatalogUnavailable,
    Conflict,
    DiskFull,
    InternalError,
    InvalidRequest,
    StillframeError,
)


@contextmanager
def translated() -> Iterator[None]:
    """Run a block that talks to the catalog; whatever the drivers raise leaves it as a StillframeError."""
    try:
        yield
    except exc.DBAPIError as error:
        raise translate(error.orig or error) from None
    except exc.TimeoutError:
        raise CatalogUnavailable("No connection to the catalog became free in time.") from None
    except exc.SQLAlchemyError as error:
        raise InternalError(f"The catalog was used wrongly ({type(error).__name__}).") from error
    except psycopg.Error as error:
        raise translate(error) from None


def translate(error: BaseException) -> StillframeError:
    """The error to raise for what psycopg raised; `constraint` and `sqlstate` are among its facts."""
    for kinds, build in _RULES:
        if isinstance(error, kinds):
            return build(error)
    return InternalError(f"The catalog refused a statement: {_primary(error)}", **_facts(error))


def connection_was_lost(error: BaseException | None) -> bool:
    """Whether the server could not be reached or went away: the same statement may succeed later."""
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _conflict(error: BaseException) -> StillframeError:
    return Conflict("The catalog holds another resource that excludes this one.", **_facts(error))


def _busy(error: BaseException) -> StillframeError:
    return Conflict("Another operation holds the same resource.", **_facts(error))


def _broken_rule(error: BaseException) -> StillframeError:
    return InternalError("A record breaks a rule of the catalog.", **_facts(error))


def _disk_full(error: BaseException) -> StillframeError:
    return DiskFull(
        "The catalog has no space left.", hint="Free space where the catalog is kept.", **_facts(error)
    )


def _unstorable(error: BaseException) -> StillframeError:
    return InvalidRequest(f"A value cannot be stored: {_primary(error)}", **_facts(error))


def _unavailable(error: BaseException) -> StillframeError:
    return CatalogUnavailable(f"The catalog did not answer: {_primary(error)}", **_facts(error))


def _primary(error: BaseException) -> str:
    """The server's primary message; of a failed connection, libpq's words on one line."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    return " ".join(str(error).split())


def _facts(error: BaseException) -> dict[str, Any]:
    if not isinstance(error, psycopg.Error):
        return {}
    facts = {"constraint": error.diag.constraint_name, "sqlstate": error.sqlstate}
    return {name: value for name, value in facts.items() if value is not None}


_RULES: tuple[tuple[tuple[type[BaseException], ...], Callable[[BaseException], StillframeError]], ...] = (
    ((pg.UniqueViolation, pg.ForeignKeyViolation, pg.ExclusionViolation), _conflict),
    ((psycopg.IntegrityError,), _broken_rule),
    ((pg.LockNotAvailable, pg.DeadlockDetected, pg.SerializationFailure), _busy),
    ((pg.DiskFull,), _disk_full),
    ((psycopg.OperationalError, psycopg.InterfaceError), _unavailable),
    ((psycopg.DataError,), _unstorable),
)
"""The first that fits; the narrow ones come before the wide ones they belong to."""
