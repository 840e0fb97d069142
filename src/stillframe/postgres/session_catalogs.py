"""Which catalogs every new session reads, in a server that has just started on files without caches of them.

Such a session builds its cache of catalogs from these (PostgreSQL: relcache.c, RelationCacheInitializePhase3()), and
the first query finds its relations, operators and estimates in them. A catalog's first file has its OID for a name,
until somebody rewrites it.
"""

from stillframe.postgres.files import Fork, parse_relation_name

_TEMPLATES = frozenset({"base/1", "base/4"})
"""template1 and template0: nobody's first session is there (catalog/pg_database.dat)."""

_MOST_USED = ("global", "base/5")
"""The second is the database postgres (PostgreSQL: PostgresDbOid)."""

_CLUSTER_WIDE = frozenset({
    1213, 2697,  # tablespaces
    1260, 2676, 2677,  # roles
    1262, 2671, 2672,  # databases
    2965,  # settings of roles and databases
})  # fmt: skip

_OF_EACH_DATABASE = frozenset({
    1247, 2703,  # types
    1249, 2659,  # columns
    1259, 2662, 2663,  # relations
    2600, 2650,  # aggregates
    2601,  # access methods
    2602, 2653, 2654,  # operators of operator families
    2603, 2655,  # functions of operator families
    2606, 2665,  # constraints
    2610, 2678, 2679,  # indexes
    2615, 2684, 2685,  # schemas
    2616, 2687,  # operator classes
    2617, 2688, 2689,  # operators
    2619, 2696, 3379,  # statistics
    2690,  # functions by OID; the functions themselves are many, and few are looked at
})  # fmt: skip


def by_use(path: str) -> int:
    """A sort key: what all sessions share, then the database that the service itself goes to, then all others."""
    folder = path.rpartition("/")[0]
    return _MOST_USED.index(folder) if folder in _MOST_USED else len(_MOST_USED)


def is_for_every_session(path: str) -> bool:
    """Whether a file, by its path below the data directory, holds what every first session reads for the most part."""
    folder, _, name = path.rpartition("/")
    relation = parse_relation_name(name)
    if relation is None or relation.fork is not Fork.MAIN or relation.segment:
        return False
    if folder == "global":
        return relation.number in _CLUSTER_WIDE
    return folder.startswith("base/") and folder not in _TEMPLATES and relation.number in _OF_EACH_DATABASE
