"""How snapshots were taken, as their operations keep it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from stillframe.domain.operation import Operation

_CAPTURED = "captured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """Why everything was read, in a word (None: only what changed was), and which pages of maps were damaged."""

    full_because: str | None
    damaged_maps: Sequence[str]

    def beside(self, arguments: Mapping[str, object]) -> Mapping[str, object]:
        """The arguments of the operation, with this noted among them."""
        return {**arguments, _CAPTURED: asdict(self)}


def how_captured(operation: Operation) -> Captured | None:
    """How an operation took its snapshot; None for one that has not, or did so before that was noted."""
    noted = operation.arguments.get(_CAPTURED)
    return Captured(**noted) if isinstance(noted, dict) else None
