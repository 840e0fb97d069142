"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """`warn` limits something, `fail` prevents the service from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report: a fact, and what to do when it is not a good one."""

    name: str
    verdict: Verdict
    fact: str
    advice: str | None = None


def ok(name: str, fact: str) -> Finding:
    """All is well."""
    return Finding(name=name, verdict=Verdict.OK, fact=fact)


def warn(name: str, fact: str, advice: str | None) -> Finding:
    """It works, with a limit."""
    return Finding(name=name, verdict=Verdict.WARN, fact=fact, advice=advice)


def fail(name: str, fact: str, advice: str | None) -> Finding:
    """It does not work like this."""
    return Finding(name=name, verdict=Verdict.FAIL, fact=fact, advice=advice)
