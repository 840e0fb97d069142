"""Files that are read before their content has arrived (Linux 6.14 and newer: fanotify's pre-content events).

A file that is arriving has its final length, a tag that tells this length, and holes where content is missing. The
state is nothing but that: a process that dies leaves no journal behind which could be lost.
"""

from stillframe.hydration.client import HydratorClient
from stillframe.hydration.descriptors import prepare_descriptors
from stillframe.hydration.hydrator import Hydrator, Surroundings
from stillframe.hydration.ledger import HydrationStatus
from stillframe.hydration.probe import Probe, probe
from stillframe.hydration.source import Batch, PageCheck, Source
from stillframe.hydration.tags import TAG, tag, tagged

__all__ = [
    "TAG",
    "Batch",
    "HydrationStatus",
    "Hydrator",
    "HydratorClient",
    "PageCheck",
    "Probe",
    "Source",
    "Surroundings",
    "prepare_descriptors",
    "probe",
    "tag",
    "tagged",
]
