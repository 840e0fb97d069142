"""After a reboot: nothing runs, sockets are gone, and the noted pids are those of strangers."""

import subprocess
from pathlib import Path

import pytest

from support.crash_checks import check_everything
from support.crash_operations import make_world
from support.crash_processes import kill
from support.crash_rig import PATIENCE, Rig

pytestmark = pytest.mark.integration


def test_stale_notes_with_recycled_pids_mislead_nobody(rig: Rig) -> None:
    world = make_world(rig.start())
    kill(rig.processes())
    rig.service.wait(PATIENCE)
    with subprocess.Popen(["/bin/sleep", "600"]) as stranger:
        try:
            assert _note_everywhere(rig.data, stranger.pid) >= 4
            for path in rig.data.rglob("*"):
                if path.is_socket():
                    path.unlink()
            rig.start()
            rig.settle()
            check_everything(world, rig.settle())
            assert stranger.poll() is None
        finally:
            stranger.kill()


def _note_everywhere(data: Path, pid: int) -> int:
    """Write a stranger's pid into every file that notes one; how many those are."""
    notes = [*data.rglob("postmaster.pid"), *data.rglob("endpoint.sock.lock"), *data.rglob(".s.PGSQL.*.lock")]
    for note in notes:
        _, separator, rest = note.read_text().partition("\n")
        note.write_text(f"{pid}{separator}{rest}")
    return len(notes)
