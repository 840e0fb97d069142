"""The worker process: carries out operations, watches the servers, sweeps.

It belongs to one service process and ends with it: a pipe from there reaches its end when that process is gone,
however it went. Work that is cut off by this is found again at the next start.
"""

import gc
import os
import signal
import sys
import threading
from functools import partial

import structlog
from setproctitle import setproctitle

from stillframe.app.catalog_server import catalog_conninfo
from stillframe.app.composition import (
    Parts,
    build_open_copies,
    build_parts,
    build_proof_schedule,
    build_retention,
    build_runner,
    build_supervisor,
    build_verification_schedule,
)
from stillframe.app.hydrator import hydrate
from stillframe.app.lock import held_lock
from stillframe.app.nursery import Nursery
from stillframe.app.privileges import give_up_administration, take_up_administration
from stillframe.catalog import JobWorker, PeriodicTask, recover
from stillframe.config import Settings
from stillframe.postgres.machine import Machine, find_machine
from stillframe.service.jobs.runner import Runner
from stillframe.telemetry.logging import configure_logging

log = structlog.get_logger(__name__)

WATCH_SECONDS = 2.0
GRACE_SECONDS = 20.0
_HANDOVER_SECONDS = 30.0
"""How long the worker of a killed service may take to notice and let go."""


def main() -> int:
    """The worker as a program of its own: settings come as the first line of standard input."""
    # What is imported stays: no collection of garbage has to go through it.
    gc.freeze()
    parent = ParentPipe(sys.stdin.fileno())
    settings = Settings.model_validate_json(parent.first_line())
    configure_logging(settings.log_level, json=settings.log_json)
    return run_worker(settings, parent)


def run_worker(settings: Settings, parent: "ParentPipe", machine: Machine | None = None) -> int:
    """Work until SIGTERM, or until the service is gone; the exit status.

    A fork of the service gets the `machine` that the service has found.
    """
    take_up_administration()
    machine = machine or find_machine(settings.postgres_bin, server_user=settings.server_user)
    # Before this process has threads.
    nursery = Nursery(settings, partial(hydrate, machine))
    give_up_administration()
    parent.follow()
    # A fork of the service would look like a second one in a list of processes.
    setproctitle(f"stillframe.app.worker --data {settings.paths.root}")
    parts = build_parts(settings, machine=machine, launcher=nursery)
    with held_lock(
        settings.paths.run / "worker.lock",
        patience=_HANDOVER_SECONDS,
        message=f"Another worker still runs on {settings.paths.root}",
    ):
        parent.await_catalog()
        return _work(parts)


class ParentPipe:
    """What the service says through a pipe: its settings, that the catalog is ready, and its own end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ready = threading.Event()

    def first_line(self) -> bytes:
        """The settings as JSON."""
        line = b""
        while not line.endswith(b"\n"):
            line += self._read_or_end()
        return line

    def follow(self) -> None:
        """From now on the end of the pipe ends this process."""
        threading.Thread(target=self._follow, name="parent", daemon=True).start()

    def await_catalog(self) -> None:
        """Return when the catalog is there and migrated."""
        self._ready.wait()

    def _follow(self) -> None:
        while self._read_or_end():
            self._ready.set()

    def _read_or_end(self) -> bytes:
        """One byte, without Python's buffers, which a daemon thread must not hold at exit."""
        byte = os.read(self._descriptor, 1)
        if not byte:
            os._exit(3)
        return byte


def _work(parts: Parts) -> int:
    conninfo = catalog_conninfo(parts.catalog_cluster)
    runner, supervisor, retention = build_runner(parts), build_supervisor(parts), build_retention(parts)
    open_copies = build_open_copies(parts)
    requeued = recover(conninfo)
    supervisor.reconcile()
    open_copies.reconcile()
    log.info("worker_started", pid=os.getpid(), requeued=requeued)
    worker = JobWorker(
        conninfo,
        run=runner.run,
        concurrency=parts.settings.jobs,
        periodic=(
            PeriodicTask(name="watch", every_seconds=WATCH_SECONDS, action=supervisor.watch),
            PeriodicTask(name="open snapshots", every_seconds=WATCH_SECONDS, action=open_copies.watch),
            PeriodicTask(name="sweep", every_seconds=parts.settings.sweep_seconds, action=retention.sweep),
            *_assurance(parts),
        ),
    )
    _stop_on_signal(worker, runner)
    worker.run_until_stopped()
    open_copies.close_all()
    log.info("worker_stopped")
    return 0


def _assurance(parts: Parts) -> tuple[PeriodicTask, PeriodicTask]:
    """Looking whether what is stored can be trusted; most turns find that nothing is due."""
    proofs, verification = build_proof_schedule(parts), build_verification_schedule(parts)
    pause = parts.settings.sweep_seconds
    return (
        PeriodicTask(name="proofs", every_seconds=pause, action=proofs.turn),
        PeriodicTask(name="verification", every_seconds=pause, action=verification.turn),
    )


def _stop_on_signal(worker: JobWorker, runner: Runner) -> None:
    def stop() -> None:
        runner.stop()
        worker.stop(GRACE_SECONDS)

    def on_signal(_number: int, _frame: object) -> None:
        # In a thread: a signal handler interrupts whatever the main thread holds.
        threading.Thread(target=stop, name="stop", daemon=True).start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
