"""Checks of the machine itself: interpreter, memory, limits, clock."""

import os
import platform
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from stillframe.cli.doctor.finding import Finding, fail, ok, warn
from stillframe.cli.output import human_bytes

_WANTED_FILES, _NEEDED_FILES = 4096, 1024
_WANTED_SHM = 256 * 1000**2
_WANTED_MEMORY = 1000**3
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
_TOLERATED_SKEW = 2.0


def check_python() -> Finding:
    """The interpreter's version and word size."""
    fact = f"{platform.python_version()}, {platform.machine()}"
    if sys.version_info < (3, 11) or sys.maxsize <= 2**32:
        return fail("Python", fact, "Use a 64-bit Python 3.11 or newer.")
    return ok("Python", fact)


def check_memory() -> Finding:
    """Physical memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total < _WANTED_MEMORY:
        return warn("Memory", human_bytes(total), "Every workgroup runs a server of its own; 1 GB is little.")
    return ok("Memory", f"{human_bytes(total)}, {os.cpu_count()} processors")


def check_shared_memory(directory: Path = Path("/dev/shm")) -> Finding:  # noqa: S108 - the POSIX place
    """POSIX shared memory, which PostgreSQL's parallel queries live in."""
    try:
        status = os.statvfs(directory)
    except OSError as error:
        return fail("Shared memory", f"{directory}: {error.strerror}", f"Mount a tmpfs on {directory}.")
    free = status.f_bavail * status.f_frsize
    if free < _WANTED_SHM:
        advice = "Parallel queries may fail. Enlarge it (containers: --shm-size=1g)."
        return warn("Shared memory", f"{human_bytes(free)} free in {directory}", advice)
    return ok("Shared memory", f"{human_bytes(free)} free in {directory}")


def check_open_files() -> Finding:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = soft if hard == resource.RLIM_INFINITY else max(soft, hard)
    if most < _NEEDED_FILES:
        return fail("Open files", f"at most {most}", f"Raise the limit: ulimit -n {_WANTED_FILES}")
    if soft < _WANTED_FILES:
        fact = f"{soft} at most, can be raised to {most}"
        return warn("Open files", fact, f"Thousands of connections need more: ulimit -n {_WANTED_FILES}")
    return ok("Open files", f"{soft} at most")


def check_clock(directory: Path) -> Finding:
    """That the clock shows a possible time, runs evenly, and agrees with the file system's."""
    now = datetime.now(UTC)
    if now < _EARLIEST:
        return fail(
            "Clock", f"it says {now:%Y-%m-%d %H:%M} UTC", "Set the clock: signatures would be refused."
        )
    skew, drift = file_system_skew(directory), measure_drift()
    if skew is not None and abs(skew) > _TOLERATED_SKEW:
        advice = "Synchronise the clocks of this machine and of its file server."
        return warn("Clock", f"the file system's clock is {skew:+.1f} s away", advice)
    if abs(drift) > 0.02:
        advice = "Something is changing the clock at this moment; let it settle."
        return warn("Clock", f"it moved by {drift * 1000:+.0f} ms in 50 ms", advice)
    return ok("Clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, running evenly, agrees with the file system")


def file_system_skew(directory: Path) -> float | None:
    """Seconds by which a new file's time stamp is off our clock; None where no file can be made."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".stillframe-doctor-") as file:
            file.write(b"x")
            file.flush()
            return Path(file.name).stat().st_mtime - time.time()
    except OSError:
        return None


def measure_drift(seconds: float = 0.05) -> float:
    """By how many seconds the wall clock and the steady clock disagree about a short wait."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(seconds)
    return (time.time() - wall) - (time.monotonic() - steady)
