"""The next snapshot: with nothing changed, with one row changed, with pages changed all over; ours and the peers."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from bench.contenders import Incremental, absent_peers, closing_all, incremental_contenders
from bench.dirt import PAGE_SIZE, Scatter, change_one_row
from bench.measure import Stopwatch, settle
from bench.native import IncrementalBaseBackup
from bench.ours import Engine, Service
from bench.pgbackrest import PgBackRest
from bench.results import MISSING, Goal, Section, Series, Table, megabytes, seconds, size_of
from bench.warehouse import Source, Warehouse

_NOTHING, _ROW, _SCATTERED = "nothing", "one row", "scattered pages"
_SCATTERED_BYTES = 130e6
_MOST_SHARE = 0.2
_ROW_SECONDS = 0.080
_ROW_FACTOR = 4
_ROW_BYTES = 100e3
_SCATTERED_FACTOR = 4
_SLOW_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """One next copy: seconds, and the bytes it added."""

    seconds: float
    stored: int


_Found = Mapping[tuple[str, str], Sequence[_Taken]]
"""By contender and change."""


def run_changes(house: Warehouse, source: Source, *, rounds: int, console: Console) -> Section:
    """Everybody takes a full copy; then everybody in turn the next one after each change."""
    everybody = incremental_contenders(house, source)
    changes = _changes(house, source, rounds=rounds)
    found: dict[tuple[str, str], list[_Taken]] = defaultdict(list)
    with closing_all(everybody):
        for contender in everybody:
            console.print(f"[dim]changes: full copy by {contender.name}[/]")
            contender.prepare_copy()
            contender.copy()
        for what, number, change in changes:
            console.print(f"[dim]changes: {what}, round {number + 1}[/]")
            change()
            for contender in everybody:
                if number < max(_SLOW_ROUNDS, contender.rounds):
                    found[contender.name, what].append(_next_copy(contender))
    return _section(source, found)


def _changes(
    house: Warehouse, source: Source, *, rounds: int
) -> Iterator[tuple[str, int, Callable[[], None]]]:
    yield _NOTHING, 0, lambda: None
    for number in range(max(rounds, _SLOW_ROUNDS) + 2):
        yield _ROW, number, lambda: change_one_row(house, source)
    scatter = Scatter(house, source)
    yield _SCATTERED, 0, lambda: scatter.change(_scattered_pages(source))


def _scattered_pages(source: Source) -> int:
    """The pages of 130 MB, or a fifth of a namespace in which that would be nearly everything."""
    return int(min(_SCATTERED_BYTES, source.bytes * _MOST_SHARE) / PAGE_SIZE)


def _next_copy(contender: Incremental) -> _Taken:
    contender.prepare_next()
    settle(cold=False)
    watch = Stopwatch()
    contender.copy_next()
    return _Taken(seconds=watch.seconds, stored=contender.stored())


def _section(source: Source, found: _Found) -> Section:
    section = Section(name="The next snapshot")
    changed = megabytes(_scattered_pages(source) * PAGE_SIZE)
    titles = {
        _NOTHING: "nothing changed",
        _ROW: "one changed row",
        _SCATTERED: f"{changed} of scattered pages changed",
    }
    for what, title in titles.items():
        section.tables.append(_table(f"The next snapshot of {megabytes(source.bytes)}: {title}", what, found))
    section.tables[0].notes = [
        "The copies of pg_basebackup --incremental and of barman need those before, put together, to be restored.",
        "A snapshot of ours, of restic and of borg is complete by itself.",
        "barman's time and size are with the WAL archive that it needs.",
        *absent_peers(),
    ]
    section.goals = _goals(found)
    section.raw = {
        "data_bytes": source.bytes,
        "scattered_pages": _scattered_pages(source),
        **{
            f"{name}, {what}": [[one.seconds, one.stored] for one in values]
            for (name, what), values in found.items()
        },
    }
    return section


def _table(title: str, what: str, found: _Found) -> Table:
    table = Table(title=title, columns=["", "median", "least to largest", "runs", "ratio", "stored"])
    own = _time(found, Service.name, what)
    for (name, change), values in found.items():
        if change == what:
            series = Series(values=tuple(one.seconds for one in values))
            stored = Series(values=tuple(float(one.stored) for one in values)).median
            ratio = f"{series.median / own:.2f}" if own else MISSING
            row = [name, seconds(series.median), f"{series.spread()} s", str(len(values)), ratio]
            table.rows.append([*row, size_of(stored)])
    return table


def _goals(found: _Found) -> list[Goal]:
    goals = []
    for name in (Service.name, Engine.name):
        time = _time(found, name, _ROW)
        stored = max((one.stored for one in found[name, _ROW]), default=0)
        goals += [
            Goal(
                text=f"{name}: one changed row in at most {seconds(_ROW_SECONDS)}",
                found=seconds(time),
                reached=time <= _ROW_SECONDS,
            ),
            _times_as_fast(found, name, IncrementalBaseBackup.name, _ROW, _ROW_FACTOR),
            Goal(
                text=f"{name}: at most {size_of(_ROW_BYTES)} stored for it, WAL included",
                found=size_of(stored),
                reached=stored <= _ROW_BYTES,
            ),
        ]
    return [*goals, _times_as_fast(found, Service.name, PgBackRest.name, _SCATTERED, _SCATTERED_FACTOR)]


def _times_as_fast(found: _Found, own: str, other: str, what: str, factor: float) -> Goal:
    text = f"{own}: {what}, at least {factor:g} times as fast as {other}"
    if (other, what) not in found:
        return Goal(text=text, found=MISSING, reached=None)
    ratio = _time(found, other, what) / _time(found, own, what)
    return Goal(text=text, found=f"{ratio:.1f} times", reached=ratio >= factor)


def _time(found: _Found, name: str, what: str) -> float:
    return Series(values=tuple(one.seconds for one in found[name, what])).median
