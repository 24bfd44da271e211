"""How long to wait before the next attempt.

Doubling from 50 ms to 10 s, jittered so that a restarted server is not met by all its nodes at once.
"""

from coderd.model import RandomBytes

FIRST = 0.05
LONGEST = 10.0
STEADY = 10.0
"""Seconds that a connection must have lasted for the next wait to be short again."""


class Backoff:
    """The waits between attempts."""

    def __init__(self, rng: RandomBytes) -> None:
        self._rng = rng
        self._ceiling = FIRST
        self.attempts = 0

    def next_delay(self) -> float:
        """Seconds to wait now: uniform between half the ceiling and the ceiling, which then doubles."""
        fraction = int.from_bytes(self._rng(4), "big") / 2**32
        delay = self._ceiling * (0.5 + 0.5 * fraction)
        self._ceiling = min(self._ceiling * 2, LONGEST)
        self.attempts += 1
        return delay

    def handle_connection(self, lasted: float) -> None:
        """A connection ended after ``lasted`` seconds; one that ends at once does not count as success."""
        self.attempts = 0
        if lasted >= STEADY:
            self._ceiling = FIRST
