"""How long to wait before dialling a relay again.

From 50 ms doubling to 5 s, jittered, so that a relay which restarts is not met by all its nodes in one instant.
"""

from coderd.model import RandomBytes

FIRST_CEILING = 0.05
LAST_CEILING = 5.0
STEADY = 10.0
"""Seconds that a link must have lasted for the next wait to be short again: one that breaks at once is a failure too."""


class Backoff:
    """The waits between attempts at one relay."""

    def __init__(self, rng: RandomBytes) -> None:
        self._rng = rng
        self._ceiling = FIRST_CEILING

    def next_delay(self) -> float:
        """Seconds to wait now, between half the ceiling and the ceiling; the ceiling doubles."""
        share = int.from_bytes(self._rng(4), "big") / 2**32
        delay = self._ceiling * (0.5 + share / 2)
        self._ceiling = min(2 * self._ceiling, LAST_CEILING)
        return delay

    def handle_link_ended(self, lasted: float) -> None:
        """A link was up for ``lasted`` seconds."""
        if lasted >= STEADY:
            self.reset()

    def reset(self) -> None:
        """There is reason to believe that the next attempt will do better."""
        self._ceiling = FIRST_CEILING
