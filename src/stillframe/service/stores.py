"""Where each Region's repository is kept: below the data directory, or in a bucket."""

import threading
from typing import Protocol

from stillframe.config import Settings
from stillframe.domain.identifiers import Region, parse_region
from stillframe.errors import InvalidRequest
from stillframe.objectstore import ObjectStore
from stillframe.objectstore.s3location import S3Credentials, S3Location, S3Patience, parse_s3_location
from stillframe.service.room import RoomKeepingStore


class Stores(Protocol):
    """The object stores of one service, one for each Region."""

    def of(self, region: Region) -> ObjectStore:
        """The store of that Region, made when there is none yet. Raises OperatorError, StoreUnavailable."""
        ...

    def regions(self) -> list[Region]:
        """The Regions that have a store, in order. Raises as `of`."""
        ...


def stores_of(settings: Settings) -> Stores:
    """The stores that the settings name; asks nothing of them. Raises ConfigurationInvalid."""
    return S3Stores(settings) if settings.repository_url is not None else LocalStores(settings)


class LocalStores:
    """A directory for each Region below the data directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def of(self, region: Region) -> ObjectStore:
        """A directory that leaves the databases their room."""
        return RoomKeepingStore(self._settings.paths.repository(region))

    def regions(self) -> list[Region]:
        """Those that have a repository's directory."""
        return _regions_below(self._settings, "repository")


class S3Stores:
    """A folder of a bucket for each Region.

    The room of this machine's disk is not asked for: the store has its own. Claims stay here, below the data
    directory, so a bucket's folder belongs to one service at a time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._location = s3_location(settings)
        self._credentials = s3_credentials(settings)
        self._patience = S3Patience(request=settings.repository_timeout_seconds)
        self._found: list[Region] | None = None
        self._lock = threading.Lock()

    def of(self, region: Region) -> ObjectStore:
        """The Region's folder; tried before its first use."""
        # The driver takes memory and time that only those should spend who use it.
        from stillframe.objectstore.s3 import open_s3_store  # noqa: PLC0415

        return open_s3_store(
            self._location.below(region),
            claims=self._settings.paths.claims(region),
            credentials=self._credentials,
            patience=self._patience,
        )

    def regions(self) -> list[Region]:
        """Those used from this data directory, and those found in the bucket when this was asked first.

        So a new data directory finds the snapshots of a lost one, and the bucket is not asked every minute.
        """
        with self._lock:
            if self._found is None:
                self._found = self._found_in_bucket()
        return sorted({*self._found, *_regions_below(self._settings, "claims")})

    def _found_in_bucket(self) -> list[Region]:
        from stillframe.objectstore.s3 import folders_with_store  # noqa: PLC0415

        folders = folders_with_store(
            self._location, credentials=self._credentials, patience=self._patience, wanted=_is_region
        )
        return [Region(name) for name in folders]


def s3_location(settings: Settings) -> S3Location:
    """The folder that all Regions' folders are in. Raises ConfigurationInvalid."""
    return parse_s3_location(
        settings.repository_url or "",
        endpoint_url=settings.repository_endpoint_url,
        region=settings.repository_region,
        path_style=settings.repository_path_style,
    )


def s3_credentials(settings: Settings) -> S3Credentials | None:
    """The keys that were set; None leaves it to the SDK's chain. Raises ConfigurationInvalid for half a pair."""
    pair = settings.repository_key_pair
    if pair is None:
        return None
    token = settings.repository_session_token
    return S3Credentials(
        access_key_id=pair.access_key_id,
        secret_access_key=pair.secret_access_key.get_secret_value(),
        session_token=token.get_secret_value() if token is not None else None,
    )


def _regions_below(settings: Settings, used_for: str) -> list[Region]:
    found = (settings.paths.root / "regions").glob(f"*/{used_for}")
    return sorted(parse_region(directory.parent.name) for directory in found)


def _is_region(name: str) -> bool:
    try:
        parse_region(name)
    except InvalidRequest:
        return False
    return True
