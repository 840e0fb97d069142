"""Checks of the place where repositories are kept, when that is not the data directory."""

import tempfile
from pathlib import Path

from stillframe.cli.doctor.finding import Finding, fail, ok
from stillframe.config import Settings
from stillframe.errors import StillframeError
from stillframe.objectstore.s3location import S3Patience
from stillframe.service.stores import s3_credentials, s3_location

_PATIENCE = S3Patience(request=10.0, retries=3, total=20.0)


def check_repository(settings: Settings) -> Finding:
    """That the bucket is there, lets us in, and does what a repository relies on; leaves nothing in it."""
    name = "Repository"
    if settings.repository_url is None:
        return ok(name, "in the data directory")
    try:
        _try_bucket(settings)
    except StillframeError as error:
        return fail(name, error.message, error.hint)
    return ok(
        name, f"{s3_location(settings)} creates, replaces, reads, lists and deletes objects as it should"
    )


def _try_bucket(settings: Settings) -> None:
    from stillframe.objectstore.s3 import try_s3_location

    with tempfile.TemporaryDirectory() as claims:
        try_s3_location(
            s3_location(settings),
            claims=Path(claims),
            patience=_PATIENCE,
            credentials=s3_credentials(settings),
        )
