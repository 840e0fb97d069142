"""Settings: environment variables `STILLFRAME_*`, a TOML file, and the defaults below, in that order."""

from stillframe.config.settings import (
    KeyManagementKind,
    Paths,
    Quotas,
    RestoreStrategy,
    ServersOnExit,
    Settings,
    load_settings,
)

__all__ = [
    "KeyManagementKind",
    "Paths",
    "Quotas",
    "RestoreStrategy",
    "ServersOnExit",
    "Settings",
    "load_settings",
]
