"""Work that must be done in the end, whatever the source says meanwhile."""

import threading
from collections.abc import Callable

import structlog

from stillframe.hydration.ledger import Ledger

log = structlog.get_logger(__name__)

_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 5.0


class Perseverance:
    """Tries again until it works, or until `stop` is set."""

    def __init__(self, ledger: Ledger, stop: threading.Event) -> None:
        self._ledger = ledger
        self._stop = stop

    @property
    def ended(self) -> bool:
        """Whether everybody should give up."""
        return self._stop.is_set()

    def until_done(self, step: Callable[[], None], *, work: str) -> bool:
        """Whether the step worked at last; False when the hydration was stopped before.

        `work` says in a few words what it is for. While it fails, the status shows why.
        """
        delay, turn = _FIRST_DELAY_SECONDS, object()
        while not self._stop.is_set():
            try:
                step()
            except Exception as error:  # noqa: BLE001 - an access that waits can be given nothing but its bytes
                self._ledger.failed(turn, f"{work}: {error}")
                log.warning("hydration_waits", work=work, kind=type(error).__name__, reason=str(error))
                self._stop.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
            else:
                self._ledger.healed(turn)
                return True
        return False
