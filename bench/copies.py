"""Full snapshots and full restores: ours against the peers, interleaved."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from bench.archives import Restic
from bench.contenders import Contender, absent_peers, closing_all, contenders
from bench.measure import PeakMemory, Stopwatch, can_drop_caches, settle
from bench.native import PlainBaseBackup
from bench.ours import Engine, Service
from bench.pgbackrest import PgBackRest
from bench.results import MISSING, Goal, Section, Series, Table, mebibytes, megabytes, seconds
from bench.warehouse import Source, Warehouse

_MEMORY_LIMIT = 512 * 2**20
_SNAPSHOT_FACTORS = {PlainBaseBackup.name: 1.5, PgBackRest.name: 1.2}
_RESTORES = (Restic.name, PgBackRest.name)


@dataclass(slots=True)
class _Times:
    """Measurements by contender and state of the page cache."""

    copies: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    returns: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    stored: dict[str, int] = field(default_factory=dict)
    peaks: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How often everything is measured, after one round that does not count."""

    warm: int = 3
    cold: int = 2


def run_copies(house: Warehouse, source: Source, rounds: Rounds, console: Console) -> Section:
    """Every contender in turn, round after round; then tables, ratios and goals."""
    everybody = contenders(house, source)
    times = _Times()
    plan = [("warm-up", 0), *(("warm", n) for n in range(rounds.warm))]
    plan += [("cold", n) for n in range(rounds.cold if can_drop_caches() else 0)]
    with closing_all(everybody):
        for state, number in plan:
            console.print(f"[dim]copies: {state} round {number + 1}[/]")
            for contender in everybody:
                if _takes_part(contender, state, number):
                    _one_turn(contender, state, times, house)
    return _section(house, source, everybody, times)


def _takes_part(contender: Contender, state: str, number: int) -> bool:
    """The slow ones are not warmed up; the slowest are measured once, with warm caches."""
    allowed = {"warm-up": contender.rounds > 2, "warm": True, "cold": contender.rounds > 1}
    return number < contender.rounds and allowed[state]


def _one_turn(contender: Contender, state: str, times: _Times, house: Warehouse) -> None:
    contender.prepare_copy()
    key = (contender.name, state)
    times.copies[key].append(_timed(contender, contender.copy, state, times.peaks["snapshot"], house))
    times.stored[contender.name] = contender.stored()
    contender.prepare_return()
    times.returns[key].append(_timed(contender, contender.bring_back, state, times.peaks["restore"], house))
    contender.clean_return()


def _timed(
    contender: Contender, work: Callable[[], None], state: str, peaks: list[int], house: Warehouse
) -> float:
    settle(cold=state == "cold")
    if not isinstance(contender, Service):
        watch = Stopwatch()
        work()
        return watch.seconds
    peak = PeakMemory()
    with peak.of(house.worker_pid):
        watch = Stopwatch()
        work()
        elapsed = watch.seconds
    if peak.bytes is not None:
        peaks.append(peak.bytes)
    return elapsed


def _section(house: Warehouse, source: Source, everybody: Sequence[Contender], times: _Times) -> Section:
    names = [contender.name for contender in everybody]
    section = Section(name="Full snapshot and full restore")
    size = f"TPC-H scale factor {source.scale:g}, {megabytes(source.bytes)} of data files"
    section.tables.append(
        _table(f"Full snapshot of {size}", names, times.copies, size=source.bytes, times=times)
    )
    section.tables.append(_table(f"Full restore of {size}", names, times.returns, size=source.bytes))
    section.tables[0].notes += [f"{one.name}: {one.guarantees}." for one in everybody]
    section.tables[1].notes += [
        "Everything is durable at the end. Where a program syncs nothing, our code does, within its time.",
        "Only Stillframe by boto3 also starts the server, recovers it and waits until clients can connect.",
    ]
    section.tables[0].notes += absent_peers()
    section.tables.append(_memory_table(source, times))
    section.goals = [*_speed_goals(times), *_memory_goals(source, times)]
    section.raw = {
        "data_bytes": source.bytes,
        "snapshot_seconds": _flat(times.copies),
        "restore_seconds": _flat(times.returns),
        "stored_bytes": times.stored,
        "worker_peak_bytes": dict(times.peaks),
        "copy_threads": house.local.settings.copy_threads,
    }
    return section


def _table(
    title: str,
    names: Sequence[str],
    found: dict[tuple[str, str], list[float]],
    *,
    size: int,
    times: _Times | None = None,
) -> Table:
    columns = ["", "warm, median", "least to largest", "runs", "rate", "ratio", "cold, median", "ratio"]
    table = Table(title=title, columns=[*columns, "stored"] if times else columns)
    own = {state: _median(found, (names[0], state)) for state in ("warm", "cold")}
    for name in names:
        values = found.get((name, "warm"), [])
        row = [
            name,
            *_cells(values),
            _rate(size, values),
            _ratio(own["warm"], _median(found, (name, "warm"))),
        ]
        cold = _median(found, (name, "cold"))
        row += [seconds(cold) if cold else MISSING, _ratio(own["cold"], cold)]
        table.rows.append([*row, megabytes(times.stored[name])] if times else row)
    table.notes.append(
        f"Ratio: how many times the time of “{names[0]}” was taken; above 1 is slower than ours."
    )
    return table


def _cells(values: Sequence[float]) -> list[str]:
    if not values:
        return [MISSING, MISSING, "0"]
    series = Series(values=tuple(values))
    return [seconds(series.median), f"{series.spread()} s", str(len(values))]


def _rate(size: int, values: Sequence[float]) -> str:
    return f"{size / 1e6 / Series(values=tuple(values)).median:,.0f} MB/s" if values else MISSING


def _median(found: dict[tuple[str, str], list[float]], key: tuple[str, str]) -> float | None:
    values = found.get(key)
    return Series(values=tuple(values)).median if values else None


def _ratio(own: float | None, other: float | None) -> str:
    return f"{other / own:.2f}" if own and other else MISSING


def _speed_goals(times: _Times) -> list[Goal]:
    goals = []
    for name in (Service.name, Engine.name):
        copy, back = _median(times.copies, (name, "warm")), _median(times.returns, (name, "warm"))
        goals += [
            _goal(
                f"{name}: full snapshot at least {factor:g} times as fast as {peer}",
                copy,
                _median(times.copies, (peer, "warm")),
                factor,
            )
            for peer, factor in _SNAPSHOT_FACTORS.items()
        ]
        goals += [
            _goal(
                f"{name}: full restore at least as fast as {peer}",
                back,
                _median(times.returns, (peer, "warm")),
                1.0,
            )
            for peer in _RESTORES
        ]
    return goals


def _goal(text: str, own: float | None, peer: float | None, factor: float) -> Goal:
    if own is None or peer is None:
        return Goal(text=text, found=MISSING, reached=None)
    return Goal(text=text, found=f"{peer / own:.2f} times", reached=peer / own >= factor)


def _memory_table(source: Source, times: _Times) -> Table:
    table = Table(
        title=f"Peak memory of the worker process, scale factor {source.scale:g}",
        columns=["", "largest", "runs"],
    )
    for kind, values in times.peaks.items():
        table.rows.append([kind, mebibytes(max(values)) if values else MISSING, str(len(values))])
    table.notes.append("Resident memory at its highest (VmHWM), with the interpreter and all libraries.")
    return table


def _memory_goals(source: Source, times: _Times) -> list[Goal]:
    scale = f"scale factor {source.scale:g}"
    return [
        _memory_goal(f"worker's memory during a {kind}, {scale},", max(values, default=None))
        for kind, values in times.peaks.items()
    ]


def _memory_goal(what: str, peak: int | None) -> Goal:
    """Whether a peak in bytes stays within what any snapshot or restore may take."""
    text = f"{what} at most {mebibytes(_MEMORY_LIMIT)}"
    if peak is None:
        return Goal(text=text, found=MISSING, reached=None)
    return Goal(text=text, found=mebibytes(peak), reached=peak <= _MEMORY_LIMIT)


def _flat(found: dict[tuple[str, str], list[float]]) -> dict[str, list[float]]:
    return {f"{name}, {state}": values for (name, state), values in found.items()}


def run_memory(house: Warehouse, source: Source) -> Section:
    """The worker's peak memory for another size: it must not grow with the data."""
    section = Section(name=f"Memory, scale factor {source.scale:g}")
    times, service = _Times(), Service(house, source)
    _one_turn(service, "warm", times, house)
    section.tables.append(_memory_table(source, times))
    section.goals = _memory_goals(source, times)
    section.raw = {"worker_peak_bytes": dict(times.peaks), "data_bytes": source.bytes}
    return section
