"""The operating-system user that PostgreSQL servers run as, and what that user can reach."""

import grp
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillframe.errors import OperatorError, PermissionMissing
from stillframe.system import translating_os_errors

DEFAULT_SERVER_USER = "stillframe"
_USER_TOOLS: tuple[tuple[str, ...], ...] = (
    ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"),
    ("adduser", "-S", "-D", "-H", "-s", "/sbin/nologin"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """The OS user of PostgreSQL servers.

    `switch` says whether that is another user than ours, so that processes and files have to be handed over
    to it: true only when we are root, because PostgreSQL refuses to run as root.
    `service_user` is the OS user of this service, the only one that may log in as the service's role.
    """

    name: str
    uid: int
    gid: int
    groups: frozenset[int]
    switch: bool
    service_user: str

    @property
    def owner(self) -> tuple[int, int] | None:
        """(uid, gid) that files of a server have to be given to, or None when ours are right already."""
        return (self.uid, self.gid) if self.switch else None

    def run(self, command: Sequence[str], *, deadline: float) -> subprocess.CompletedProcess[str]:
        """Run a short program as the server's user, with a clean environment, for at most `deadline` seconds.

        The result carries the exit status and both outputs; nothing is raised for a status that is not 0.
        Raises OperatorError when the program cannot be started or does not end in time.
        """
        try:
            return subprocess.run(
                list(command),
                env=clean_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=deadline,
                check=False,
                user=self.uid if self.switch else None,
                group=self.gid if self.switch else None,
                extra_groups=[] if self.switch else None,
            )
        except subprocess.TimeoutExpired as error:
            raise OperatorError(f"{Path(command[0]).name} did not end within {deadline:g} s") from error
        except OSError as error:
            raise OperatorError(
                f"{Path(command[0]).name} could not be started as the user {self.name}: {error.strerror}",
            ) from error

    def make_directory(self, path: Path, *, mode: int = 0o700) -> None:
        """Create a directory (and missing parents, which stay ours) that belongs to the server's user.

        Raises PermissionMissing, DiskFull or OperatorError.
        """
        with translating_os_errors(f"creating the directory {path}"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not through a link: whoever got hold of the server's user could aim it at a directory of root's.
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if self.owner is not None:
                    os.fchown(descriptor, *self.owner)
                os.fchmod(descriptor, mode)
            finally:
                os.close(descriptor)

    def obstacle(self, path: Path) -> Path | None:
        """The first parent directory of `path` that the server's user may not enter, or None.

        Looks at owner, group and mode only; run a program to be sure (access lists, mount options).
        """
        for folder in reversed(path.absolute().parents):
            if not self._may_enter(folder):
                return folder
        return None

    def require_reachable(self, path: Path, *, what: str) -> None:
        """Raise PermissionMissing, naming the directory that is in the way, unless `path` can be reached."""
        blocked = self.obstacle(path)
        if blocked is not None:
            raise PermissionMissing(
                f"The user {self.name}, which PostgreSQL runs as, may not enter {blocked} to reach {what}",
                hint=f"Choose another directory, or allow others to pass through it: chmod o+x {blocked}",
            )

    def _may_enter(self, folder: Path) -> bool:
        try:
            found = folder.stat()
        except FileNotFoundError:
            return True
        if self.uid in {0, found.st_uid}:
            return self.uid == 0 or bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid in self.groups:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def clean_environment() -> dict[str, str]:
    """The environment of every server program: none of our PG* variables, locale or secrets travel."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}


def server_identity(*, user: str = DEFAULT_SERVER_USER) -> ServerIdentity:
    """The identity to run servers as: ourselves, or, when we are root, the system user `user`.

    That user is created when it does not exist. Raises OperatorError when it cannot be, or when it is root.
    """
    if os.geteuid() != 0:
        return _ourselves()
    entry = _find_user(user) or _create_user(user)
    if entry.pw_uid == 0:
        raise OperatorError(
            f"PostgreSQL cannot run as {user}, because that is root",
            hint="Name an unprivileged system user.",
        )
    return ServerIdentity(
        name=entry.pw_name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=frozenset({entry.pw_gid}),
        switch=True,
        service_user=pwd.getpwuid(0).pw_name,
    )


def _ourselves() -> ServerIdentity:
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise OperatorError(
            f"The user id {os.geteuid()} has no name on this machine, and PostgreSQL's peer check needs one",
            hint="Add a line for this user id to /etc/passwd, or run as a user that has one.",
        ) from None
    return ServerIdentity(
        name=name,
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=frozenset({os.getegid(), *os.getgroups()}),
        switch=False,
        service_user=name,
    )


def _find_user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _create_user(name: str) -> pwd.struct_passwd:
    complaint = "neither useradd nor adduser is installed"
    for tool, *options in _USER_TOOLS:
        program = shutil.which(tool, path=clean_environment()["PATH"])
        if program is None:
            continue
        made = subprocess.run(
            [program, *options, *_group_option(tool, name), name],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        # Another process may have been quicker: what counts is whether the user is there now.
        if (entry := _find_user(name)) is not None:
            return entry
        complaint = made.stderr.strip() or f"{tool} ended with status {made.returncode}"
    raise OperatorError(
        f"The system user {name}, for PostgreSQL, does not exist and cannot be created: {complaint}",
        hint=f"Create it (useradd --system {name}), or name another unprivileged user in the settings.",
    )


def _group_option(tool: str, name: str) -> list[str]:
    """Join a group of the same name when there is one already; otherwise let the tool decide."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return ["--user-group"] if tool == "useradd" else []
    return ["--gid", name] if tool == "useradd" else ["-G", name]
