"""Reading the trailers of many packs, several at a time: one of them alone is mostly waiting for the store."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from stillframe.errors import DataError
from stillframe.objectstore import ObjectStore
from stillframe.repository.crypto import DataKey
from stillframe.repository.pack import Listing, PackName, list_pack

_FEW = 4
_THREADS = 8
_AT_ONCE = 512

Read = tuple[PackName, Listing | DataError]
"""A pack, and what its trailer says or why it cannot be read."""


def read_trailers(store: ObjectStore, key: DataKey, packs: Mapping[PackName, int]) -> Iterator[list[Read]]:
    """The trailers of packs of these lengths in bytes, some hundred at a time.

    Raises what the store raises.
    """

    def read(pack: tuple[PackName, int]) -> Read:
        name, size = pack
        try:
            return name, list_pack(store, name, key, size=size)
        except DataError as error:
            return name, error

    if len(packs) <= _FEW:
        yield [read(pack) for pack in packs.items()]
        return
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="stillframe-trailer")
    try:
        rest = iter(packs.items())
        while some := [threads.submit(read, pack) for pack in islice(rest, _AT_ONCE)]:
            yield [future.result() for future in some]
    finally:
        threads.shutdown(wait=True)
