"""The first answer of a restored namespace by its size: what a restore costs before the data has come."""

from rich.console import Console

from bench.instant import fetched_goal, own_restores, series_of
from bench.results import Goal, Section, Table, megabytes, seconds
from bench.warehouse import Source, Warehouse

_FACTOR = 1.3
_ROWS = {
    "first answer": "first",
    "first look-up by key in the largest table": "look-up",
    "everything there": "arrived",
}


def run_sizes(house: Warehouse, source: Source, large: Source, *, rounds: int, console: Console) -> Section:
    """Cold restores of both, each as often."""
    found = [own_restores(house, one, rounds=rounds, console=console) for one in (source, large)]
    sizes = [megabytes(one.bytes) for one in (source, large)]
    table = Table(title="Restores by size, cold", columns=["", *sizes, "ratio"])
    for what, name in _ROWS.items():
        small, big = (series_of(one, name) for one in found)
        cells = [f"{seconds(one.median)} ({one.spread()})" for one in (small, big)]
        table.rows.append([what, *cells, f"{big.median / small.median:.2f}"])
    fetched = [series_of(one, "fetched").median for one in found]
    table.rows.append(["fetched until the first answer", *map(megabytes, fetched), ""])
    table.notes = ["From the call of RestoreFromSnapshot. In parentheses: least to largest."]
    ratio = series_of(found[1], "first").median / series_of(found[0], "first").median
    goals = [
        Goal(
            text=f"first answer of {sizes[1]} in at most {_FACTOR:g} times the time of {sizes[0]}",
            found=f"{ratio:.2f} times",
            reached=ratio <= _FACTOR,
        ),
        fetched_goal(fetched[1], until=f"the first answer of {sizes[1]}"),
    ]
    raw = dict(zip(sizes, found, strict=True))
    return Section(name="Restores by size", tables=[table], goals=goals, raw=raw)
