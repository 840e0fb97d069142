"""Who may administer the system: hydrators, which need that right for fanotify, and nobody else of the service.

Linux keeps rights (capabilities(7)) by thread, and gives them to the threads and programs that it starts; all of
this is for a process that has one thread, or for the thread that starts the others.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_SYS_ADMIN: Final = 21
"""CAP_SYS_ADMIN of linux/capability.h."""

_VERSION: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: every set in two words of 32 bits."""

_PR_CAP_AMBIENT, _AMBIENT_RAISE, _AMBIENT_LOWER = 47, 2, 3
_SETS: Final = 3
_WORD, _BIT = divmod(_SYS_ADMIN, 32)


class _Rights:
    """The three sets of this thread: effective, permitted, inheritable."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._header = (ctypes.c_uint32 * 2)(_VERSION, 0)
        self._sets = (ctypes.c_uint32 * (2 * _SETS))()
        self._call("capget", self._header, self._sets)

    @property
    def permitted(self) -> bool:
        """Whether this thread has the right, or may take it again."""
        return bool(self._sets[_WORD * _SETS + 1] & 1 << _BIT)

    def become(self, *, effective: bool, permitted: bool, inheritable: bool) -> None:
        for number, wanted in enumerate((effective, permitted, inheritable)):
            others = self._sets[_WORD * _SETS + number] & ~(1 << _BIT)
            self._sets[_WORD * _SETS + number] = others | wanted << _BIT
        self._call("capset", self._header, self._sets)

    def ambient(self, change: int) -> None:
        self._call("prctl", _PR_CAP_AMBIENT, *map(ctypes.c_ulong, (change, _SYS_ADMIN, 0, 0)))

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._libc, name)(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


@contextmanager
def _where_rights_change() -> Iterator[None]:
    """In a sandbox that refuses it, they stay as they are: whoever made it has decided what may be done there."""
    with suppress(PermissionError):
        yield


def rest_administration() -> None:
    """Do without the right, and start programs without it, but keep it for those who need it. For the service."""
    _hold(effective=False)


def take_up_administration() -> None:
    """Use the right that was rested, or came from whoever started this program, but do not hand it to programs."""
    _hold(effective=True)


def give_up_administration() -> None:
    """From now on neither this process nor what it starts administers the system. For the worker.

    A program that root starts has all rights again, whatever its parent gave up.
    """
    if sys.platform == "linux":
        with _where_rights_change():
            _Rights().become(effective=False, permitted=False, inheritable=False)


@contextmanager
def handing_down_administration() -> Iterator[None]:
    """A program that this thread starts in the block gets the right that is rested. Root's programs get it anyway."""
    rights = _Rights() if sys.platform == "linux" else None
    if rights is None or not rights.permitted:
        yield
        return
    with _where_rights_change():
        rights.ambient(_AMBIENT_RAISE)
    try:
        yield
    finally:
        with _where_rights_change():
            rights.ambient(_AMBIENT_LOWER)


def _hold(*, effective: bool) -> None:
    if sys.platform == "linux":
        rights = _Rights()
        if rights.permitted:
            with _where_rights_change():
                rights.ambient(_AMBIENT_LOWER)
                rights.become(effective=effective, permitted=True, inheritable=True)
