"""`stillframe repository`: the stored snapshots themselves, without a running service and without its catalog."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Group, RenderableType

from stillframe.cli.options import DEFAULTS, Common
from stillframe.cli.output import human_bytes, human_time, table
from stillframe.cli.progress import Report, View, progress
from stillframe.config import Settings, load_settings
from stillframe.domain.clock import SystemClock
from stillframe.domain.identifiers import Region, SnapshotId, parse_region
from stillframe.errors import DataError, KeyUnavailable, NotFound, ObjectMissing, StillframeError
from stillframe.kms import KeyManagement
from stillframe.kms.opening import key_management
from stillframe.repository import (
    CheckProgress,
    CheckReport,
    Finding,
    IndexState,
    Level,
    Repository,
    RepositoryUsage,
    SnapshotDocument,
    SweepReport,
)
from stillframe.service.repositories import Repositories
from stillframe.service.stores import stores_of

app = App(name="repository", help="Look into the stored snapshots without a running service.")

RegionOption = Annotated[
    str | None, Parameter(help="Only this Region's repository. [default: all there are]")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSnapshot:
    """One entry of the list: a readable document, or why it cannot be read."""

    region: Region
    snapshot_id: SnapshotId
    document: SnapshotDocument | None
    problem: str | None = None


@app.command(name="list")
def list_(*, region: RegionOption = None, common: Common = DEFAULTS) -> int:
    """List the stored snapshots, as their own documents describe them. Exit status 1 when one cannot be read."""
    settings = load_settings(overrides={"data": common.data})
    found = [
        stored
        for name, repository in open_repositories(settings, region)
        for stored in _stored(name, repository)
    ]
    common.terminal.result({"snapshots": [_to_document(item) for item in found]}, lambda: _listing(found))
    return 1 if any(item.problem for item in found) else 0


@app.command
def check(
    *,
    region: RegionOption = None,
    level: Annotated[
        Level, Parameter(help="`structure` reads all descriptions; `bytes` also opens every stored byte.")
    ] = Level.STRUCTURE,
    remembered: Annotated[
        int, Parameter(help="Days for which what was verified and is unchanged is not read again.")
    ] = 0,
    common: Common = DEFAULTS,
) -> int:
    """Look for damage: missing, changed, swapped or unreadable content. Exit status 1 when something is found."""
    settings, terminal = load_settings(overrides={"data": common.data}), common.terminal
    reports: dict[Region, CheckReport] = {}
    indexes: dict[Region, dict[str, Any]] = {}
    for name, repository in open_repositories(settings, region):
        with progress(terminal, f"Check of {name}") as view:
            reports[name] = repository.check(
                level=level, remembered_for=timedelta(days=remembered), on_progress=_Reporter(view)
            )
        indexes[name] = _index(repository.index_state())
    document = [_report(name, item) | {"index": indexes[name]} for name, item in reports.items()]
    terminal.result({"regions": document}, lambda: _verdicts(reports, indexes))
    return 0 if all(report.clean for report in reports.values()) else 1


@app.command
def stats(*, region: RegionOption = None, common: Common = DEFAULTS) -> None:
    """What the snapshots take: all together, and each alone, which is what deleting it gives back."""
    settings = load_settings(overrides={"data": common.data})
    document = [
        _usage(name, repository.usage(), _names_of(repository)) | {"index": _index(repository.index_state())}
        for name, repository in open_repositories(settings, region)
    ]
    common.terminal.result({"regions": document}, lambda: _usage_tables(document))


@app.command
def gc(
    *,
    region: RegionOption = None,
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be done.")] = False,
    common: Common = DEFAULTS,
) -> None:
    """Remove what no snapshot refers to, as the service does by itself. It may run meanwhile."""
    settings = load_settings(overrides={"data": common.data})
    reports = {
        name: repository.sweep(dry_run=dry_run) for name, repository in open_repositories(settings, region)
    }
    document = [_collected(name, report) for name, report in reports.items()]
    common.terminal.result(
        {"dryRun": dry_run, "regions": document},
        lambda: "\n".join(_collection(item, dry_run=dry_run) for item in document),
    )


@app.command(name="rebuild-index")
def rebuild_index(*, region: RegionOption = None, common: Common = DEFAULTS) -> None:
    """Make the index anew from the stored packs themselves. It is a cache: nothing depends on it but speed.

    Captures, restores and the service may go on meanwhile.
    """
    settings = load_settings(overrides={"data": common.data})
    document = []
    for name, repository in open_repositories(settings, region):
        with progress(common.terminal, f"Index of {name}") as view:
            view(Report(phase="reading"))
            document.append({"region": name} | _index(repository.rebuild_index()))
    common.terminal.result(
        {"regions": document},
        lambda: "\n".join(f"{item['region']}: {_index_sentence(item)}" for item in document),
    )


@app.command(name="rebuild-catalog")
def rebuild_catalog(*, common: Common = DEFAULTS) -> None:
    """Write the stored snapshots into the catalog again, after the catalog was lost. The service must not run.

    Namespaces, workgroups, access keys and sharing with other accounts cannot come back: no repository has them.
    """
    from stillframe.app import rebuild_catalog as rebuild
    from stillframe.telemetry.logging import configure_logging

    settings = load_settings(overrides={"data": common.data})
    configure_logging(settings.log_level, json=settings.log_json)
    rebuilt = rebuild(settings)
    common.terminal.result(
        {"added": rebuilt},
        lambda: (
            f"{rebuilt} snapshots were added to the catalog.\n"
            "Not back, because no repository has them: namespaces, workgroups, access keys, sharing."
        ),
    )


def open_repositories(settings: Settings, region: str | None = None) -> Iterator[tuple[Region, Repository]]:
    """The repositories of a data directory, one after the other; none is made.

    Raises NotFound when there is none (of this Region), KeyUnavailable when the directory has no keys, and what
    opening a repository raises.
    """
    names = [name for name in stores_of(settings).regions() if region in {None, name}]
    if not names:
        where = "" if region is None else f" for the Region {parse_region(region)}"
        raise NotFound(
            f"The data directory {settings.data} holds no repository{where}.",
            resource_name=str(settings.data),
            hint="Name the right one with --data or STILLFRAME_DATA.",
        )
    repositories = Repositories(settings, _keys(settings), SystemClock())
    for name in names:
        yield name, repositories.of(name)


def _keys(settings: Settings) -> KeyManagement:
    # Looking must not make an empty key store: it would hide that the real one is missing.
    directory = settings.paths.keys
    if not directory.is_dir():
        raise KeyUnavailable(
            f"There are no keys in {directory}, and snapshots are encrypted.",
            hint="Bring the directory back from wherever it was kept safe.",
        )
    return key_management(settings)


def _stored(region: Region, repository: Repository) -> Iterator[StoredSnapshot]:
    for snapshot_id in repository.snapshot_ids():
        try:
            document = repository.document(snapshot_id)
        except ObjectMissing as error:
            problem = f"{error.message} (deleted at this moment?)"
            yield StoredSnapshot(region=region, snapshot_id=snapshot_id, document=None, problem=problem)
        except StillframeError as error:
            yield StoredSnapshot(region=region, snapshot_id=snapshot_id, document=None, problem=error.message)
        else:
            yield StoredSnapshot(region=region, snapshot_id=snapshot_id, document=document)


def _to_document(item: StoredSnapshot) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "region": item.region,
        "snapshotId": str(item.snapshot_id),
        "problem": item.problem,
    }
    if item.document is None:
        return facts
    attributes, statistics = item.document.attributes, item.document.statistics
    return facts | {
        "snapshotName": attributes.snapshot_name,
        "namespaceName": attributes.namespace_name,
        "accountId": attributes.account,
        "createdAt": attributes.created_at,
        "retentionDays": attributes.retention_days,
        "logicalBytes": statistics.logical_bytes,
        "storedBytes": statistics.new_stored_bytes,
        "mode": item.document.facts.mode,
        "serverVersion": item.document.facts.postgres.server_version,
        "databases": [database.name for database in item.document.facts.databases],
        "damage": item.document.facts.damage,
    }


def _listing(found: list[StoredSnapshot]) -> RenderableType:
    columns = ("Snapshot", "Region", "Account", "Namespace", "Taken", "Refers to", "Stored")
    return table(columns, [_row(item) for item in found], right=("Refers to", "Stored"))


def _row(item: StoredSnapshot) -> tuple[str, ...]:
    if item.document is None:
        return (f"{item.snapshot_id}: {item.problem}", item.region, "-", "-", "-", "-", "-")
    attributes, statistics = item.document.attributes, item.document.statistics
    return (
        attributes.snapshot_name,
        item.region,
        attributes.account,
        attributes.namespace_name,
        human_time(attributes.created_at),
        human_bytes(statistics.logical_bytes),
        human_bytes(statistics.new_stored_bytes),
    )


class _Reporter:
    """Turns the repository's progress into ours."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __call__(self, done: CheckProgress) -> None:
        self._view(Report(phase="reading", done_bytes=done.done_bytes, total_bytes=done.total_bytes))


def _report(region: Region, report: CheckReport) -> dict[str, Any]:
    return {
        "region": region,
        "level": report.level,
        "snapshots": report.snapshots,
        "packs": report.packs,
        "bytesRead": report.bytes_read,
        "bytesRemembered": report.bytes_remembered,
        "clean": report.clean,
        "findings": [_finding(item) for item in report.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    names = {"snapshot_id": "snapshotId", "first_block": "firstBlock", "relation_block": "relationBlock"}
    return {
        names.get(name, name): str(value) if name == "snapshot_id" and value is not None else value
        for name, value in asdict(finding).items()
    }


def _index(state: IndexState) -> dict[str, Any]:
    return {
        "indexObjects": state.objects,
        "indexBytes": state.bytes,
        "packs": state.packs,
        "packsCovered": state.covered,
    }


def _index_sentence(index: dict[str, Any]) -> str:
    return (
        f"the index covers {index['packsCovered']} of {index['packs']} packs "
        f"({index['indexObjects']} objects, {human_bytes(index['indexBytes'])})."
    )


def _verdicts(reports: dict[Region, CheckReport], indexes: dict[Region, dict[str, Any]]) -> RenderableType:
    parts = (
        (_verdict(region, report), f"{region}: {_index_sentence(indexes[region])}")
        for region, report in reports.items()
    )
    return Group(*(text for two in parts for text in two))


def _verdict(region: Region, report: CheckReport) -> str:
    seen = f"{report.snapshots} snapshots, {report.packs} packs, {human_bytes(report.bytes_read)} read"
    if report.bytes_remembered:
        seen += f", {human_bytes(report.bytes_remembered)} verified before"
    if report.clean:
        return f"{region}: no damage found ({report.level}: {seen})."
    lines = [f"{region}: {len(report.findings)} findings ({report.level}: {seen})."]
    return "\n".join([*lines, *(f"  {describe(finding)}" for finding in report.findings)])


def _names_of(repository: Repository) -> dict[SnapshotId, str]:
    """What the snapshots are called; one whose attributes cannot be read is left out."""
    names = {}
    for snapshot_id in repository.snapshot_ids():
        with contextlib.suppress(DataError):
            names[snapshot_id] = repository.document(snapshot_id).attributes.snapshot_name
    return names


def _usage(region: Region, usage: RepositoryUsage, names: dict[SnapshotId, str]) -> dict[str, Any]:
    return {
        "region": region,
        "logicalBytes": usage.logical_bytes,
        "storedBytes": usage.stored_bytes,
        "deadBytes": usage.dead_bytes,
        "snapshots": [
            {
                "snapshotId": str(one.snapshot_id),
                "snapshotName": names.get(one.snapshot_id),
                "logicalBytes": one.logical_bytes,
                "storedBytes": one.reached_bytes,
                "uniqueBytes": one.unique_bytes,
            }
            for one in usage.snapshots
        ],
    }


def _usage_tables(regions: list[dict[str, Any]]) -> RenderableType:
    parts: list[RenderableType] = []
    for item in regions:
        rows = [
            (
                one["snapshotName"] or one["snapshotId"],
                human_bytes(one["logicalBytes"]),
                human_bytes(one["storedBytes"]),
                human_bytes(one["uniqueBytes"]),
            )
            for one in item["snapshots"]
        ]
        parts.append(
            f"{item['region']}: {human_bytes(item['logicalBytes'])} in snapshots, "
            f"{human_bytes(item['storedBytes'])} stored, {human_bytes(item['deadBytes'])} of that not needed; "
            f"{_index_sentence(item['index'])}"
        )
        columns = ("Snapshot", "Refers to", "Stored", "Only its own")
        parts.append(table(columns, rows, right=("Refers to", "Stored", "Only its own")))
    return Group(*parts)


def _collected(region: Region, report: SweepReport) -> dict[str, Any]:
    return {
        "region": region,
        "packsRemoved": report.packs_removed,
        "bytesRemoved": report.bytes_removed,
        "packsRewritten": report.packs_rewritten,
        "packsWaiting": report.packs_condemned,
        "bytesWaiting": report.bytes_condemned,
        "bytesKept": report.bytes_kept,
    }


def _collection(item: dict[str, Any], *, dry_run: bool) -> str:
    verb = "would be" if dry_run else "were"
    parts = [f"{item['packsRemoved']} packs ({human_bytes(item['bytesRemoved'])}) {verb} removed"]
    if item["packsRewritten"]:
        parts.append(f"{item['packsRewritten']} {verb} rewritten")
    if item["packsWaiting"]:
        parts.append(f"{item['packsWaiting']} ({human_bytes(item['bytesWaiting'])}) wait for work under way")
    return f"{item['region']}: {', '.join(parts)}; {human_bytes(item['bytesKept'])} kept."


def describe(finding: Finding) -> str:
    """One finding as a sentence: what is wrong, with which object, and what that affects."""
    snapshot = f"snapshot {finding.snapshot_id}" if finding.snapshot_id else ""
    pages = ""
    if finding.first_block is not None:
        last = finding.first_block + (finding.blocks or 1) - 1
        pages = f"pages {finding.first_block}-{last}"
        if finding.relation_block is not None and finding.relation_block != finding.first_block:
            pages += f" (from block {finding.relation_block} of the relation on)"
    parts = [part for part in (finding.object, snapshot, finding.path, finding.relation, pages) if part]
    return f"{finding.problem} [{', '.join(parts)}]" if parts else finding.problem
