"""Starting a copy for the first time: on a timeline of its own, and checked (rules 31-37)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stillframe.domain.lsn import Lsn
from stillframe.errors import InvalidRequest, StoredDataCorrupt
from stillframe.postgres.cluster import PROMOTE_FILE, STANDBY_FILE, Cluster
from stillframe.postgres.control import ClusterState, RecoveryLimits, read_control_file
from stillframe.postgres.osfiles import publish, remove, sync_directory
from stillframe.postgres.settings import ServerSettings
from stillframe.system import translating_os_errors

_PLACEHOLDER = b"# Taken by another restore of the same databases.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """What a copy has to become: on `timeline`, new for its `system_identifier`, from `stop_lsn` on.

    `source_timeline` is the one the copy was made on; `timeline` is greater.
    """

    system_identifier: int
    source_timeline: int
    timeline: int
    stop_lsn: Lsn


def recover(
    cluster: Cluster,
    settings: ServerSettings,
    plan: RecoveryPlan,
    *,
    deadline: float = 3600,
    inherited: Sequence[int] = (),
) -> int:
    """Start a restored directory for the first time and leave it running as a cluster of its own; its pid.

    Replays its WAL to the end of the backup, switches to the planned timeline, checks both, and removes what
    was only meant for this start. `inherited` as in `Cluster.start`. Raises ServerUnavailable when the server
    does not come up, StoredDataCorrupt when it came up as something else (it is stopped then), InvalidRequest
    for a bad plan.
    """
    limits = read_control_file(cluster.data_directory).limits
    prepare_recovery(cluster, plan)
    recovering = _while_recovering(settings, limits)
    # After a power cut the whole restore begins again.
    cluster.write_settings(recovering, durable=False)
    pid = cluster.start(recovering, deadline=deadline, inherited=inherited, promote=True)
    try:
        _check_outcome(cluster, plan)
    except StoredDataCorrupt:
        cluster.stop()
        raise
    finish_recovery(cluster, settings, plan)
    return pid


def prepare_recovery(cluster: Cluster, plan: RecoveryPlan) -> None:
    """Make the next start of this directory end on the planned timeline.

    PostgreSQL takes the first number above the source's without a history file (findNewestTimeLine()), so the
    numbers below the planned one get a placeholder. Raises InvalidRequest unless the number is a new one.
    """
    if plan.timeline <= plan.source_timeline:
        raise InvalidRequest(f"Timeline {plan.timeline} is not above the source's, {plan.source_timeline}")
    with translating_os_errors("preparing the first start"):
        for number in range(plan.source_timeline + 1, plan.timeline):
            _make_placeholder(_history_file(cluster, number), cluster)
    # A standby that is promoted opens before the checkpoint that writes every page its WAL has touched.
    # Not synced, for the same reason as those.
    publish(cluster.data_directory / STANDBY_FILE, b"", owner=cluster.identity.owner, durable=False)


def _make_placeholder(path: Path, cluster: Cluster) -> None:
    """Not synced: it matters for one start only, and after a power cut the whole restore begins again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if cluster.identity.owner is not None:
            os.fchown(descriptor, *cluster.identity.owner)
        os.write(descriptor, _PLACEHOLDER)
    finally:
        os.close(descriptor)


def finish_recovery(cluster: Cluster, settings: ServerSettings, plan: RecoveryPlan) -> None:
    """Remove the settings and files of the first start. Raises DiskFull, PermissionMissing, OperatorError."""
    cluster.write_settings(settings)
    cluster.reload()
    with translating_os_errors("removing what the first start needed"):
        placeholders = range(plan.source_timeline + 1, plan.timeline)
        for number in placeholders:
            _history_file(cluster, number).unlink(missing_ok=True)
        if placeholders:
            sync_directory(cluster.data_directory / "pg_wal")
        # PostgreSQL has removed both at the end of recovery, but for what was asked once too often.
        for name in (STANDBY_FILE, PROMOTE_FILE):
            if (cluster.data_directory / name).exists():
                remove(cluster.data_directory / name)


def _while_recovering(settings: ServerSettings, limits: RecoveryLimits) -> ServerSettings:
    return replace(
        settings,
        # Prepared transactions of the source need their places; the other limits count for standbys only.
        max_prepared_transactions=max(settings.max_prepared_transactions, limits.max_prepared_transactions),
        extra={
            **settings.extra,
            "hot_standby": "off",
            # No recovery target: the WAL was cut off at the end of the backup, and PostgreSQL looks at a target
            # such as 'immediate' only when one more record follows. It refuses by itself to stop any earlier.
            "recovery_target_timeline": "current",
        },
    )


def _check_outcome(cluster: Cluster, plan: RecoveryPlan) -> None:
    """A server that takes connections has written into pg_control what it has become: no session is needed for that,
    and none should be: the first one on new files is dear.
    """
    control = read_control_file(cluster.data_directory)
    found = (control.state, control.system_identifier, control.newest_timeline)
    wanted = (ClusterState.IN_PRODUCTION, plan.system_identifier, plan.timeline)
    if found != wanted:
        raise StoredDataCorrupt(
            "The restored cluster did not become what it should be",
            wanted=wanted,
            found=found,
        )
    switched_at = _switch_point(_history_file(cluster, plan.timeline))
    if switched_at != plan.stop_lsn:
        raise StoredDataCorrupt(
            f"The restored cluster left recovery at {switched_at}, but its snapshot ends at {plan.stop_lsn}",
        )


def _switch_point(history: Path) -> Lsn:
    """Where the timeline of this history file left its parent: the position in its last entry."""
    with translating_os_errors("reading the timeline history"):
        text = history.read_text()
    entries = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not entries or len(entries[-1]) < 2:
        raise StoredDataCorrupt(f"The timeline history {history.name} has no entry")
    return Lsn.parse(entries[-1][1])


def _history_file(cluster: Cluster, timeline: int) -> Path:
    return cluster.data_directory / "pg_wal" / f"{timeline:08X}.history"
