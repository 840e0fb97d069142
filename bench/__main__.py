"""`python -m bench`: the whole benchmark, or parts of it."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from bench.api import run_api
from bench.backing import kept_memory
from bench.busy import run_busy
from bench.changes import run_changes
from bench.copies import Rounds, run_copies, run_memory
from bench.glimpses import run_glimpses
from bench.growth import RELATIONS, add_relations, run_growth
from bench.history import run_history
from bench.instant import run_instant
from bench.machine import describe_machine, describe_versions
from bench.measure import Stopwatch
from bench.relay import run_relay
from bench.report import Report, show, write_json, write_markdown
from bench.results import Section
from bench.sizes import run_sizes
from bench.startup import run_startup
from bench.warehouse import Source, Warehouse, warehouse
from bench.workspace import workspace

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
_REMARKS = Path(__file__).with_name("remarks.md")
_LEAST_SCALE = 0.01
_ALWAYS = (
    "instant", "glimpses", "changes", "copies", "history", "growth", "busy", "memory", "api", "relay", "startup",
)  # fmt: skip
"""First answers first: where the peers' tens of gigabytes have just been removed, the disk has other things to do."""
_SECTIONS = (*_ALWAYS, "sizes")

app = App(name="bench", help=__doc__, result_action="return_value")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    scale: float = 1.0
    """TPC-H scale factor of the main data; 1 is about 1.7 GB on disk, and the run takes up to 20 GB."""
    large: float = 12.0
    """TPC-H scale factor of the largest data; 12 is about 20 GB on disk. For the section `sizes`, which takes 60 GB."""
    only: str = ",".join(_ALWAYS)
    """Sections in their order, with commas between them; `sizes` is run only when it is named."""
    rounds: int = 3
    """How often everything is measured with warm caches, after one round that does not count."""
    cold_rounds: int = 2
    """How often with cold caches, which needs root."""
    duration: float = 5.0
    """Seconds of every measurement of the API and of the endpoint."""
    json: Annotated[Path | None, Parameter(name="--json")] = None
    """Write every single measurement to this file."""
    record: bool = False
    """Write docs/benchmarks.md."""
    note: str = ""
    """A sentence about the circumstances, for the page and the terminal."""
    keep_memory: bool = True
    """Keep a virtual machine's free memory from its host meanwhile, which needs root."""
    directory: Path | None = None
    """Where to make the temporary directory: on a disk with room, and not in memory."""

    @property
    def sections(self) -> list[str]:
        """The chosen ones, each once. Raises SystemExit for a name that is none."""
        chosen = list(dict.fromkeys(name.strip() for name in self.only.split(",") if name.strip()))
        unknown = sorted(set(chosen) - set(_SECTIONS))
        if unknown:
            raise SystemExit(f"Unknown sections: {', '.join(unknown)}. There are {', '.join(_SECTIONS)}.")
        return chosen


@app.default
def bench(options: Options = Options()) -> int:
    """Measure Stillframe and its peers side by side, and print tables, ratios and goals."""
    # Tables need room; where nobody sees a window's width, they get it.
    console = Console(width=None if sys.stdout.isatty() else 150)
    started_at = datetime.now(UTC)
    chosen = options.sections
    with kept_memory(wanted=options.keep_memory) as memory, workspace(options.directory) as root:
        machine = describe_machine(root) | {"free memory": memory}
        with warehouse(root) as house:
            sections = list(_sections(house, options, chosen, console))
            versions = describe_versions(house.machine.installation.build)
    report = Report(
        command=" ".join(["python -m bench", *_arguments(options)]),
        note=options.note,
        started_at=started_at,
        machine=machine,
        versions=versions,
        sections=sections,
    )
    show(report, console)
    if options.json is not None:
        write_json(report, options.json)
    if options.record:
        write_markdown(report, _PAGE, comment=_REMARKS)
    return 0


class _Data:
    """The data of a run, loaded when a section first asks for it."""

    def __init__(self, house: Warehouse, options: Options, console: Console) -> None:
        self._house = house
        self._scale = options.scale
        self._largest = options.large
        self._console = console

    @cached_property
    def big(self) -> Source:
        """At the chosen scale factor."""
        return self._load("big", self._scale)

    @cached_property
    def small(self) -> Source:
        """A tenth of it, but no less than the generator can keep its keys unique at."""
        return self._load("small", max(self._scale / 10, _LEAST_SCALE))

    @cached_property
    def large(self) -> Source:
        """The largest."""
        return self._load("large", self._largest)

    @cached_property
    def many(self) -> Source:
        """As small, with very many tables more."""
        source = self._load("many", max(self._scale / 10, _LEAST_SCALE))
        self._console.print(f"[dim]making {RELATIONS:,} tables[/]")
        add_relations(self._house, source, RELATIONS)
        return source

    def _load(self, name: str, scale: float) -> Source:
        self._console.print(f"[dim]loading TPC-H, scale factor {scale:g}[/]")
        return self._house.load(name, scale=scale)


def _sections(house: Warehouse, options: Options, chosen: list[str], console: Console) -> Iterator[Section]:
    data = _Data(house, options, console)
    rounds = Rounds(warm=options.rounds, cold=options.cold_rounds)
    work: dict[str, Callable[[], Section]] = {
        "copies": lambda: run_copies(house, data.big, rounds, console),
        "changes": lambda: run_changes(house, data.big, rounds=options.rounds, console=console),
        "history": lambda: run_history(house, data.big, console=console),
        "instant": lambda: run_instant(house, data.big, rounds=options.rounds, console=console),
        "glimpses": lambda: run_glimpses(house, data.big, rounds=options.rounds, console=console),
        "growth": lambda: run_growth(
            house, data.small, data.big, data.many, rounds=options.rounds, console=console
        ),
        "busy": lambda: run_busy(house, data.small, rounds=options.rounds, console=console),
        "memory": lambda: run_memory(house, data.small),
        "api": lambda: run_api(house, data.big, duration=options.duration),
        "relay": lambda: run_relay(house, data.small, rounds=options.rounds, duration=options.duration),
        "startup": lambda: run_startup(house, rounds=max(options.rounds, 2)),
        "sizes": lambda: run_sizes(house, data.big, data.large, rounds=options.rounds, console=console),
    }
    for name in chosen:
        console.print(f"[bold]{name}[/]")
        watch = Stopwatch()
        section = work[name]()
        section.raw["section_seconds"] = watch.seconds
        console.print(f"[dim]{name} took {watch.seconds:.0f} s[/]")
        yield section


def _arguments(options: Options) -> list[str]:
    """The command line without what says where files are, and without the note."""
    left_out = {"--json", "--directory", "--note", str(options.json), str(options.directory), options.note}
    given = [one for one in sys.argv[1:] if one not in left_out]
    return [one for one in given if not one.startswith(("--json=", "--directory=", "--note="))]


if __name__ == "__main__":
    sys.exit(app())
