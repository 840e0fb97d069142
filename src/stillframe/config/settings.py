"""What can be set, its default and its meaning. Read once at start and handed down; nothing reads it globally."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from stillframe.errors import ConfigurationInvalid


def default_data_directory() -> Path:
    """`/var/lib/stillframe` for root, the XDG data directory for anybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/stillframe")
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "stillframe"


class ServersOnExit(StrEnum):
    """What becomes of the namespaces' PostgreSQL servers when the service is asked to end (not when it crashes)."""

    STOP = "stop"
    KEEP = "keep"


class KeyManagementKind(StrEnum):
    """Where the keys are that namespaces and secrets name."""

    LOCAL = "local"
    AWS = "aws"


class RestoreStrategy(StrEnum):
    """How the files of a restored directory come: behind its running server, or before it is started; then as clones
    of what this machine has, or as copies of everything.
    """

    AUTO = "auto"
    HYDRATION = "hydration"
    REFLINK = "reflink"
    EAGER = "eager"


class Quotas(BaseModel):
    """Per account and Region, with the defaults that the vendor documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespaces: int = Field(default=25, ge=1)
    workgroups: int = Field(default=25, ge=1)
    snapshots: int = Field(default=700, ge=1)
    open_snapshots: int = Field(default=8, ge=1)
    databases: int = Field(default=100, ge=1)
    tags: int = Field(default=50, ge=1, le=200)
    base_capacity: int = Field(default=3200, ge=1)


class Settings(BaseSettings):
    """Everything that can be set. Field `port` is `STILLFRAME_PORT` in the environment and `port` in the file."""

    model_config = SettingsConfigDict(
        env_prefix="STILLFRAME_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    data: Path = Field(default_factory=default_data_directory)
    host: str = "127.0.0.1"
    port: int = Field(default=9439, ge=0, le=65535)
    region: str = "us-east-1"
    account_id: str = Field(default="123456789012", pattern=r"^[0-9]{12}$")
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    postgres_bin: Path | None = None
    """A directory with another PostgreSQL server's programs (17 or newer); None takes the bundled one."""
    server_user: str = "stillframe"
    """The system user that PostgreSQL runs as when the service itself is root."""
    servers_on_exit: ServersOnExit = ServersOnExit.STOP
    jobs: int = Field(default=4, ge=1, le=64)
    """How many operations may run side by side, each on another namespace."""
    copy_threads: int = Field(default_factory=lambda: max(2, os.cpu_count() or 2), ge=1, le=64)
    restore_strategy: RestoreStrategy = RestoreStrategy.AUTO
    """`auto` takes hydration where the kernel, the file system and the user's rights allow it, else reflinks where a
    file system and databases on it do, else copies."""
    hydrate_in_background: bool = True
    """False: of a restore by hydration only what is asked for arrives, and the rest stays in the repository."""
    compression_level: int = Field(default=1, ge=1, le=19)
    sweep_seconds: float = Field(default=60.0, gt=0)
    """How often retention is looked at and rubbish is collected."""
    prove_snapshots: bool = False
    """Whether every snapshot is proven once: started on a private copy, and everything in it checked."""
    verify_seconds: float = Field(default=86400.0, ge=0)
    """How often every stored byte is read and checked; 0 is never."""
    verify_again_days: int = Field(default=30, ge=0)
    """How long a pack that was read and found whole is believed; 0 reads all of them each time."""
    clock_offset_file: Path | None = None
    """A file holding seconds to add to the service's clock, so that a test can let thirty days pass."""
    kms: KeyManagementKind = KeyManagementKind.LOCAL
    """`aws` asks AWS KMS, or what speaks its protocol; the service's own key stays in the data directory."""
    kms_endpoint_url: str | None = None
    """Another address than that of AWS KMS in the key's Region."""
    kms_access_key_id: str | None = None
    """None, and no secret either: the SDK's own chain finds credentials."""
    kms_secret_access_key: SecretStr | None = None
    repository_url: str | None = None
    """`s3://bucket/folder`, with a folder for each Region in it; None keeps repositories in the data directory."""
    repository_endpoint_url: str | None = None
    """The address of the object store; None is Amazon S3."""
    repository_region: str | None = None
    """The Region that requests to the object store are signed for; None leaves it to the SDK's variables."""
    repository_path_style: bool | None = None
    """Whether the bucket is named in the path; None: when there is an endpoint, else it is in the host's name."""
    repository_access_key_id: str | None = None
    """None, and no secret either: the SDK's own chain finds credentials."""
    repository_secret_access_key: SecretStr | None = None
    repository_session_token: SecretStr | None = None
    repository_timeout_seconds: float = Field(default=120.0, gt=0)
    """How long one request to the object store may take; a pack of 64 MiB has to get through in it."""
    log_level: str = "info"
    log_json: bool | None = None
    """True: JSON lines. None: JSON unless standard error is a terminal."""
    memory_per_rpu: int = Field(default=2 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of shared_buffers granted for one unit of base capacity, up to a quarter of the machine."""
    quotas: Quotas = Quotas()

    def handed_down(self) -> bytes:
        """These settings as a line of JSON for another process of the service, through a pipe: secrets included.

        Except the root key's, which only the first start of the service needs.
        """
        plain = self.model_dump(mode="json", exclude={"secret_access_key"})
        plain |= {
            name: value.get_secret_value()
            for name in plain
            if isinstance(value := getattr(self, name), SecretStr)
        }
        return json.dumps(plain).encode() + b"\n"

    @property
    def kms_key_pair(self) -> "KeyPair | None":
        """What to sign requests to KMS with; None leaves it to the SDK. Raises ConfigurationInvalid for half of it."""
        return _key_pair("kms", self.kms_access_key_id, self.kms_secret_access_key)

    @property
    def repository_key_pair(self) -> "KeyPair | None":
        """The same for the object store."""
        return _key_pair("repository", self.repository_access_key_id, self.repository_secret_access_key)

    @property
    def paths(self) -> "Paths":
        """Where things are below the data directory."""
        return Paths(root=self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The layout of a data directory (docs/explanation/architecture.md)."""

    root: Path

    @property
    def catalog(self) -> Path:
        """PGDATA of the embedded catalog."""
        return self.root / "catalog"

    @property
    def keys(self) -> Path:
        """The local key management's files, mode 0700."""
        return self.root / "keys"

    @property
    def trash(self) -> Path:
        """Files of namespaces that are deleted and not removed yet."""
        return self.root / "trash"

    @property
    def bases(self) -> Path:
        """Directories that restores replaced, until all files of what replaced them have arrived."""
        return self.root / "bases"

    @property
    def run(self) -> Path:
        """Sockets, locks, pid files and logs: nothing that matters after a reboot."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """Log files of the servers and of the service's helper processes."""
        return self.run / "log"

    @property
    def service_file(self) -> Path:
        """Where a running service says how it can be reached; mode 0600, holds the root credentials."""
        return self.run / "service.json"

    @property
    def lock_file(self) -> Path:
        """Held by the running service."""
        return self.run / "lock"

    @property
    def endpoint_socket(self) -> Path:
        """Control socket of the endpoint process."""
        return self.run / "endpoint.sock"

    def repository(self, region: str) -> Path:
        """The local repository of a Region."""
        return self.root / "regions" / region / "repository"

    def claims(self, region: str) -> Path:
        """The claims on a Region's repository when that is in a bucket; a local one has them inside."""
        return self.root / "regions" / region / "claims"

    def namespace(self, namespace_id: object) -> Path:
        """All incarnations of a namespace."""
        return self.root / "namespaces" / str(namespace_id)


class KeyPair(NamedTuple):
    """An access key of AWS, or of what speaks its protocols."""

    access_key_id: str
    secret_access_key: SecretStr


def _key_pair(prefix: str, key_id: str | None, secret: SecretStr | None) -> KeyPair | None:
    if key_id is None and secret is None:
        return None
    if key_id is None or secret is None:
        both = f"{prefix}_access_key_id and {prefix}_secret_access_key"
        raise ConfigurationInvalid(f"{both} go together: one of them is missing.")
    return KeyPair(key_id, secret)


def load_settings(*, config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read settings: `overrides` (command line) before the environment before the file before the defaults.

    The file is TOML with the field names as keys; it comes from `config`, else from `STILLFRAME_CONFIG`.
    Raises ConfigurationInvalid naming the setting that is wrong, without its value.
    """
    path = config or (Path(os.environ["STILLFRAME_CONFIG"]) if os.environ.get("STILLFRAME_CONFIG") else None)
    from_file = _read_file(path) if path is not None else {}
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    from_environment = {name for name in Settings.model_fields if f"STILLFRAME_{name.upper()}" in os.environ}
    values = {name: _without_environment(name, value) for name, value in from_file.items()}
    values = {name: value for name, value in values.items() if name not in from_environment} | given
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigurationInvalid(_explain(error)) from None
    return settings.model_copy(update={"data": settings.data.expanduser().absolute()})


def _without_environment(name: str, value: Any) -> Any:
    """A table of the file without the entries that the environment sets one by one."""
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if f"STILLFRAME_{name}__{key}".upper() not in os.environ}


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationInvalid(
            f"The configuration file {path} cannot be read: {error.strerror}."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationInvalid(f"The configuration file {path} is not valid TOML: {error}.") from None
    unknown = sorted(set(values) - set(Settings.model_fields))
    if unknown:
        raise ConfigurationInvalid(
            f"The configuration file {path} has unknown settings: {', '.join(unknown)}."
        )
    return values


def _explain(error: ValidationError) -> str:
    wrong = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
    return "Settings are not valid: " + "; ".join(wrong) + "."
