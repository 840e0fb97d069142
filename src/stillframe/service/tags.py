"""Tags on resources: rules, storage and the three tag operations."""

import re
from collections.abc import Iterable, Sequence

from stillframe.catalog import Transaction
from stillframe.domain.access import Caller, Tag
from stillframe.domain.identifiers import Arn, ResourceKind, SnapshotId
from stillframe.domain.snapshot import SnapshotStatus
from stillframe.errors import InvalidRequest, TooManyTags
from stillframe.service.foundation import Foundation
from stillframe.service.keys import require_usable
from stillframe.service.repositories import Repositories
from stillframe.service.resources import require_resource

_TAG_TEXT = re.compile(r"[\w\s.:/=+\-@]*")


def check_tags(tags: Sequence[tuple[str, str]]) -> None:
    """Raise InvalidRequest unless keys are unique, not `aws:`, and made of the allowed characters.

    Source: user guide, "Tagging resources": letters, digits, space and `_ . : / = + - @`.
    """
    keys = [key for key, _ in tags]
    if len(set(keys)) != len(keys):
        raise InvalidRequest("Tag keys must be unique: a key was given more than once.")
    for key, value in tags:
        if key.lower().startswith("aws:"):
            raise InvalidRequest("Tag keys must not begin with aws:, which is reserved.")
        if not _TAG_TEXT.fullmatch(key) or not _TAG_TEXT.fullmatch(value):
            raise InvalidRequest(
                "Tag keys and values may hold letters, digits, spaces and the characters _.:/=+-@ only."
            )


def attach(transaction: Transaction, arn: str, tags: Iterable[tuple[str, str]], *, limit: int) -> None:
    """Add or change tags of a resource; raise TooManyTags when it would carry more than `limit`."""
    transaction.take_turn(f"tags of {arn}")
    new = dict(tags)
    present = {tag.key for tag in transaction.tags.list(resource_arn=arn)}
    if len(present | set(new)) > limit:
        raise TooManyTags(f"A resource can have at most {limit} tags.", resource_name=arn)
    for key, value in new.items():
        transaction.tags.upsert(Tag(resource_arn=arn, key=key, value=value))


class Tags:
    """TagResource, UntagResource, ListTagsForResource."""

    def __init__(self, foundation: Foundation, repositories: Repositories) -> None:
        self._base = foundation
        self._repositories = repositories

    def tag(self, caller: Caller, arn: str, tags: Sequence[tuple[str, str]]) -> None:
        """Add or change tags. Raises NotFound, TooManyTags, InvalidRequest, KeyUnavailable (a snapshot's key)."""
        check_tags(tags)
        with self._base.catalog.transaction() as transaction:
            require_resource(transaction, caller.scope, arn)
            self._require_writable(transaction, arn)
            attach(transaction, arn, tags, limit=self._base.settings.quotas.tags)
        self._remember(arn)

    def untag(self, caller: Caller, arn: str, keys: Sequence[str]) -> None:
        """Remove tags; one that is not there is no error. Raises NotFound, KeyUnavailable (a snapshot's key)."""
        with self._base.catalog.transaction() as transaction:
            require_resource(transaction, caller.scope, arn)
            self._require_writable(transaction, arn)
            for key in keys:
                transaction.tags.delete(resource_arn=arn, key=key)
        self._remember(arn)

    def list(self, caller: Caller, arn: str) -> list[Tag]:
        """The tags of a resource by key. Raises NotFound."""
        with self._base.catalog.transaction() as transaction:
            require_resource(transaction, caller.scope, arn)
            return sorted(transaction.tags.list(resource_arn=arn), key=lambda tag: tag.key)

    def _require_writable(self, transaction: Transaction, text: str) -> None:
        """Raise KeyUnavailable for a snapshot whose key can't be used: its tags are under that key, too."""
        arn = Arn.parse(text)
        snapshot = transaction.snapshots.find(id=arn.id) if arn.kind is ResourceKind.SNAPSHOT else None
        if snapshot is not None and snapshot.status is SnapshotStatus.AVAILABLE:
            require_usable(self._base, snapshot.kms_key_id)

    def _remember(self, text: str) -> None:
        """A snapshot's tags are in the repository too, so that a catalog rebuilt from it has them."""
        arn = Arn.parse(text)
        if arn.kind is not ResourceKind.SNAPSHOT:
            return
        with self._base.catalog.transaction() as transaction:
            tags = {tag.key: tag.value for tag in transaction.tags.list(resource_arn=text)}
        self._repositories.remember(arn.region, SnapshotId(arn.id), tags=tags)
