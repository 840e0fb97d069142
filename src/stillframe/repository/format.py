"""Numbers and names of the stored form, version 1 (docs/spec/repository-v1.md). Changing one changes it."""

from enum import IntEnum

FORMAT_VERSION = 1

BLOCK = 8192
"""Bytes of a PostgreSQL page; the only page size this version stores."""
FRAME_BLOCKS = 32
"""Most pages of a frame: 256 KiB compress well, and are what one page read alone has to fetch."""
FRAME_BYTES = FRAME_BLOCKS * BLOCK
CHUNK_BYTES = 1 << 20
"""Bytes of a chunk of a file that has no pages; only the last one of a file is shorter."""
INLINE_BYTES = 1024
"""Files up to this length are kept in their entry: a frame of its own would cost more than it holds."""
LEAF_BLOCKS = 1024
"""Pages that one leaf describes (8 MiB): a changed page rewrites one leaf of 1-2 KB."""
LIST_FANOUT = 1024
"""References in one node of a list."""
MAP_FANOUT = 16
MAP_LEAF_RECORDS = 32
"""A node of a map holds up to this many records; with more below, it has 16 children by hash of the name."""

PACK_TARGET = 32 << 20
NODE_PACK_TARGET = 4 << 20
LARGEST_PLAIN = 1 << 20
"""No content is longer, so nothing stored can make a reader allocate more."""

ID_BYTES = 32
KEY_BYTES = 32
REF_BYTES = 16
TAG_BYTES = 16

CONFIG_NAME = "repository.json"
KEYS = "keys/"
PACKS = "packs/"
NODES = "nodes/"
SNAPSHOTS = "snapshots/"
ATTRIBUTES = "attributes/"
EPOCHS = "epochs/"
PINS = "pins/"
RETIRED = "retired/"
CONDEMNED = "condemned/"
VERIFIED = "verified/"
INDEX = "index/"
CENSUS = "census/"

COLLECTOR_CLAIM = "collector"
"""Held alone by a sweep, so that two do not do the same work; nothing is unsafe without it."""
INDEXER_CLAIM = "indexer"
"""Held alone by whoever writes index objects, for the same reason."""


class ContentKind(IntEnum):
    """What content is. Part of its address, so one kind can never be read as another."""

    PAGES = 1
    CHUNK = 2
    DIRECTORY_MAP = 3
    FILE_MAP = 4
    LEAF = 5
    LEAF_LIST = 6
    CHUNK_LIST = 7

    @property
    def is_node(self) -> bool:
        """Whether it is a document of the tree, and not a file's bytes."""
        return self > ContentKind.CHUNK


class Codec(IntEnum):
    """How content was made smaller before it was sealed."""

    RAW = 0
    ZSTD = 1
