"""Our own operations for clients: a botocore session that knows the extension's service model."""

from typing import Any

from botocore.loaders import Loader
from botocore.session import Session

from stillframe.aws.model import extension_document, redshift_serverless_document

SERVICE = "stillframe"
"""The name to make a client of, beside `redshift-serverless`."""


class ExtensionLoader(Loader):  # type: ignore[misc]
    """botocore's loader, which also knows the service `stillframe`."""

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """As botocore's, except for the service model of `stillframe`."""
        if (service_name, type_name) == (SERVICE, "service-2"):
            return extension_document(redshift_serverless_document())
        return super().load_service_model(service_name, type_name, api_version)


def extension_session() -> Session:
    """A botocore session that makes clients of `redshift-serverless` and of `stillframe`.

    `boto3.Session(botocore_session=extension_session())` gives the same for boto3.
    """
    session = Session()
    session.register_component("data_loader", ExtensionLoader(session.get_config_variable("data_path")))
    return session
