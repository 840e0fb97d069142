"""Checks of PostgreSQL and of the user it runs as."""

import os
import pwd
import shutil
from pathlib import Path

from stillframe.cli.doctor.finding import Finding, fail, ok
from stillframe.errors import StillframeError
from stillframe.postgres.identity import ServerIdentity, server_identity
from stillframe.postgres.installation import find_installation


def known_identity(server_user: str) -> ServerIdentity | None:
    """The identity of servers when its user exists already: looking must not create a user."""
    if os.geteuid() == 0 and not _exists(server_user):
        return None
    return server_identity(user=server_user)


def check_server_user(server_user: str) -> Finding:
    """The system user that PostgreSQL runs as."""
    name = "Server user"
    if os.geteuid() != 0:
        return ok(name, f"PostgreSQL runs as this user, {_own_name()}")
    if _exists(server_user):
        return ok(name, f"{server_user} exists; PostgreSQL never runs as root")
    if shutil.which("useradd") or shutil.which("adduser"):
        return ok(name, f"{server_user} does not exist yet; the first start creates it")
    advice = f"Create it (useradd --system {server_user}), or name another one in STILLFRAME_SERVER_USER."
    return fail(name, f"{server_user} does not exist, and useradd and adduser are missing", advice)


def check_postgres(bin_directory: Path | None, identity: ServerIdentity | None) -> Finding:
    """That PostgreSQL is there, new enough, and really runs as its user."""
    name = "PostgreSQL"
    if identity is None:
        return ok(name, "is tried once its user exists")
    try:
        found = find_installation(bin_directory, identity=identity)
    except StillframeError as error:
        return fail(name, error.message, error.hint)
    return ok(name, f"{found.build} in {found.bin_directory}, runs as {identity.name}")


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
