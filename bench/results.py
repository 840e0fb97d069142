"""What a benchmark found: tables to read, goals with their outcome, and every single value for machines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

MISSING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Repeated measurements of one thing, in the order they were made; seconds unless its owner says otherwise."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    def percentile(self, percent: float) -> float:
        """The value that this percentage of the measurements does not exceed (nearest rank)."""
        ordered = sorted(self.values)
        return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]

    def spread(self, scale: float = 1.0, digits: int = 2) -> str:
        """Least to largest, as text."""
        return f"{min(self.values) * scale:.{digits}f} to {max(self.values) * scale:.{digits}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What was to be reached, what was, and whether that is enough; None when it could not be measured."""

    text: str
    found: str
    reached: bool | None

    @property
    def verdict(self) -> str:
        """One word for a table."""
        return {True: "reached", False: "MISSED", None: "not measured"}[self.reached]


@dataclass(slots=True, kw_only=True)
class Table:
    """A table of text, with what a reader has to know about it."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Section:
    """One part of the benchmark. `raw` is what goes into the JSON file, every value of it."""

    name: str
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)


def megabytes(size: float) -> str:
    """A size in bytes as text, in units of 10^6 bytes."""
    return f"{size / 1e6:,.1f} MB" if size < 100e6 else f"{size / 1e6:,.0f} MB"


def size_of(size: float) -> str:
    """A size in bytes as text, in units of 10^3 bytes below a million."""
    return megabytes(size) if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def mebibytes(size: float) -> str:
    """A size in bytes as text, in units of 2^20 bytes: memory is limited in these."""
    return f"{size / 2**20:,.0f} MiB"


def seconds(value: float) -> str:
    """A duration as text, with a sensible number of digits."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.1f} ms"
