"""Laying a snapshot out as a directory that a server can be started on: what every restore begins with."""

from stillframe.backup.restore import restore
from stillframe.postgres.cluster import Cluster
from stillframe.repository import SnapshotReader
from stillframe.service.foundation import Foundation
from stillframe.service.jobs.watch import Watch


def lay_out(base: Foundation, reader: SnapshotReader, cluster: Cluster, watch: Watch) -> int:
    """Write the snapshot's files as this cluster's; the timeline that this copy, and no other, will have.

    Raises what `stillframe.backup.restore.restore` raises.
    """
    facts = reader.document.facts
    cluster.identity.make_directory(cluster.data_directory.parent)
    with base.catalog.transaction() as transaction:
        timeline = transaction.take_timeline(facts.postgres.system_identifier, facts.timeline + 1)
    restore(
        reader,
        cluster.data_directory,
        identity=cluster.identity,
        threads=base.settings.copy_threads,
        progress=watch.progress,
        cancel=watch.cancel,
    )
    return timeline
