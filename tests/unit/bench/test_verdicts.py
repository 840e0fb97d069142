"""Goals: what counts as reached, as missed, and as not measured."""

import pytest
from bench.changes import _goals as change_goals
from bench.changes import _Taken
from bench.growth import _goals as growth_goals
from bench.native import IncrementalBaseBackup
from bench.ours import Engine, Service
from bench.results import Goal, Series, size_of

pytestmark = pytest.mark.unit


def _row(seconds: float, stored: int) -> list[_Taken]:
    return [_Taken(seconds=seconds, stored=stored)]


def _verdicts(goals: list[Goal]) -> dict[str, str]:
    return {goal.text: goal.verdict for goal in goals}


def _changes(*, engine: float, stored: int) -> dict[str, str]:
    found = {
        (Service.name, "one row"): _row(0.5, stored),
        (Engine.name, "one row"): _row(engine, stored),
        (IncrementalBaseBackup.name, "one row"): _row(0.3, 21_000_000),
        (Service.name, "scattered pages"): _row(1.0, 40_000_000),
    }
    return _verdicts(change_goals(found))


def test_one_row_is_judged_by_time_by_the_native_increment_and_by_size() -> None:
    verdicts = _changes(engine=0.07, stored=20_000)
    own = [verdict for text, verdict in verdicts.items() if text.startswith(Engine.name)]
    assert own == ["reached", "reached", "reached"]
    assert verdicts[f"{Service.name}: one changed row in at most 80.0 ms"] == "MISSED"


def test_a_row_that_costs_more_than_it_may_misses_each_goal_of_its_own() -> None:
    own = [v for text, v in _changes(engine=0.081, stored=100_001).items() if text.startswith(Engine.name)]
    assert own == ["MISSED", "MISSED", "MISSED"]


def test_a_comparison_with_an_absent_peer_is_not_measured_and_not_reached() -> None:
    (verdict,) = [v for text, v in _changes(engine=0.07, stored=1).items() if "pgbackrest" in text]
    assert verdict == "not measured"


def test_growth_is_judged_against_the_smallest_namespace() -> None:
    small, big, many = (
        {Service.name: [s], Engine.name: [e]} for s, e in ((0.2, 0.1), (0.24, 0.13), (0.4, 0.2))
    )
    verdicts = list(_verdicts(growth_goals(small, big, many)).values())
    assert verdicts == ["reached", "reached", "MISSED", "reached"]


@pytest.mark.parametrize(("size", "text"), [(23_600, "23.6 kB"), (999_999, "1,000.0 kB"), (1e6, "1.0 MB")])
def test_small_sizes_are_not_rounded_away(size: float, text: str) -> None:
    assert size_of(size) == text


def test_a_percentile_is_a_value_that_was_measured() -> None:
    series = Series(values=(5.0, 1.0, 3.0, 2.0, 4.0))
    assert (series.percentile(50), series.percentile(99)) == (3.0, 5.0)
