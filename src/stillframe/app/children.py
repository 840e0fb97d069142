"""The worker process as the service sees it: started, watched, started again, ended."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import structlog

import stillframe
from stillframe.config import Settings
from stillframe.errors import ServerUnavailable

log = structlog.get_logger(__name__)

_RESTART_SECONDS = 1.0
_END_SECONDS = 30.0


class Worker:
    """Keeps one worker process alive until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._catalog_ready = threading.Event()
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The running worker's pid."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the process; it loads while the catalog comes up. Raises ServerUnavailable."""
        with self._lock:
            self._start()

    def catalog_is_ready(self) -> None:
        """Let the worker begin, and from now on watch over it."""
        with self._lock:
            self._catalog_ready.set()
            self._say_ready()
        threading.Thread(target=self._keep_alive, name="worker-watch", daemon=True).start()

    def stop(self) -> None:
        """End the worker: running work is asked to stop, then it is killed."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _close_pipe(process)

    def _keep_alive(self) -> None:
        while not self._stopping.wait(_RESTART_SECONDS):
            with self._lock:
                process = self._process
                if process is None or process.poll() is None or self._stopping.is_set():
                    continue
                log.error("worker_ended", status=process.returncode)
                _close_pipe(process)
                try:
                    self._start()
                except ServerUnavailable as error:
                    log.error("worker_does_not_start", reason=error.message)

    def _start(self) -> None:
        self._process = self._launch()
        if self._catalog_ready.is_set():
            self._say_ready()

    def _launch(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "stillframe.app.worker"]
        source = str(Path(stillframe.__file__).parent.parent)
        try:
            process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=_environment(source),
                cwd="/",
            )
        except OSError as error:
            raise ServerUnavailable(f"The worker process could not be started: {error.strerror}") from error
        _say(process, self._settings.model_dump_json(exclude={"secret_access_key"}).encode() + b"\n")
        return process

    def _say_ready(self) -> None:
        if self._process is not None:
            _say(self._process, b".")


def _say(process: "subprocess.Popen[bytes]", text: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(text)
    except BrokenPipeError:
        # It has ended already; the watch starts another one.
        return


def _close_pipe(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.close()


def _environment(source: str) -> dict[str, str]:
    """Ours without what belongs to clients; the search path stays, for it may be how this package was found."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "PG", "STILLFRAME_"))
    }
    path = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
