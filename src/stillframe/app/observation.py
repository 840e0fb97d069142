"""Figures that are read from the catalog when they are asked for, so that both processes' work is in them."""

import shutil
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from stillframe.app.composition import Parts
from stillframe.domain.operation import Operation, OperationKind, OperationStatus
from stillframe.domain.snapshot import SnapshotStatus
from stillframe.errors import StillframeError


class CatalogCollector:
    """A Prometheus collector over the catalog and the data directory."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked of the catalog at registration."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All families; none of the catalog's when it does not answer, which is a figure of its own."""
        try:
            families = [*self._operations(), *self._snapshots(), *self._repositories()]
            up = 1
        except StillframeError:
            families, up = [], 0
        yield GaugeMetricFamily("stillframe_catalog_up", "Whether the catalog answers.", value=up)
        free = shutil.disk_usage(self._parts.settings.paths.root).free
        yield GaugeMetricFamily(
            "stillframe_data_free_bytes", "Free bytes below the data directory.", value=free
        )
        yield from families

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
            for kind in OperationKind:
                for status in OperationStatus:
                    number = transaction.operations.count(kind=kind, status=status)
                    count.add_metric([kind.value, status.value], number)
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

    def _repositories(self) -> Iterator[Metric]:
        stored = GaugeMetricFamily(
            "stillframe_repository_stored_bytes", "Bytes that a Region's repository takes.", labels=["region"]
        )
        for region, repository in self._parts.repositories.existing():
            stored.add_metric([region], repository.statistics().stored_bytes)
        yield stored


def _duration(operation: Operation) -> float:
    """Seconds from the first attempt to the end."""
    if operation.started_at is None or operation.finished_at is None:
        return 0.0
    return (operation.finished_at - operation.started_at).total_seconds()
