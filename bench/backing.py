"""What a virtual machine's memory rests on: its host may take back what is free, and gives it again only page by page.

The first use of such memory is several times as slow as that of memory which is still there. Who runs right after
something else has ended finds some that was not taken back yet, and looks faster for it. For the length of a run the
machine keeps what it has, therefore, and gets all of it beforehand: then everybody finds the same, as on a machine of
its own.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bench.measure import Stopwatch

_DEVICES: Final = Path("/sys/bus/virtio/devices")
_BALLOON: Final = 5
_REPORTING: Final = 5
"""Device and feature of a balloon that reports free pages (virtio 1.2, 5.5)."""
_ORDER: Final = Path("/sys/module/page_reporting/parameters/page_reporting_order")
_NOTHING_FREE: Final = ("11", "10")
"""Orders that hardly a free stretch has; which is the largest allowed depends on the kernel."""
_AT_ONCE: Final = 256 << 20
_LEFT: Final = 2 << 30
"""Bytes that are left to everybody else while the rest is asked for."""


@contextmanager
def kept_memory(*, wanted: bool) -> Iterator[str]:
    """Keep free memory from the host during the block, if `wanted` and possible; a few words on how it is with that."""
    if not _is_given_back():
        yield "stays with the machine"
    elif not wanted or (before := _raise_order()) is None:
        yield "given back to the host, slow at first use"
    else:
        try:
            slow, fast = _use_all(), _use_all()
            yield f"kept from the host ({slow / 1e6:,.0f} MB/s at first use, {fast / 1e6:,.0f} MB/s from then on)"
        finally:
            _ORDER.write_text(before)


def _is_given_back() -> bool:
    for device in sorted(_DEVICES.glob("*")):
        with suppress(OSError):
            kind = int((device / "device").read_text(), 16)
            if kind == _BALLOON and (device / "features").read_text()[_REPORTING] == "1":
                return True
    return False


def _raise_order() -> str | None:
    """What the order was before; None when it cannot be changed."""
    if os.access(_ORDER, os.W_OK):
        before = _ORDER.read_text().strip()
        for order in _NOTHING_FREE:
            with suppress(OSError):
                _ORDER.write_text(order)
                return before
    return None


def _use_all() -> float:
    """Touch every page that is free and let go of it again, in bytes a second."""
    left = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE - _LEFT
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    watch = Stopwatch()
    held = [mmap.mmap(-1, _AT_ONCE, flags=flags) for _ in range(max(1, left // _AT_ONCE))]
    elapsed = watch.seconds
    for one in held:
        one.close()
    return len(held) * _AT_ONCE / elapsed
