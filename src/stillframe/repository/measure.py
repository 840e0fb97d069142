"""How much a repository holds."""

from dataclasses import dataclass

from stillframe.objectstore import ObjectStore
from stillframe.repository.format import (
    ATTRIBUTES,
    CENSUS,
    CONDEMNED,
    CONFIG_NAME,
    EPOCHS,
    INDEX,
    KEYS,
    NODES,
    PACKS,
    PINS,
    RETIRED,
    SNAPSHOTS,
    VERIFIED,
)

_PREFIXES = (
    CONFIG_NAME,
    KEYS,
    PACKS,
    NODES,
    SNAPSHOTS,
    ATTRIBUTES,
    EPOCHS,
    PINS,
    RETIRED,
    CONDEMNED,
    VERIFIED,
    INDEX,
    CENSUS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryStatistics:
    """Counts, and lengths in bytes. `stored_bytes` is everything there is."""

    snapshots: int
    packs: int
    pack_bytes: int
    node_packs: int
    node_bytes: int
    data_keys: int
    open_or_abandoned_writers: int
    pins: int
    stored_bytes: int


def measure(store: ObjectStore) -> RepositoryStatistics:
    """Count what the store lists. Raises what the store raises."""
    sizes = {prefix: [stored.size for stored in store.list(prefix)] for prefix in _PREFIXES}
    return RepositoryStatistics(
        snapshots=len(sizes[SNAPSHOTS]),
        packs=len(sizes[PACKS]),
        pack_bytes=sum(sizes[PACKS]),
        node_packs=len(sizes[NODES]),
        node_bytes=sum(sizes[NODES]),
        data_keys=len(sizes[KEYS]),
        open_or_abandoned_writers=len(sizes[EPOCHS]),
        pins=len(sizes[PINS]),
        stored_bytes=sum(map(sum, sizes.values())),
    )
