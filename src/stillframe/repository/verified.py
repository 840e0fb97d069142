"""What a check has verified, so that the next one reads what is new.

One sealed object for each data key. It saves reading and decides nothing else: losing it, or one that does not
open, means that everything is read again.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from stillframe.domain.clock import Clock
from stillframe.errors import DataError
from stillframe.objectstore import ObjectStore
from stillframe.repository.crypto import DataKey
from stillframe.repository.documents import replace_object
from stillframe.repository.format import VERIFIED
from stillframe.repository.pack import PackName
from stillframe.repository.vault import Vault


class VerifiedPack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every byte of a pack of this length was in order then."""

    size: int
    at: datetime


class VerifiedDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stored form."""

    version: Literal[1] = 1
    kind: Literal["verified"] = "verified"
    packs: dict[str, VerifiedPack]


class VerifiedPacks:
    """The memory for the packs of one data key. A pack is passed over for `remembered_for`; None: for no time."""

    def __init__(
        self,
        store: ObjectStore,
        vault: Vault,
        *,
        key: DataKey,
        clock: Clock,
        remembered_for: timedelta | None,
    ) -> None:
        self._store = store
        self._vault = vault
        self._key = key
        self._clock = clock
        self._remembered_for = remembered_for
        self._name = f"{VERIFIED}{key.reference}"
        self._packs = self._loaded()

    def covers(self, pack: PackName, size: int) -> bool:
        """Whether a pack of this length need not be read. One verified in the future is not believed."""
        known = self._packs.get(str(pack))
        if known is None or self._remembered_for is None or known.size != size:
            return False
        return timedelta() <= self._clock.now() - known.at < self._remembered_for

    def note(self, pack: PackName, size: int) -> None:
        """All of this pack was read and is in order."""
        self._packs[str(pack)] = VerifiedPack(size=size, at=self._clock.now())

    def forget(self, pack: PackName) -> None:
        """It is not."""
        self._packs.pop(str(pack), None)

    def save(self, present: Mapping[PackName, int]) -> None:
        """Keep what is known of packs that are still there. Raises what the store raises."""
        names = {str(name) for name in present}
        packs = {name: pack for name, pack in sorted(self._packs.items()) if name in names}
        seal = self._vault.sealer(self._key)
        replace_object(self._store, self._name, seal(VerifiedDocument(packs=packs), self._name))

    def _loaded(self) -> dict[str, VerifiedPack]:
        try:
            return dict(self._vault.opened(VerifiedDocument, self._store.get(self._name), self._name).packs)
        except DataError:
            return {}
