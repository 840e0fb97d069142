"""Settings: environment variables `STILLFRAME_*`, a TOML file, and the defaults below, in that order."""

from stillframe.config.settings import Paths, Quotas, ServersOnExit, Settings, load_settings

__all__ = ["Paths", "Quotas", "ServersOnExit", "Settings", "load_settings"]
