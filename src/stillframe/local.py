"""`Local`: the whole service as a process of its own, for as long as a `with` block lasts."""

import contextlib
import os
import selectors
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from stillframe.clients import API, EXTENSION, ClientMaker, ServiceAddress, read_address
from stillframe.config import Settings, load_settings
from stillframe.errors import InvalidRequest, PermissionMissing, ServerUnavailable

if TYPE_CHECKING:
    import psycopg

_READY_SECONDS = 60.0
_STOP_SECONDS = 60.0
_STARTING = "The service was not started, or has ended."


class Local:
    """Run Stillframe on a temporary directory (or on `data`) and a free port, and leave nothing behind.

        with stillframe.Local() as local:
            client = local.client()
            client.create_namespace(namespaceName="shop")

    `settings` are the fields of `Settings` by name; what is not given comes from `STILLFRAME_*` variables and
    the defaults. The service ends with the block, and by itself when this process dies. A temporary directory
    is removed at the end; a given one is kept, and a later `Local` on it finds everything again.
    """

    def __init__(
        self, data: Path | str | None = None, *, region: str = "us-east-1", port: int = 0, **settings: Any
    ) -> None:
        self._data = Path(data) if data is not None else None
        self._overrides: dict[str, Any] = {"region": region, "port": port, "host": "127.0.0.1", **settings}
        self._cleanup: contextlib.ExitStack | None = None
        self._settings: Settings | None = None
        self._address: ServiceAddress | None = None
        self._log: Path | None = None

    def __enter__(self) -> Self:
        """Start the service and wait until it answers.

        Raises ServerUnavailable, with the last lines of the log as its hint, when it does not;
        ConfigurationInvalid for a wrong setting.
        """
        with contextlib.ExitStack() as cleanup:
            self._start(cleanup)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the service, its servers and its helpers; remove the temporary directory."""
        cleanup, self._cleanup, self._address = self._cleanup, None, None
        if cleanup is not None:
            cleanup.__exit__(kind, error, trace)

    @property
    def endpoint_url(self) -> str:
        """The URL of the API, as `endpoint_url` of any SDK."""
        return self.address.endpoint_url

    @property
    def credentials(self) -> dict[str, str]:
        """The root credentials, named like the arguments of `boto3.client`."""
        address = self.address
        return {
            "aws_access_key_id": address.access_key_id,
            "aws_secret_access_key": address.secret_access_key,
        }

    @property
    def address(self) -> ServiceAddress:
        """Where the service answers and its root credentials; ServerUnavailable outside of the block."""
        if self._address is None:
            raise ServerUnavailable(_STARTING, hint="Use it inside of `with stillframe.Local() as local:`.")
        return self._address

    @property
    def settings(self) -> Settings:
        """The settings that the service runs with; ServerUnavailable before it was started."""
        if self._settings is None:
            raise ServerUnavailable(_STARTING, hint="Use it inside of `with stillframe.Local() as local:`.")
        return self._settings

    def client(
        self,
        region: str | None = None,
        *,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
    ) -> Any:
        """A plain boto3 client of `redshift-serverless`, for the root user or with another key.

        Nothing of the user's AWS environment or configuration takes part.
        """
        address = self.address
        if aws_access_key_id is not None and aws_secret_access_key is not None:
            address = replace(
                address, access_key_id=aws_access_key_id, secret_access_key=aws_secret_access_key
            )
        return ClientMaker(address)(API, region=region)

    def extension(self, region: str | None = None) -> Any:
        """A boto3 client of Stillframe's own operations (ListOperations, CreateAccessKey…), for the root user."""
        return ClientMaker(self.address)(EXTENSION, region=region)

    def connect(
        self,
        workgroup: str,
        database: str = "dev",
        *,
        user: str | None = None,
        password: str | None = None,
        **options: Any,
    ) -> "psycopg.Connection":
        """A psycopg connection to a database of the workgroup; `options` go to `psycopg.connect`.

        Without `user` the login is a temporary one by GetCredentials. Raises what boto3 and psycopg raise,
        and ServerUnavailable while the workgroup has no endpoint.
        """
        import psycopg  # noqa: PLC0415 - not needed by those who bring their own driver

        client = self.client()
        endpoint = client.get_workgroup(workgroupName=workgroup)["workgroup"].get("endpoint", {})
        if "port" not in endpoint:
            raise ServerUnavailable(f"The workgroup {workgroup} has no endpoint yet.")
        if user is None:
            given = client.get_credentials(workgroupName=workgroup, dbName=database)
            user, password = given["dbUser"], given["dbPassword"]
        address = {"host": endpoint["address"], "port": endpoint["port"], "sslmode": "prefer"}
        return psycopg.connect(dbname=database, user=user, password=password, **(address | options))

    def advance(self, time_span: timedelta) -> None:
        """Let the service's clock jump ahead, on top of earlier jumps; databases keep the machine's time.

        Raises InvalidRequest for a negative span: time does not run backwards.
        """
        if time_span < timedelta(0):
            raise InvalidRequest("The service's clock can only be moved forwards.")
        offset_file = self.settings.clock_offset_file
        assert offset_file is not None
        _write_offset(offset_file, _read_offset(offset_file) + time_span.total_seconds())

    def log_tail(self, lines: int = 40) -> str:
        """The last lines that the service wrote to its log; empty before it wrote any."""
        if self._log is None or not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _start(self, cleanup: contextlib.ExitStack) -> None:
        scratch = cleanup.enter_context(_scratch_directory())
        settings = self._settings = self._choose_settings(scratch)
        self._log = scratch / "service.log"
        _write_offset_if_absent(settings.clock_offset_file)
        service = cleanup.enter_context(_service_process(settings, self._overrides, self._log))
        service.owns_data = self._data is None
        try:
            service.wait_until_ready(_READY_SECONDS)
        except ServerUnavailable as error:
            raise ServerUnavailable(error.message, hint=self._why()) from None
        self._address = read_address(settings.paths.service_file)

    def _choose_settings(self, scratch: Path) -> Settings:
        data = (self._data or scratch / "data").expanduser().absolute()
        self._overrides["data"] = data
        self._overrides.setdefault("clock_offset_file", data / "clock-offset")
        return load_settings(overrides=self._overrides)

    def _why(self) -> str:
        tail = self.log_tail(15)
        return f"The end of its log:\n{tail}" if tail else "It wrote no log."


class _Service:
    """The child process and the two pipes to it: one tells us that it is ready, one tells it that we live.

    `owns_data`: nobody else can be using its data directory. A service that never became ready on a directory
    we were given may have been refused because another one runs there, whose servers are not ours to stop.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.owns_data = False

    def wait_until_ready(self, seconds: float) -> None:
        """Return when the ready line is there; ServerUnavailable when the service ends or is too slow."""
        assert self._process.stdout is not None
        if not _readable(self._process.stdout, seconds):
            raise ServerUnavailable(f"The service was not ready after {seconds:.0f} seconds.")
        if not self._process.stdout.readline():
            status = self._process.wait()
            raise ServerUnavailable(f"The service ended with status {status} before it was ready.")
        self.owns_data = True

    def stop(self, seconds: float) -> bool:
        """End it: politely, then not. True when it ended by its own clean way."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False


@contextlib.contextmanager
def _service_process(settings: Settings, overrides: Mapping[str, Any], log: Path) -> Iterator[_Service]:
    exit_reader, exit_writer = os.pipe()
    try:
        with log.open("ab") as sink:
            process = _spawn(settings, overrides, sink, exit_reader)
    except BaseException:
        os.close(exit_writer)
        raise
    finally:
        os.close(exit_reader)
    service = _Service(process)
    try:
        yield service
    finally:
        try:
            _end(service, settings)
        finally:
            os.close(exit_writer)
            assert process.stdout is not None
            process.stdout.close()


def _spawn(
    settings: Settings, overrides: Mapping[str, Any], sink: IO[bytes], exit_reader: int
) -> "subprocess.Popen[bytes]":
    # A session of its own: Ctrl-C must reach us and not the service, which we then stop in order.
    return subprocess.Popen(
        [*_python_module("stillframe"), "serve", "--exit-with-fd", str(exit_reader)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=sink,
        env=_environment(settings, overrides),
        pass_fds=(exit_reader,),
        start_new_session=True,
    )


def _python_module(name: str) -> Sequence[str]:
    # -P: a file in the working directory must not take the place of a module of the standard library.
    return [sys.executable, "-P", "-m", name]


def _environment(settings: Settings, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Our environment, with the settings put on top and this very package importable."""
    names = [name for name in overrides if name in Settings.model_fields and overrides[name] is not None]
    chosen = settings.model_dump(mode="json", include=set(names))
    chosen |= {name: secret for name in names if (secret := _secret(getattr(settings, name))) is not None}
    environment = dict(os.environ)
    environment |= {f"STILLFRAME_{name.upper()}": _as_variable(value) for name, value in chosen.items()}
    environment["PYTHONPATH"] = os.pathsep.join(_python_path())
    return environment


def _secret(value: object) -> str | None:
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal()) if reveal is not None else None


def _as_variable(value: object) -> str:
    if isinstance(value, str):
        return value
    import json  # noqa: PLC0415

    return json.dumps(value)


def _python_path() -> list[str]:
    inherited = [
        str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry
    ]
    root = Path(__file__).resolve().parents[1]
    if root.name in {"site-packages", "dist-packages"} or str(root) in inherited:
        return inherited  # found without help, and must not come before the standard library
    return [str(root), *inherited]


def _end(service: _Service, settings: Settings) -> None:
    if service.stop(_STOP_SECONDS):
        return
    if service.owns_data:
        from stillframe.app import stop_all  # noqa: PLC0415 - loads the whole service, only after a crash

        stop_all(settings)


def _readable(stream: IO[bytes], seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(seconds))


@contextlib.contextmanager
def _scratch_directory() -> Iterator[Path]:
    """A temporary directory; as root one that the unprivileged user of the servers can pass through."""
    is_root = os.geteuid() == 0
    path = Path(tempfile.mkdtemp(prefix="stillframe-", dir=_passable_parent() if is_root else None))
    try:
        if is_root:
            path.chmod(0o711)
        yield path
    finally:
        _remove_tree(path)


def _passable_parent() -> Path:
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - mkdtemp makes the name
    for candidate in candidates:
        if candidate.is_dir() and all(_others_may_pass(part) for part in (candidate, *candidate.parents)):
            return candidate
    raise PermissionMissing(
        "No temporary directory can be reached by the user that PostgreSQL runs as.",
        hint="Set TMPDIR to a directory whose path everybody may pass through (mode 0711 or wider).",
    )


def _others_may_pass(directory: Path) -> bool:
    return bool(directory.stat().st_mode & stat.S_IXOTH)


def _remove_tree(path: Path, *, seconds: float = 5.0) -> None:
    """Remove a directory although a server that was just killed may still be writing its last file there."""
    deadline = time.monotonic() + seconds
    while path.exists() and time.monotonic() < deadline:
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            time.sleep(0.05)


def _write_offset_if_absent(path: Path | None) -> None:
    if path is not None and not path.exists():
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        _write_offset(path, 0.0)


def _read_offset(path: Path) -> float:
    return float(path.read_text())


def _write_offset(path: Path, seconds: float) -> None:
    # Replaced, not rewritten: the service may read it at any moment.
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(f"{seconds:.6f}\n")
    temporary.replace(path)
