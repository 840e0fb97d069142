"""The settings a server is started with, as text for the files PostgreSQL reads."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stillframe.errors import ConfigurationInvalid

SERVICE_ROLE = "stillframe"
"""The superuser of every cluster: only the service's own OS user may log in as it, over the socket."""

IDENT_MAP = "stillframe"
RESERVED_CONNECTIONS = 8
MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What may differ between servers; everything else is the same for all of them.

    Sizes are bytes. `max_connections` is what users get; the service's own connections come on top.
    `users` holds settings that users may change for their session (search_path, datestyle…);
    `extra` holds server settings that win over all of ours.
    """

    max_connections: int = 100
    shared_buffers: int = 128 * MEGABYTE
    work_mem: int = 4 * MEGABYTE
    maintenance_work_mem: int = 64 * MEGABYTE
    max_wal_size: int = 1024 * MEGABYTE
    max_worker_processes: int = 8
    max_prepared_transactions: int = 0
    max_slot_wal_keep_size: int = 16 * 1024 * MEGABYTE
    users: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)


def render_settings(
    settings: ServerSettings,
    *,
    socket_directory: Path,
    socket_port: int,
    log_directory: Path,
) -> str:
    """The whole text of `stillframe.conf`. Raises ConfigurationInvalid for a name that is none."""
    values: dict[str, str] = {
        **_reachability(socket_directory, socket_port=socket_port),
        **_sizes(settings),
        **_CONSTANT,
        "log_directory": str(log_directory),
        **settings.users,
        **settings.extra,
    }
    lines = [f"{_checked_name(name)} = {quote(value)}" for name, value in values.items()]
    return "# Written by Stillframe at every start; changes made here are lost.\n" + "\n".join(lines) + "\n"


def _reachability(socket_directory: Path, *, socket_port: int) -> dict[str, str]:
    return {
        "listen_addresses": "",
        "port": str(socket_port),
        "unix_socket_directories": f'"{socket_directory}"',
        "unix_socket_permissions": "0777",
    }


def _sizes(settings: ServerSettings) -> dict[str, str]:
    return {
        "max_connections": str(settings.max_connections + RESERVED_CONNECTIONS),
        "superuser_reserved_connections": str(RESERVED_CONNECTIONS),
        "shared_buffers": _kilobytes(settings.shared_buffers),
        "work_mem": _kilobytes(settings.work_mem),
        "maintenance_work_mem": _kilobytes(settings.maintenance_work_mem),
        "max_wal_size": f"{settings.max_wal_size // MEGABYTE}MB",
        "max_worker_processes": str(settings.max_worker_processes),
        "max_prepared_transactions": str(settings.max_prepared_transactions),
        "max_slot_wal_keep_size": f"{settings.max_slot_wal_keep_size // MEGABYTE}MB",
    }


_CONSTANT = {
    # What snapshots rest on (rules 8, 21, 34).
    "wal_level": "replica",
    "summarize_wal": "on",
    # Without a bound they would gather for ever; a parent older than this costs a full read, with the reason.
    "wal_summary_keep_time": "90d",
    "full_page_writes": "on",
    # Before recovery PostgreSQL syncs every file one by one, which takes longer than all the rest of a start.
    **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),
    "fsync": "on",
    "max_wal_senders": "4",
    "max_replication_slots": "4",
    # Hydration holds accesses of worker processes; io_uring would hold them elsewhere (instant restore).
    "io_method": "worker",
    # A copy of a cluster must not act on what its source was connected to (rule 35).
    "archive_mode": "off",
    "synchronous_standby_names": "",
    "primary_conninfo": "",
    "max_logical_replication_workers": "0",
    # The only tablespaces a namespace may have (rule 30).
    "allow_in_place_tablespaces": "on",
    # Settings belong to the service; what users may choose is sent in their sessions and roles.
    "allow_alter_system": "off",
    "password_encryption": "scram-sha-256",
    # A role that creates a role can act for it, as a Redshift admin can for every user.
    "createrole_self_grant": "set, inherit",
    # One file a weekday, written over after a week: the log never fills the disk slowly.
    "logging_collector": "on",
    "log_destination": "stderr",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_file_mode": "0600",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}

_SINCE_18 = frozenset({"io_method"})


def settings_for_major(text: str, *, major: int) -> str:
    """The same settings without those that a server of version `major` does not know."""
    if major >= 18:
        return text
    kept = (line for line in text.splitlines() if line.partition(" = ")[0] not in _SINCE_18)
    return "\n".join(kept) + "\n"


def render_hba() -> str:
    """pg_hba.conf: the service's role by the OS user's identity, all others by SCRAM, nobody from afar."""
    role = f'"{SERVICE_ROLE}"'
    return (
        "# Written by Stillframe at every start; changes made here are lost.\n"
        f"local  all          {role}  peer map={IDENT_MAP}\n"
        f"local  replication  {role}  peer map={IDENT_MAP}\n"
        "local  replication  all     reject\n"
        "local  all          all     scram-sha-256\n"
    )


def render_ident(*, service_user: str) -> str:
    """pg_ident.conf: which OS user may be the service's role. Raises ConfigurationInvalid for an odd name."""
    if not service_user or any(sign in service_user for sign in '"\n\r,') or service_user[0] in "/+":
        raise ConfigurationInvalid(f"The OS user {service_user!r} cannot be written into pg_ident.conf")
    return (
        "# Written by Stillframe at every start; changes made here are lost.\n"
        f'{IDENT_MAP}  "{service_user}"  "{SERVICE_ROLE}"\n'
    )


SERVICE_FILE = "stillframe.conf"
MAIN_FILE = f"# Written by Stillframe: all settings stand in the file named here.\ninclude '{SERVICE_FILE}'\n"
REFUSING_FILE = (
    "# Written by Stillframe: files of this directory are still arriving from a snapshot. A server that is not\n"
    "# started by Stillframe would read zeros instead, so this line lets none start.\n"
    "files_are_still_arriving = 'start this directory by Stillframe'\n"
)
"""postgresql.conf of a half-arrived directory; Stillframe names SERVICE_FILE to the server by itself."""


def quote(value: str) -> str:
    """A value as it stands in a configuration file. Raises ConfigurationInvalid for line breaks."""
    if "\n" in value or "\r" in value or "\0" in value:
        raise ConfigurationInvalid("A PostgreSQL setting cannot contain a line break")
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _checked_name(name: str) -> str:
    if not all(part.isidentifier() and part.isascii() for part in name.split(".")):
        raise ConfigurationInvalid(f"{name!r} is not the name of a PostgreSQL setting")
    return name


def _kilobytes(size: int) -> str:
    return f"{max(size // 1024, 64)}kB"
