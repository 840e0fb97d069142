"""The object store port on S3 and what speaks its protocol. Importing this loads the driver, obstore."""

from stillframe.objectstore.s3.store import (
    S3ObjectStore,
    folders_with_store,
    open_s3_store,
    try_s3_location,
)

__all__ = ["S3ObjectStore", "folders_with_store", "open_s3_store", "try_s3_location"]
