"""The chapters of the story, in order."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from stillframe.cli.demo import databases, tpch
from stillframe.cli.demo.databases import BILLING, DAMAGE, ROLE, WAREHOUSE
from stillframe.cli.demo.fingerprint import compare, fingerprint_of_table, take_fingerprints
from stillframe.cli.demo.stage import ADMIN, FIRST_DATABASE, NAMESPACE, WORKGROUP, CaptureFacts, Stage
from stillframe.cli.open_snapshots import opened_for_a_question
from stillframe.cli.output import human_bytes, human_rate, human_seconds
from stillframe.cli.questions import ask_for_table
from stillframe.cli.watching import describe_snapshot, wait_for_operation, wait_for_snapshot
from stillframe.errors import ServerUnavailable

_WORKGROUP_DEADLINE = 120.0
_FIRST_SNAPSHOT = "before-the-disaster"
_SECOND_SNAPSHOT = "one-row-later"
_TABLE = "orders"
_QUESTION = "SELECT name FROM customers WHERE id = 1815"


def open_service(stage: Stage) -> None:
    """A namespace and its workgroup, by boto3."""
    stage.narrator.chapter("A namespace and a workgroup")
    stage.narrator.say(
        f"The service answers on {stage.local.endpoint_url}, {human_seconds(stage.facts.start_seconds)} "
        "after its start. What follows is plain boto3."
    )
    began = time.perf_counter()
    stage.call(
        "create_namespace",
        namespaceName=NAMESPACE,
        dbName=FIRST_DATABASE,
        adminUsername=ADMIN,
        adminUserPassword=stage.admin_password,
    )
    stage.call("create_workgroup", workgroupName=WORKGROUP, namespaceName=NAMESPACE)
    _wait_for_workgroup(stage)
    stage.facts.workgroup_seconds = time.perf_counter() - began
    took = human_seconds(stage.facts.workgroup_seconds)
    stage.narrator.say(f"A PostgreSQL server of its own runs behind it after {took}.")


def load_data(stage: Stage) -> None:
    """Three databases with real content, and their fingerprints."""
    stage.narrator.chapter("Three databases full of data")
    began = time.perf_counter()
    with stage.database(FIRST_DATABASE) as connection:
        databases.create_role(connection, stage.role_password)
        connection.execute(f"CREATE DATABASE {WAREHOUSE}")
        connection.execute(f"CREATE DATABASE {BILLING}")
        databases.run_all(connection, databases.SHOP_STATEMENTS)
    with stage.database(BILLING) as connection:
        databases.run_all(connection, databases.BILLING_STATEMENTS)
    with stage.database(WAREHOUSE) as connection:
        loaded = tpch.load_tables(connection, generator=stage.generator, scale=stage.scale)
    stage.facts.load_seconds = time.perf_counter() - began
    stage.narrator.say(
        f"{WAREHOUSE}: TPC-H at scale factor {stage.scale:g}, {human_bytes(loaded)} by COPY; "
        f"{FIRST_DATABASE}: customers and orders; {BILLING}: invoices, a sequence, and a role of its own. "
        f"It took {human_seconds(stage.facts.load_seconds)}."
    )
    _take_first_fingerprints(stage)


def take_snapshot(stage: Stage) -> None:
    """All databases in one snapshot."""
    stage.narrator.chapter("A snapshot of everything")
    facts = stage.facts.first_snapshot = _snapshot(stage, _FIRST_SNAPSHOT)
    stage.narrator.say(
        f"{human_bytes(facts.read_bytes)} read in {human_seconds(facts.seconds)} "
        f"({human_rate(facts.read_bytes / facts.seconds if facts.seconds else None)}), "
        f"{human_bytes(facts.stored_bytes)} stored: compressed, encrypted, verified."
    )


def do_damage(stage: Stage) -> None:
    """Destroy things in every database, and show that they are gone."""
    stage.narrator.chapter("A bad day")
    for blow in DAMAGE:
        stage.narrator.statement(blow.database, blow.statement)
        with stage.database(blow.database) as connection:
            databases.run_all(connection, (blow.statement,))
    stage.facts.damage = compare(stage.before, take_fingerprints(stage.database, FIRST_DATABASE))
    rows = [(difference.name, difference.sentence) for difference in stage.facts.damage]
    stage.narrator.list(("What", "Happened"), rows)


def bring_back(stage: Stage) -> None:
    """Restore, and compare every fingerprint with what it was."""
    stage.narrator.chapter("Everything back")
    began = time.perf_counter()
    answer = stage.call(
        "restore_from_snapshot",
        namespaceName=NAMESPACE,
        workgroupName=WORKGROUP,
        snapshotName=_FIRST_SNAPSHOT,
    )
    _follow(stage, answer, title="Restore")
    _wait_for_workgroup(stage)
    with stage.database(WAREHOUSE) as connection:
        connection.execute("SELECT count(*) FROM nation")
    stage.facts.restore_seconds = time.perf_counter() - began
    answered = f"First query answered {human_seconds(stage.facts.restore_seconds)} after the call"
    stage.narrator.say(f"{answered}{_while_arriving(stage)}.")
    _verify(stage)


def change_one_row(stage: Stage) -> None:
    """One row changed costs next to nothing to snapshot."""
    stage.narrator.chapter("One row changed, one more snapshot")
    statement = "UPDATE customers SET name = 'Ada Lovelace' WHERE id = 1815"
    stage.narrator.statement(FIRST_DATABASE, statement)
    with stage.database(FIRST_DATABASE) as connection:
        databases.run_all(connection, (statement,))
    facts = stage.facts.second_snapshot = _snapshot(stage, _SECOND_SNAPSHOT)
    stage.narrator.say(
        f"{human_bytes(facts.stored_bytes)} stored for {human_bytes(facts.logical_bytes)} of databases, "
        f"in {human_seconds(facts.total_seconds)}."
    )


def bring_one_table_back(stage: Stage) -> None:
    """One table out of the snapshot, while everything else stays as it is."""
    stage.narrator.chapter("One table back")
    statement = f"DROP TABLE {_TABLE}"
    stage.narrator.statement(FIRST_DATABASE, statement)
    with stage.database(FIRST_DATABASE) as connection:
        databases.run_all(connection, (statement,))
    began = time.perf_counter()
    answer = stage.call(
        "restore_table_from_snapshot",
        namespaceName=NAMESPACE,
        workgroupName=WORKGROUP,
        snapshotName=_SECOND_SNAPSHOT,
        sourceDatabaseName=FIRST_DATABASE,
        sourceTableName=_TABLE,
        newTableName=_TABLE,
    )
    _follow(stage, answer, title=f"Table {_TABLE}")
    stage.facts.table_seconds = time.perf_counter() - began
    _verify_table(stage)


def look_inside(stage: Stage) -> None:
    """A question to a snapshot, without restoring it."""
    stage.narrator.chapter("A look inside a snapshot")
    stage.narrator.statement(FIRST_DATABASE, f"{_QUESTION}   -- of the snapshot {_FIRST_SNAPSHOT}")
    began = time.perf_counter()
    with opened_for_a_question(stage.connection, stage.terminal, _FIRST_SNAPSHOT) as opened:
        answer = ask_for_table(opened.login(FIRST_DATABASE), _QUESTION)
    stage.facts.look_seconds = time.perf_counter() - began
    ((name,),) = answer.rows
    stage.facts.is_verified = stage.facts.is_verified and name != "Ada Lovelace"
    stage.narrator.say(
        f"There customer 1815 is still called {name}. The snapshot was opened, asked and closed in "
        f"{human_seconds(stage.facts.look_seconds)}; the namespace was not touched."
    )


def prove(stage: Stage) -> None:
    """A snapshot that was started and checked."""
    stage.narrator.chapter("A proof")
    began = time.perf_counter()
    operation = stage.connection.extend("prove_snapshot", snapshotName=_SECOND_SNAPSHOT)["operation"]
    wait_for_operation(
        stage.connection,
        namespace=None,
        request_id=operation["requestId"],
        title=f"Proof of {_SECOND_SNAPSHOT}",
        terminal=stage.terminal,
    )
    proof = describe_snapshot(stage.connection, _SECOND_SNAPSHOT).detail["proof"]
    stage.facts.proof_seconds = time.perf_counter() - began
    stage.facts.is_verified = stage.facts.is_verified and proof["result"] == "passed"
    for finding in proof["findings"]:
        stage.narrator.regret(finding)
    if proof["result"] == "passed":
        stage.narrator.praise(
            f"{_SECOND_SNAPSHOT} was started privately, and every relation in it checked with amcheck and counted, "
            f"in {human_seconds(stage.facts.proof_seconds)}."
        )


Chapter = Callable[[Stage], None]
CHAPTERS: tuple[Chapter, ...] = (
    open_service,
    load_data,
    take_snapshot,
    do_damage,
    bring_back,
    change_one_row,
    bring_one_table_back,
    look_inside,
    prove,
)
"""In the order they are played; each leaves the stage as the next one needs it."""


def _follow(stage: Stage, answer: Mapping[str, Any], *, title: str) -> None:
    """Show the operation that a call has begun until it ends."""
    wait_for_operation(
        stage.connection,
        namespace=NAMESPACE,
        request_id=answer["ResponseMetadata"]["RequestId"],
        title=title,
        terminal=stage.terminal,
    )


def _wait_for_workgroup(stage: Stage) -> None:
    deadline = time.monotonic() + _WORKGROUP_DEADLINE
    while True:
        workgroup = stage.connection.call("get_workgroup", workgroupName=WORKGROUP)["workgroup"]
        if workgroup["status"] == "AVAILABLE":
            return
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"The workgroup is still {workgroup['status']}.")
        time.sleep(0.05)


def _while_arriving(stage: Stage) -> str:
    """How much of the data was there by then, where a restore answers before its data has arrived."""
    described = stage.connection.extend("describe_namespace", namespaceName=NAMESPACE)
    arrival = described.get("arrival")
    if arrival is None:
        return ""
    there, total = human_bytes(arrival["arrivedBytes"]), human_bytes(arrival["totalBytes"])
    return f", when {there} of {total} had arrived; the rest follows behind the running server"


def _take_first_fingerprints(stage: Stage) -> None:
    stage.before = take_fingerprints(stage.database, FIRST_DATABASE)
    names = [name for name in stage.before if name.count(".") == 2]
    stage.facts.databases = len({name.split(".")[0] for name in names})
    stage.facts.relations = len(names)
    stage.facts.rows = sum(stage.before[name].rows for name in names)
    stage.narrator.say(
        f"A fingerprint of every one of them is taken: {stage.facts.rows:,} rows in {stage.facts.relations} "
        f"tables and sequences of {stage.facts.databases} databases."
    )


def _snapshot(stage: Stage, name: str) -> CaptureFacts:
    began = time.perf_counter()
    stage.call("create_snapshot", namespaceName=NAMESPACE, snapshotName=name)
    detail = wait_for_snapshot(stage.connection, name, terminal=stage.terminal).detail
    return CaptureFacts(
        seconds=float(detail.get("elapsedSeconds") or 0.0),
        total_seconds=time.perf_counter() - began,
        read_bytes=int(detail.get("doneBytes") or 0),
        logical_bytes=int(detail.get("logicalBytes") or 0),
        stored_bytes=int(detail.get("storedBytes") or 0),
    )


def _verify(stage: Stage) -> None:
    stage.facts.differences = compare(stage.before, take_fingerprints(stage.database, FIRST_DATABASE))
    for difference in stage.facts.differences:
        stage.narrator.regret(f"{difference.name}: {difference.sentence}")
    with stage.database(BILLING, user=ROLE, password=stage.role_password) as connection:
        connection.execute("SELECT count(*) FROM invoices")
    stage.facts.is_verified = not stage.facts.differences
    if stage.facts.is_verified:
        stage.narrator.praise(
            f"All {stage.facts.rows:,} rows are back, every fingerprint is identical, "
            f"and {ROLE} logs in with the old password."
        )


def _verify_table(stage: Stage) -> None:
    """The restored table against its fingerprint, and the row that was changed elsewhere since the disaster."""
    name = f"{FIRST_DATABASE}.public.{_TABLE}"
    with stage.database(FIRST_DATABASE) as connection:
        found = fingerprint_of_table(connection, "public", _TABLE)
        changed = connection.execute("SELECT name FROM customers WHERE id = 1815").fetchone()
    stage.facts.table_rows = found.rows
    differences = compare({name: stage.before[name]}, {name: found})
    stage.facts.differences += differences
    for difference in differences:
        stage.narrator.regret(f"{difference.name}: {difference.sentence}")
    stage.facts.is_verified = stage.facts.is_verified and not differences and changed == ("Ada Lovelace",)
    if not differences:
        stage.narrator.praise(
            f"{found.rows:,} rows of {_TABLE} are back after {human_seconds(stage.facts.table_seconds)}, "
            "identical; no other table was touched."
        )
