"""Number and length of an event loop's stalls, as ``turns.TurnWatch`` counts them. Pure."""

from dataclasses import dataclass
from typing import Final

STALLS: Final = "loop.stalls"
"""Name of the counter of stalls."""
STALLED_MS: Final = "loop.stalled_ms"
"""Name of the counter of all stalls' milliseconds together."""


@dataclass(frozen=True, slots=True)
class Stalls:
    """Stalls of the last ten minutes."""

    count: int = 0
    """Number of stalls, at most 64: only the newest 64 are remembered."""
    longest: float = 0.0
    """Length of the longest remembered stall, in seconds; 0 without one."""


NO_STALLS: Final = Stalls()
"""Stalls of a loop that has not stalled."""
