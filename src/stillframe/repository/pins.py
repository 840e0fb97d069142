"""Pins: durable objects that keep a snapshot's content, and the way to open it, when the snapshot is deleted."""

import uuid

from stillframe.domain.clock import Clock
from stillframe.domain.identifiers import SnapshotId
from stillframe.errors import Conflict, ObjectMissing
from stillframe.objectstore import ObjectStore
from stillframe.repository.census import mark_pin
from stillframe.repository.config import DataKeys
from stillframe.repository.documents import create_object
from stillframe.repository.facts import PinDocument
from stillframe.repository.format import PINS
from stillframe.repository.vault import Vault


def create_pin(
    store: ObjectStore,
    vault: Vault,
    keys: DataKeys,
    clock: Clock,
    *,
    snapshot_id: SnapshotId,
    pin_id: uuid.UUID,
) -> None:
    """Pin a snapshot; the caller has a session, so that its content stays until the pin is durable.

    Raises Conflict when the pin is one of another snapshot, and what reading the snapshot's document raises.
    """
    if _is_pinned(vault, snapshot_id, pin_id):
        return
    document = vault.snapshot(snapshot_id)
    pin = PinDocument(pin_id=pin_id, pinned_at=clock.now(), snapshot=document)
    name = f"{PINS}{pin_id}"
    mark_pin(store, pin_id)
    try:
        create_object(store, name, vault.sealer(keys.cached(document.key_reference))(pin, name))
    except Conflict:
        # Somebody else made it in this moment, which is as good if it is the same.
        if not _is_pinned(vault, snapshot_id, pin_id):
            raise


def _is_pinned(vault: Vault, snapshot_id: SnapshotId, pin_id: uuid.UUID) -> bool:
    try:
        pinned = vault.pin(pin_id).snapshot.snapshot_id
    except ObjectMissing:
        return False
    if pinned != snapshot_id:
        raise Conflict(f"The pin {pin_id} is one of the snapshot {pinned}.")
    return True
