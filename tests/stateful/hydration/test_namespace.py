"""A namespace that is used, broken and repaired in every order while its files arrive, against its eager double.

Its server, its hydrator, the service and "the machine" are killed, its snapshots are taken and restored, its store is
slow and fails; every answer is compared, and pages are read by a process that no server knows of. In the end
everything arrives, and the namespace has to hold what an eagerly restored copy holds after the same changes.
STILLFRAME_HYDRATION_STEPS lengthens it.
"""

import functools
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from support.crash_fingerprint import differences, fingerprint
from support.hydration import skip_unless_supported
from support.hydration_changes import CHANGES, KEPT, MAINTENANCE, TABLES, Change, statements_of
from support.hydration_namespace import FULL, ArrivingNamespace, EagerDouble, arriving_namespace
from support.hydration_pages import PageReader
from support.s3 import S3Server

pytestmark = pytest.mark.stateful

log = logging.getLogger(__name__)

_STEPS = int(os.environ.get("STILLFRAME_HYDRATION_STEPS", "30"))
_EXAMPLE_STEPS = 30
_ROWS = 12_000

Rule = Callable[..., None]

_table = st.sampled_from(TABLES)
_row = st.integers(1, _ROWS)
_moment = st.floats(0.0, 0.3)
_VICTIMS = ("hydrator", "server", "backend", "service", "machine", "endpoint")


def step(*, seldom: bool = False, **drawn: Any) -> Callable[[Rule], Rule]:
    """A rule whose failure is told at once: time is a part of it, so that it may not come again.

    Whether a step can be made is for the step to find out, for the same reason. One that takes long is made `seldom`:
    otherwise something is changed instead.
    """
    drawn |= {"turn": st.integers(0, 1 << 20)} if seldom else {}

    def decorate(function: Rule) -> Rule:
        @functools.wraps(function)
        def told(self: "Use", *, turn: int = 0, **arguments: Any) -> None:
            try:
                if turn % 3:
                    self.change_by(random.Random(turn))
                else:
                    function(self, **arguments)
            except Exception:
                log.exception("hydration_step_failed %s %s", function.__name__, arguments)
                raise

        ruled: Rule = rule(**drawn)(told)  # type: ignore[no-untyped-call]
        return ruled

    return decorate


class Use(RuleBasedStateMachine):
    """`history` has what was done since `full`; `snapshots` what had been done when each was taken."""

    arriving: ClassVar[ArrivingNamespace]
    double: ClassVar[EagerDouble]
    counted: ClassVar[Counter[str]]
    numbers: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Change] = []
        self.snapshots: dict[str, list[Change]] = {FULL: []}
        self.databases: list[str] = []
        self.healthy = False
        self.reader = PageReader(self.double.files)

    @initialize()
    def restore_full(self) -> None:
        """Nothing is there yet."""
        self.arriving.slow(slow=False)
        self.arriving.restore(FULL)
        self.healthy = True
        assert self.arriving.is_arriving()

    def note(self, what: str) -> None:
        """One more step, and what."""
        self.healthy = False
        self.counted[what] += 1
        self.counted["while arriving"] += self.arriving.is_arriving()

    # --- changes ------------------------------------------------------------------------------------------------

    @step(kind=st.sampled_from(sorted(CHANGES)), table=_table, row=_row)
    def change(self, kind: str, table: str, row: int) -> None:
        """In peace."""
        self._apply(kind, table, row)

    @step(kind=st.sampled_from(sorted(CHANGES)), table=_table, row=_row)
    def change_and_look(self, kind: str, table: str, row: int) -> None:
        """While others read what does not change."""
        self.note(f"{kind} beside readers")
        change = self._change(kind, table, row)
        doing = self.arriving.begin(change)
        self._look(row)
        self._remember(change, happened=doing.result())
        self.healthy = True

    @step(kind=st.sampled_from(sorted(CHANGES)), table=_table, row=_row, seconds=st.floats(0.05, 1.0))
    def change_while_the_store_fails(self, kind: str, table: str, row: int, seconds: float) -> None:
        """It waits as long as that lasts, and no longer."""
        self.note("store fails")
        change = self._change(kind, table, row)
        with self.arriving.failing_store():
            doing = self.arriving.begin(change)
            time.sleep(seconds)
        self._remember(change, happened=doing.result())
        self.healthy = True

    @step(
        kind=st.sampled_from(sorted(CHANGES)),
        table=_table,
        row=_row,
        victim=st.sampled_from(_VICTIMS),
        moment=_moment,
    )
    def change_that_is_cut_off(self, kind: str, table: str, row: int, victim: str, moment: float) -> None:
        """It has happened or not."""
        self.note(f"kill {victim} in a change")
        change = self._change(kind, table, row)
        doing = self.arriving.begin(change)
        time.sleep(moment)
        self.arriving.strike(victim)
        self._remember(change, happened=doing.result())
        self._look(row)
        self.healthy = True

    @step(table=_table, statement=st.sampled_from(MAINTENANCE))
    def maintain(self, table: str, statement: str) -> None:
        """What changes no row."""
        self.note(statement.format("").strip().lower())
        self.arriving.maintain(statement.format(table))

    @step()
    def checkpoint(self) -> None:
        """What crash recovery begins with."""
        self.note("checkpoint")
        self.arriving.checkpoint()

    @step(strategy=st.sampled_from(["wal_log", "file_copy"]))
    def create_database(self, strategy: str) -> None:
        """From one that is arriving."""
        if len(self.databases) > 3:
            return
        self.note(f"create database by {strategy}")
        Use.numbers += 1
        name = f"made_{self.numbers}"
        statement = f"CREATE DATABASE {name} TEMPLATE second STRATEGY {strategy}"
        self._remember(
            change := Change(step=self.numbers, statements=(statement,), makes=name),
            happened=self.arriving.apply(change),
        )

    @step()
    def drop_database(self) -> None:
        """One that was made before."""
        if not self.databases:
            return
        self.note("drop database")
        Use.numbers += 1
        name = self.databases[0]
        self._remember(
            change := Change(step=self.numbers, statements=(f"DROP DATABASE {name}",), drops=name),
            happened=self.arriving.apply(change),
        )

    # --- readers ------------------------------------------------------------------------------------------------

    @step(row=_row)
    def look(self, row: int) -> None:
        """At rows that never change."""
        self.note("look")
        self._look(row)

    @step()
    def count(self) -> None:
        """Everything that never changes."""
        self.note("count")
        assert self.arriving.rows("SELECT count(*), sum(id), sum(length(text)) FROM kept") == [
            (KEPT, KEPT * (KEPT + 1) // 2, 160 * KEPT)
        ]

    @step(seed=st.integers(0, 1 << 30))
    def read_pages(self, seed: int) -> None:
        """From outside, page by page."""
        self.note("read pages")
        # A server that was started by one who is still there: so nobody's accesses go unheld.
        self.arriving.await_hydrator()
        self._look(1)
        self.counted["pages read"] += self.arriving.read_pages(self.reader, 20, random.Random(seed))

    # --- arriving, and what disturbs it ---------------------------------------------------------------------------

    @step()
    def background(self) -> None:
        """Everything comes from now on."""
        self.note("background")
        self.arriving.background()

    @step(slow=st.booleans())
    def store_slows(self, slow: bool) -> None:
        """Or does so no longer."""
        self.note("store slows" if slow else "store is fast")
        self.arriving.slow(slow=slow)

    @step(victim=st.sampled_from(_VICTIMS), row=_row, seldom=True)
    def kill(self, victim: str, row: int) -> None:
        """In the middle of nothing else."""
        self.note(f"kill {victim}")
        self.arriving.strike(victim)
        self._look(row)

    @step(seldom=True)
    def restart_service(self) -> None:
        """In order, with its servers."""
        self.note("restart service")
        self.arriving.restart_service()

    @step(seldom=True)
    def cycle_workgroup(self) -> None:
        """The server is stopped, and started for a new workgroup."""
        self.note("workgroup")
        self.arriving.cycle_workgroup()

    @step()
    def snapshot(self) -> None:
        """Of what is half there."""
        if len(self.snapshots) > 3:
            return
        self.note("snapshot")
        Use.numbers += 1
        name = f"taken-{self.numbers}"
        self._look(1)
        self.arriving.snapshot(name)
        self.snapshots[name] = list(self.history)

    @step(number=st.integers(0, 3), seldom=True)
    def restore(self, number: int) -> None:
        """One of its own snapshots, or the first one again."""
        self.note("restore")
        name = sorted(self.snapshots)[number % len(self.snapshots)]
        self._look(1)
        self.arriving.restore(name)
        self.history = list(self.snapshots[name])
        self.databases = [one.makes for one in self.history if one.makes is not None]
        for one in self.history:
            if one.drops is not None:
                self.databases.remove(one.drops)
        # Files of another snapshot than `full`: their pages are compared with nothing.
        self.reader = PageReader(self.double.files if name == FULL else None)

    def teardown(self) -> None:
        """Everything comes; it is what the double is after the same changes."""
        if not self.history and not self.healthy:
            return
        try:
            self._compare()
        except Exception:
            log.exception("hydration_history_failed")
            raise

    def _compare(self) -> None:
        self.arriving.slow(slow=False)
        self._look(1)
        self.arriving.complete()
        found = self.arriving.patiently(lambda _connection: fingerprint(self.arriving.login()))
        assert differences(found, self.double.after(self.history)) == []
        self.arriving.assert_sound()
        self.counted["pages read"] += self.reader.read_all(self.arriving.cluster().data_directory)
        self.counted["histories"] += 1

    def change_by(self, chance: random.Random) -> None:
        """One of the changes, in peace."""
        self._apply(chance.choice(sorted(CHANGES)), chance.choice(TABLES), chance.randint(1, _ROWS))

    def _apply(self, kind: str, table: str, row: int) -> None:
        self.note(kind)
        change = self._change(kind, table, row)
        self._remember(change, happened=self.arriving.apply(change))
        self.healthy = True

    def _look(self, row: int) -> None:
        question = f"SELECT text = repeat(md5({row}::text), 5) FROM kept WHERE id = {row}"
        assert self.arriving.rows(question) == [(True,)]

    def _change(self, kind: str, table: str, row: int) -> Change:
        Use.numbers += 1
        return Change(step=self.numbers, statements=statements_of(kind, table, row))

    def _remember(self, change: Change, *, happened: bool) -> None:
        if not happened:
            return
        self.history.append(change)
        if change.makes is not None:
            self.databases.append(change.makes)
        if change.drops is not None:
            self.databases.remove(change.drops)


def test_a_namespace_whose_files_arrive_becomes_what_an_eager_restore_is(
    tmp_path: Path, s3_server: S3Server
) -> None:
    skip_unless_supported(tmp_path)
    with arriving_namespace(s3_server) as (arriving, double):
        Use.arriving, Use.double, Use.counted = arriving, double, Counter()
        Use.TestCase.settings = settings(
            # The first history is the simplest there is, and says little.
            max_examples=1 + -(-_STEPS // _EXAMPLE_STEPS),
            stateful_step_count=min(_STEPS, _EXAMPLE_STEPS),
            deadline=None,
            database=None,
            # A history takes a minute, and goes its own way each time: nothing is gained by making it shorter.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        try:
            Use.TestCase("runTest").debug()
        finally:
            log.info("hydration_steps %s", dict(sorted(Use.counted.items())))
