"""A machine keeps its free memory for the length of a run, and is left as it was."""

from pathlib import Path

import pytest
from bench import backing
from bench.backing import kept_memory

pytestmark = pytest.mark.unit


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel's parameter would be, on a machine with a balloon that reports free pages."""
    device = tmp_path / "devices" / "virtio0"
    device.mkdir(parents=True)
    (device / "device").write_text("0x0005\n")
    (device / "features").write_text("0110010000\n")
    order = tmp_path / "order"
    order.write_text("9\n")
    monkeypatch.setattr(backing, "_DEVICES", tmp_path / "devices")
    monkeypatch.setattr(backing, "_ORDER", order)
    monkeypatch.setattr(backing, "_LEFT", 1 << 60)
    return order


def test_free_memory_is_kept_during_a_run_and_given_back_after_it(order: Path) -> None:
    with kept_memory(wanted=True) as told:
        assert order.read_text() == "11"
        assert told.startswith("kept from the host")
    assert order.read_text() == "9"


def test_it_is_given_back_after_a_run_that_failed(order: Path) -> None:
    with pytest.raises(ZeroDivisionError), kept_memory(wanted=True):
        _ = 1 / 0
    assert order.read_text() == "9"


def test_it_is_told_when_nobody_wants_it_kept_or_nobody_may(
    order: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept_memory(wanted=False) as told:
        assert order.read_text() == "9\n"
        assert told.startswith("given back")
    monkeypatch.setattr("bench.backing.os.access", lambda *_: False)
    with kept_memory(wanted=True) as told:
        assert order.read_text() == "9\n"
        assert told.startswith("given back")


@pytest.mark.parametrize("device", ["0x0002", "0x0005"])
def test_a_machine_without_such_a_balloon_is_left_alone(order: Path, tmp_path: Path, device: str) -> None:
    (tmp_path / "devices" / "virtio0" / "device").write_text(device)
    (tmp_path / "devices" / "virtio0" / "features").write_text(
        "0110000000" if device == "0x0005" else "1" * 10
    )
    with kept_memory(wanted=True) as told:
        assert told == "stays with the machine"
    assert order.read_text() == "9\n"
