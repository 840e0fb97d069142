"""Figures that are read from the catalog when they are asked for, so that both processes' work is in them."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from stillframe.app.composition import Parts
from stillframe.domain.identifiers import Region
from stillframe.domain.operation import Operation, OperationKind, OperationStatus
from stillframe.domain.proof import Proof
from stillframe.domain.snapshot import SnapshotStatus
from stillframe.domain.verification import Verification
from stillframe.errors import StillframeError
from stillframe.service.captures import how_captured
from stillframe.service.local_bases import ReplacedSizes
from stillframe.service.restores import how_restored

_TAKING_SNAPSHOTS = (OperationKind.CREATE_SNAPSHOT, OperationKind.DELETE_NAMESPACE)


class CatalogCollector:
    """A Prometheus collector over the catalog and the data directory."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._replaced = ReplacedSizes(parts.settings.paths)

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked of the catalog at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All families; none of the catalog's when it does not answer, which is a figure of its own."""
        try:
            families = [
                *self._operations(),
                self._restores(),
                *self._captures(),
                *self._snapshots(),
                *self._assurance(),
                *self._repositories(),
            ]
            up = 1
        except StillframeError:
            families, up = [], 0
        yield GaugeMetricFamily("stillframe_catalog_up", "Whether the catalog answers.", value=up)
        free = shutil.disk_usage(self._parts.settings.paths.root).free
        yield GaugeMetricFamily(
            "stillframe_data_free_bytes", "Free bytes below the data directory.", value=free
        )
        yield from self._hydrations()
        yield from families

    def _hydrations(self) -> Iterator[Metric]:
        """Asked of the hydrators themselves, one after the other."""
        found = list(self._parts.hydrations.statuses())
        answered = [status for status in found if status is not None]
        missing = sum(status.missing_bytes for status in answered)
        stalled = sum(status is None or status.stalled is not None for status in found)
        yield GaugeMetricFamily(
            "stillframe_hydrations", "Restored directories whose files are still arriving.", value=len(found)
        )
        yield GaugeMetricFamily(
            "stillframe_hydration_missing_bytes", "What has not arrived of them.", value=missing
        )
        yield GaugeMetricFamily(
            "stillframe_hydrations_stalled", "How many of them get nothing at the moment.", value=stalled
        )
        yield GaugeMetricFamily(
            "stillframe_hydration_fetched_bytes",
            "What was fetched for them.",
            value=sum(status.fetched_bytes for status in answered),
        )
        yield GaugeMetricFamily(
            "stillframe_hydration_local_bytes",
            "What had not to be fetched for them, because files on this machine had it.",
            value=sum(status.local_bytes for status in answered),
        )
        yield GaugeMetricFamily(
            "stillframe_replaced_bytes",
            "What restores have replaced and is kept until everything has arrived.",
            value=self._replaced.bytes(),
        )

    def _restores(self) -> Metric:
        family = GaugeMetricFamily(
            "stillframe_restores",
            "Restores that succeeded, by strategy and why files were not cloned.",
            labels=["strategy", "doubt"],
        )
        with self._parts.catalog.transaction() as transaction:
            done = transaction.operations.list(
                kind=OperationKind.RESTORE_FROM_SNAPSHOT, status=OperationStatus.SUCCEEDED
            )
        found = (how_restored(operation) for operation in done)
        for labels, number in Counter((how.strategy, how.doubt) for how in found if how is not None).items():
            family.add_metric(labels, number)
        return family

    def _captures(self) -> Iterator[Metric]:
        full = GaugeMetricFamily(
            "stillframe_snapshots_read_in_full",
            "Snapshots for which everything was read, by reason.",
            labels=["reason"],
        )
        with self._parts.catalog.transaction() as transaction:
            done = transaction.operations.list(kind=_TAKING_SNAPSHOTS, status=OperationStatus.SUCCEEDED)
        found = [how for operation in done if (how := how_captured(operation)) is not None]
        reasons = Counter(how.full_because for how in found if how.full_because is not None)
        for reason, number in reasons.items():
            full.add_metric([reason], number)
        yield full
        yield GaugeMetricFamily(
            "stillframe_damaged_map_pages",
            "Pages of maps of free space and visibility that snapshots found damaged.",
            value=sum(len(how.damaged_maps) for how in found),
        )

    def _operations(self) -> Iterator[Metric]:
        count = GaugeMetricFamily(
            "stillframe_operations", "Operations by kind and status.", labels=["kind", "status"]
        )
        seconds = GaugeMetricFamily(
            "stillframe_operation_last_seconds",
            "Duration of the newest operation of a kind.",
            labels=["kind"],
        )
        with self._parts.catalog.transaction() as transaction:
            numbers = transaction.operations.tally("kind", "status")
            for kind in OperationKind:
                for status in OperationStatus:
                    count.add_metric([kind.value, status.value], numbers[kind.value, status.value])
                newest = transaction.operations.list(
                    kind=kind, status=OperationStatus.SUCCEEDED, order_by="-finished_at", limit=1
                )
                for operation in newest:
                    seconds.add_metric([kind.value], _duration(operation))
        yield count
        yield seconds

    def _snapshots(self) -> Iterator[Metric]:
        count = GaugeMetricFamily(
            "stillframe_snapshots", "Snapshots by Region and status.", labels=["region", "status"]
        )
        logical = GaugeMetricFamily(
            "stillframe_snapshot_logical_bytes",
            "Bytes that all AVAILABLE snapshots refer to.",
            labels=["region"],
        )
        with self._parts.catalog.transaction() as transaction:
            snapshots = transaction.snapshots.list()
        counts: dict[tuple[str, str], int] = {}
        sizes: dict[str, int] = {}
        for snapshot in snapshots:
            key = (snapshot.region, snapshot.status.value)
            counts[key] = counts.get(key, 0) + 1
            if snapshot.status is SnapshotStatus.AVAILABLE:
                sizes[snapshot.region] = sizes.get(snapshot.region, 0) + (snapshot.logical_bytes or 0)
        for labels, number in counts.items():
            count.add_metric(labels, number)
        for region, size in sizes.items():
            logical.add_metric([region], size)
        yield count
        yield logical

    def _assurance(self) -> Iterator[Metric]:
        """What proofs and verifications came to, and what is open."""
        with self._parts.catalog.transaction() as transaction:
            proofs = transaction.proofs.list()
            verifications = transaction.verifications.list()
            opened = Counter(copy.region for copy in transaction.open_snapshots.list())
            known = transaction.snapshots.list(status=SnapshotStatus.AVAILABLE)
        yield from _proof_figures(proofs)
        proven = {proof.snapshot_id for proof in proofs}
        yield _by_region(
            GaugeMetricFamily(
                "stillframe_snapshots_unproven", "AVAILABLE snapshots without a proof.", labels=["region"]
            ),
            Counter(snapshot.region for snapshot in known if snapshot.id not in proven),
        )
        yield _by_region(
            GaugeMetricFamily(
                "stillframe_snapshots_damaged",
                "AVAILABLE snapshots that were captured with damaged pages.",
                labels=["region"],
            ),
            Counter(snapshot.region for snapshot in known if snapshot.damage is not None),
        )
        yield _by_region(
            GaugeMetricFamily("stillframe_open_snapshots", "Snapshots that are open.", labels=["region"]),
            opened,
        )
        yield from _verification_figures(verifications)

    def _repositories(self) -> Iterator[Metric]:
        stored = GaugeMetricFamily(
            "stillframe_repository_stored_bytes", "Bytes that a Region's repository takes.", labels=["region"]
        )
        try:
            for region, repository in self._parts.repositories.existing():
                stored.add_metric([region], repository.statistics().stored_bytes)
        except StillframeError:
            # A store that does not answer has no figures, and the catalog's are none the worse for it.
            return
        yield stored


def _proof_figures(proofs: Sequence[Proof]) -> Iterator[Metric]:
    count = GaugeMetricFamily(
        "stillframe_snapshot_proofs",
        "Snapshots by the result of their newest proof.",
        labels=["region", "result"],
    )
    for (region, result), number in Counter((proof.region, proof.result.value) for proof in proofs).items():
        count.add_metric([region, result], number)
    newest = GaugeMetricFamily(
        "stillframe_snapshot_last_proof_timestamp_seconds",
        "When a snapshot was last proven.",
        labels=["region"],
    )
    yield count
    yield _by_region(newest, _newest((proof.region, proof.proved_at) for proof in proofs))


def _verification_figures(verifications: Sequence[Verification]) -> Iterator[Metric]:
    yield _by_region(
        GaugeMetricFamily(
            "stillframe_repository_verified_timestamp_seconds",
            "When every stored byte was last read and checked.",
            labels=["region"],
        ),
        _newest((found.region, found.finished_at) for found in verifications),
    )
    yield _by_region(
        GaugeMetricFamily(
            "stillframe_repository_findings", "What was wrong then, in number.", labels=["region"]
        ),
        {found.region: found.finding_count for found in verifications},
    )


def _newest(moments: Iterable[tuple[Region, datetime]]) -> dict[Region, float]:
    newest: dict[Region, float] = {}
    for region, moment in moments:
        newest[region] = max(newest.get(region, 0.0), moment.timestamp())
    return newest


def _by_region(family: GaugeMetricFamily, values: Mapping[Region, float]) -> GaugeMetricFamily:
    for region, value in values.items():
        family.add_metric([region], value)
    return family


def _duration(operation: Operation) -> float:
    """Seconds from the first attempt to the end."""
    if operation.started_at is None or operation.finished_at is None:
        return 0.0
    return (operation.finished_at - operation.started_at).total_seconds()
