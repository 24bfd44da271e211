"""How often and how long the event loop stood still, as ``turns`` counts it. Pure."""

from dataclasses import dataclass
from typing import Final

STALLS: Final = "loop.stalls"
STALLED_MS: Final = "loop.stalled_ms"


@dataclass(frozen=True, slots=True)
class Stalls:
    """Counts the stalls of the last ten minutes."""

    count: int = 0
    """At most 64: of more the newest."""
    longest: float = 0.0
    """Seconds."""


NO_STALLS: Final = Stalls()
