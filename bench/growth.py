"""What a snapshot of one changed row costs when the namespace is ten times larger, or has 100,000 tables."""

from pathlib import Path

from rich.console import Console

from bench.contenders import Incremental, closing_all
from bench.dirt import change_one_row
from bench.measure import Stopwatch, settle
from bench.native import IncrementalBaseBackup
from bench.ours import Engine, Service
from bench.results import Goal, Section, Series, Table, megabytes, seconds
from bench.warehouse import Source, Warehouse

RELATIONS = 100_000
_BATCH = 1_000
_MORE_ROUNDS = 2
_LARGER_FACTOR = 1.2
_RELATIONS_FACTOR = 2.0
_MEASURED = (Service, Engine)


def add_relations(house: Warehouse, source: Source, count: int) -> None:
    """Empty tables without indexes, made without waiting for the disk, which has them all at the end."""
    _set_fsync(house, source, on=False)
    with house.connect(source.workgroup) as session:
        for first in range(0, count, _BATCH):
            last = min(first + _BATCH, count) - 1
            session.execute(
                f"DO $$ BEGIN FOR n IN {first}..{last} LOOP "
                "EXECUTE 'CREATE TABLE small_' || n || ' (a int)'; END LOOP; END $$"
            )
        session.execute("VACUUM (FREEZE, ANALYZE) pg_class, pg_attribute, pg_type, pg_depend")
    settle(cold=False)
    _set_fsync(house, source, on=True)


def run_growth(
    house: Warehouse, small: Source, big: Source, many: Source, *, rounds: int, console: Console
) -> Section:
    """One changed row in each of the three, by the same contenders in turns."""
    section = Section(name="Growth")
    places = {
        f"{megabytes(small.bytes)}": small,
        f"{megabytes(big.bytes)}": big,
        f"{megabytes(many.bytes)}, {RELATIONS:,} more tables": many,
    }
    found = {name: _measure(house, place, rounds + _MORE_ROUNDS, console) for name, place in places.items()}
    table = Table(title="One changed row, by what else is there", columns=["", *places])
    for contender in found[next(iter(places))]:
        medians = [Series(values=tuple(found[place][contender])).median for place in places]
        table.rows.append([contender, *(f"{seconds(one)} ({one / medians[0]:.2f})" for one in medians)])
    table.notes = ["In parentheses: how many times the time in the first column."]
    section.tables.append(table)
    section.goals = _goals(*found.values())
    section.raw = dict(found)
    return section


def _measure(house: Warehouse, source: Source, rounds: int, console: Console) -> dict[str, list[float]]:
    """Seconds by contender for each changed row; ours after one that does not count."""
    everybody: list[Incremental] = [kind(house, source) for kind in _MEASURED]
    everybody.append(IncrementalBaseBackup(house, source))
    found: dict[str, list[float]] = {one.name: [] for one in everybody}
    with closing_all(everybody):
        for one in everybody:
            console.print(f"[dim]growth: {source.namespace}, {one.name}[/]")
            one.prepare_copy()
            one.copy()
            if isinstance(one, _MEASURED):
                _one_row(house, source, one)
            for _ in range(rounds if isinstance(one, _MEASURED) else 1):
                found[one.name].append(_one_row(house, source, one))
    return found


def _one_row(house: Warehouse, source: Source, contender: Incremental) -> float:
    change_one_row(house, source)
    contender.prepare_next()
    settle(cold=False)
    watch = Stopwatch()
    contender.copy_next()
    return watch.seconds


def _goals(*found: dict[str, list[float]]) -> list[Goal]:
    small, big, many = found
    goals = []
    for kind in _MEASURED:
        own, larger, crowded = (Series(values=tuple(one[kind.name])).median for one in (small, big, many))
        goals += [
            _goal(f"{kind.name}: one changed row, ten times the data", larger / own, _LARGER_FACTOR),
            _goal(
                f"{kind.name}: one changed row, {RELATIONS:,} more tables", crowded / own, _RELATIONS_FACTOR
            ),
        ]
    return goals


def _goal(what: str, ratio: float, limit: float) -> Goal:
    text = f"{what}: at most {limit:g} times the time"
    return Goal(text=text, found=f"{ratio:.2f} times", reached=ratio <= limit)


def _set_fsync(house: Warehouse, source: Source, *, on: bool) -> None:
    """Whether the server waits for the disk: only while data is made, never while something is measured."""
    settings: Path = source.cluster.data_directory / "stillframe.conf"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("fsync ")]
    settings.write_text("\n".join([*lines, f"fsync = {'on' if on else 'off'}"]) + "\n")
    with house.service_connection(source) as session:
        session.execute("CHECKPOINT")
        session.execute("SELECT pg_reload_conf()")
