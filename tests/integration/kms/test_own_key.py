"""The service's own key: lost, it stops the start with a sentence, and is never replaced by another one."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.errors import ServerUnavailable
from support.service import running_service

pytestmark = pytest.mark.integration


@pytest.fixture
def data() -> Iterator[Path]:
    # Not pytest's directory: every pytest that starts makes that one unreachable for the servers' own user.
    with tempfile.TemporaryDirectory(prefix="stillframe-test-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o711)
        yield Path(directory) / "data"


def test_a_service_without_its_own_key_does_not_start_until_the_key_is_back(data: Path) -> None:
    with running_service(data=data) as service:
        access_key = service.local.address.access_key_id
        secret = service.local.address.secret_access_key
    keys, kept = data / "keys", data / "kept"
    keys.rename(kept)
    with pytest.raises(ServerUnavailable) as caught, running_service(data=data):
        pass
    told = f"{caught.value.message} {caught.value.hint}"
    assert "The key AWS_OWNED_KMS_KEY does not exist." in told
    assert "kept safe" in told
    assert list(keys.iterdir()) == []
    keys.rmdir()
    kept.rename(keys)
    with running_service(data=data) as service:
        address = service.local.address
        assert (address.access_key_id, address.secret_access_key) == (access_key, secret)
        assert service.account().client.list_namespaces()["namespaces"] == []
