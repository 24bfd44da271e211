"""Waits before dialling again.

They double, with jitter, so that a restarted server is not dialled by all nodes at once.

A server that was just lost is mostly restarting, and back within seconds: the waits stop growing at ``BRISK``
until they add up to ``BRISK_FOR`` seconds, so that a node reconnects at most one second late. Then they keep
growing.
"""

from typing import Final

from coderd.model import RandomBytes

FIRST: Final = 0.05
BRISK: Final = 1.0
BRISK_FOR: Final = 30.0
STEADY: Final = 10.0
"""Seconds that a connection must have lasted for the next wait to be short again.

One that breaks at once has failed.
"""


class Backoff:
    """The waits between attempts at one server or relay.

    Args:
        rng: randomness for the jitter.
        longest: seconds beyond which no wait grows; the first is ``FIRST``.

    Attributes:
        attempts: waits since the last connection.
    """

    def __init__(self, rng: RandomBytes, *, longest: float) -> None:
        self._rng = rng
        self._longest = longest
        self._ceiling = FIRST
        self._waited = 0.0
        self.attempts = 0

    def next_delay(self) -> float:
        """Returns the seconds to wait before the next attempt.

        They are uniform between half the ceiling and the ceiling, which then doubles.
        """
        fraction = int.from_bytes(self._rng(4), "big") / 2**32
        delay = self._ceiling * (0.5 + 0.5 * fraction)
        self._waited += delay
        longest = self._longest if self._waited > BRISK_FOR else min(BRISK, self._longest)
        self._ceiling = min(self._ceiling * 2, longest)
        self.attempts += 1
        return delay

    def handle_connection_ended(self, lasted: float) -> None:
        """Notes that a connection was up for ``lasted`` seconds."""
        self.attempts = 0
        if lasted >= STEADY:
            self.reset()

    def reset(self) -> None:
        """Starts anew, as there is reason to believe that the next attempt will do better."""
        self._ceiling = FIRST
        self._waited = 0.0
