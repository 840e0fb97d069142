"""How long one waits: for the service, for a workgroup, for a command."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import Stopwatch, settle
from bench.results import Section, Series, Table, seconds
from bench.warehouse import ADMIN, PASSWORD, Warehouse
from stillframe import Local

_COMMANDS = {
    "python -c pass (for comparison)": ["-c", "pass"],
    "import stillframe": ["-c", "import stillframe"],
    "import stillframe.app": ["-c", "import stillframe.app.composition"],
    "stillframe --version": ["-m", "stillframe", "--version"],
    "stillframe --help": ["-m", "stillframe", "--help"],
}
_POLL_SECONDS = 0.01


def run_startup(house: Warehouse, *, rounds: int) -> Section:
    """Starts of a service beside the one that runs, workgroups in that one, and short commands."""
    section = Section(name="Starting")
    table = Table(title="Starting", columns=["", "median", "least to largest", "runs"])
    found: dict[str, list[float]] = {
        "service ready, empty directory": [_first_start(house.root, n) for n in range(rounds)],
        "service ready, existing directory": [_next_start(house.root, n) for n in range(rounds)],
        "CreateNamespace and CreateWorkgroup until AVAILABLE": [_workgroup(house, n) for n in range(rounds)],
    }
    for name, arguments in _COMMANDS.items():
        found[name] = _repeated(lambda arguments=arguments: _command(arguments), rounds * 2)  # type: ignore[misc]
    for name, values in found.items():
        series = Series(values=tuple(values))
        low, high = seconds(min(values)), seconds(max(values))
        table.rows.append([name, seconds(series.median), f"{low} to {high}", str(len(values))])
    table.notes.append("“Ready” is seen by the caller of `stillframe.Local`, which starts the process.")
    section.tables.append(table)
    section.raw = dict(found)
    return section


def _first_start(root: Path, number: int) -> float:
    return _start(root / f"start-{number}")


def _next_start(root: Path, number: int) -> float:
    return _start(root / f"start-{number}")


def _start(data: Path) -> float:
    settle(cold=False)
    watch = Stopwatch()
    with Local(data):
        return watch.seconds


def _workgroup(house: Warehouse, number: int) -> float:
    name = f"start-{number}"
    settle(cold=False)
    watch = Stopwatch()
    house.client.create_namespace(namespaceName=name, adminUsername=ADMIN, adminUserPassword=PASSWORD)
    house.client.create_workgroup(workgroupName=name, namespaceName=name)
    while house.client.get_workgroup(workgroupName=name)["workgroup"]["status"] != "AVAILABLE":
        time.sleep(_POLL_SECONDS)
    elapsed = watch.seconds
    house.remove(name)
    return elapsed


def _repeated(work: Callable[[], float], times: int) -> list[float]:
    work()
    return [work() for _ in range(times)]


def _command(arguments: list[str]) -> float:
    watch = Stopwatch()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return watch.seconds
