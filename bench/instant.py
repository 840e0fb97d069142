"""The first answer of a restored namespace, what it cost, and how the rest arrives: ours against the peers.

Ours runs from the call of RestoreFromSnapshot to the first answer at the workgroup's endpoint; a peer's from its
first command to the first answer of a server that was started on what it brought back.
"""

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from bench.answers import await_answer, restore_until_answer, service_session, started
from bench.contenders import absent_peers, peers
from bench.measure import Stopwatch, settle
from bench.native import CombineBackup
from bench.ours import Service
from bench.pgbackrest import PgBackRest
from bench.results import MISSING, Goal, Section, Series, Table, megabytes, seconds
from bench.warehouse import Source, Warehouse

_OURS = Service.name
_FIRST_SECONDS = 0.6
_PEER_FACTOR = 20
_MOST_FETCHED = 10e6
_LOOKUP_SECONDS = 0.05
_ARRIVAL_FACTORS = {PgBackRest.name: 1.0, CombineBackup.name: 3.0}

Found = dict[str, float]
"""What one restore took, by name: seconds and bytes."""


def run_instant(house: Warehouse, source: Source, *, rounds: int, console: Console) -> Section:
    """Restores until the first answer, the first look-up by key, and until everything has arrived."""
    section = Section(name="Instant restore")
    size = source.bytes
    ours = own_restores(house, source, rounds=rounds, console=console)
    others = dict(_peers(house, source, console))
    section.tables += [_first_answers(size, ours, others), _arrival(size, ours, others)]
    section.goals = [*_goals(ours, others), *_arrival_goals(ours, others)]
    section.raw = {"bytes": size, "ours": ours, "peers": others}
    return section


def own_restores(house: Warehouse, source: Source, *, rounds: int, console: Console) -> list[Found]:
    """Restores of one new snapshot, each into an empty namespace; durations in seconds, sizes in bytes."""
    # More than one section of a run may do this with the same namespace.
    snapshot = f"instant-{uuid.uuid4().hex[:8]}"
    house.snapshot(source.namespace, snapshot)
    return [_ours(house, source, snapshot, number, console) for number in range(rounds)]


def _ours(house: Warehouse, source: Source, snapshot: str, number: int, console: Console) -> Found:
    console.print(f"[dim]restore of {source.namespace}, round {number + 1}[/]")
    target = house.make(f"{snapshot}-{number}")
    watch = restore_until_answer(house, target, snapshot)
    found = {"first": watch.seconds}
    arrival = house.arrival(target)
    found["fetched"] = float(arrival["fetchedBytes"]) if arrival else math.nan
    found["look-up"] = _look_up(house, source, target)
    house.await_arrival(target)
    found["arrived"] = watch.seconds
    house.require_success(target)
    house.remove(target)
    return found


def _look_up(house: Warehouse, source: Source, target: str) -> float:
    """One order by its key in the middle of the largest table, nothing of which anybody has touched."""
    key = "SELECT max(o_orderkey) / 64 * 32 FROM orders"
    with house.connect(source.workgroup) as session:
        wanted = session.execute(key).fetchone()
        assert wanted is not None
        question = f"SELECT count(*), sum(l_quantity) FROM lineitem WHERE l_orderkey = {int(wanted[0])}"
        expected = session.execute(question.encode()).fetchone()
    with house.connect(target) as session:
        watch = Stopwatch()
        found = session.execute(question.encode()).fetchone()
        elapsed = watch.seconds
    assert found == expected, "a look-up found something else"
    return elapsed


def _peers(house: Warehouse, source: Source, console: Console) -> Iterator[tuple[str, Found]]:
    """Each peer's restore, and that with start and first answer, in seconds; once, for they take long."""
    for contender in peers(house, source):
        console.print(f"[dim]instant: {contender.name}[/]")
        contender.prepare_copy()
        contender.copy()
        contender.prepare_return()
        settle(cold=True)
        watch = Stopwatch()
        contender.bring_back()
        restored = watch.seconds
        with started(house, source, contender) as cluster:
            await_answer(lambda cluster=cluster: service_session(cluster))  # type: ignore[misc]
            yield contender.name, {"restored": restored, "first": watch.seconds}
        contender.clean_return()
        contender.close()


def _first_answers(size: int, ours: Sequence[Found], others: Mapping[str, Found]) -> Table:
    own = series_of(ours, "first")
    table = Table(
        title=f"First answer after a restore of {megabytes(size)}, cold",
        columns=["", "median", "least to largest", "runs", "ratio"],
    )
    table.rows.append([_OURS, seconds(own.median), own.spread(), str(len(own.values)), "1.00"])
    for name, found in others.items():
        table.rows.append([name, seconds(found["first"]), "", "1", f"{found['first'] / own.median:.1f}"])
    table.notes = [
        "Ours: from the call of RestoreFromSnapshot until the restored workgroup has answered a query.",
        "A peer's: from its first command until a server on what it brought back has answered.",
        "Ratio: how many times our time was taken.",
        *absent_peers(),
    ]
    return table


def _arrival(size: int, ours: Sequence[Found], others: Mapping[str, Found]) -> Table:
    table = Table(title="What follows the first answer", columns=["", "median", "least to largest"])
    fetched, look_up, arrived = (series_of(ours, name) for name in ("fetched", "look-up", "arrived"))
    low, high = megabytes(min(fetched.values)), megabytes(max(fetched.values))
    table.rows += [
        ["fetched until the first answer", megabytes(fetched.median), f"{low} to {high}"],
        ["first look-up by key in the largest table", seconds(look_up.median), look_up.spread()],
        ["everything there, since the call", seconds(arrived.median), arrived.spread()],
        ["rate of that", f"{size / arrived.median / 1e6:,.0f} MB/s", ""],
        *(
            [f"for comparison, everything by {name}", seconds(one["restored"]), ""]
            for name, one in others.items()
        ),
    ]
    table.notes = [
        "Fetched: what accesses waited for, and catalogs that come unasked.",
    ]
    return table


def _goals(ours: Sequence[Found], others: Mapping[str, Found]) -> list[Goal]:
    first, fetched, look_up = (series_of(ours, name).median for name in ("first", "fetched", "look-up"))
    goals = [
        Goal(
            text=f"first answer at most {_FIRST_SECONDS:g} s after the call",
            found=seconds(first),
            reached=first <= _FIRST_SECONDS,
        ),
        fetched_goal(fetched, until="then"),
        Goal(
            text=f"first look-up by key in a cold table at most {seconds(_LOOKUP_SECONDS)}",
            found=seconds(look_up),
            reached=look_up <= _LOOKUP_SECONDS,
        ),
    ]
    for name, one in others.items():
        text = f"first answer in at most a {_PEER_FACTOR}th of the time of {name}"
        ratio = one["first"] / first
        goals.append(Goal(text=text, found=f"a {ratio:.1f}th", reached=ratio >= _PEER_FACTOR))
    return goals


def fetched_goal(fetched: float, *, until: str) -> Goal:
    """Bytes, and what they were enough for."""
    return Goal(
        text=f"at most {megabytes(_MOST_FETCHED)} fetched until {until}",
        found=megabytes(fetched),
        reached=fetched <= _MOST_FETCHED,
    )


def _arrival_goals(ours: Sequence[Found], others: Mapping[str, Found]) -> list[Goal]:
    arrived = series_of(ours, "arrived").median
    goals = []
    for name, factor in _ARRIVAL_FACTORS.items():
        text = f"everything there at least {factor:g} times as fast as by {name}"
        if name in others:
            ratio = others[name]["restored"] / arrived
            goals.append(Goal(text=text, found=f"{ratio:.2f} times", reached=ratio >= factor))
        else:
            goals.append(Goal(text=text, found=MISSING, reached=None))
    return goals


def series_of(found: Sequence[Found], name: str) -> Series:
    """One thing that was measured of all these restores."""
    return Series(values=tuple(one[name] for one in found))
