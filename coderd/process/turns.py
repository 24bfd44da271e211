"""How long the loop stands still, seen from the loop itself.

One turn of trio's loop runs every task that can go on, each to its next checkpoint; whoever else waits, for a socket or a
deadline, waits for the whole turn. So a turn's length is by how much everything else is late. It is measured where the loop
comes back from the kernel and where it goes there again: exact, without a timer, and without waking an idle process.

The clock is CLOCK_MONOTONIC: a machine that was suspended has not stood still. One that had no CPU time for us has.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final, Self

import structlog
import trio

from coderd.metrics import Counters
from coderd.process.stalls import STALLED_MS, STALLS, Stalls

STALL: Final = 0.25
"""Seconds of one turn from which on it is a stall: somebody may have noticed."""
WINDOW: Final = 600.0
"""Seconds for which stalls are remembered one by one."""
_REMEMBERED: Final = 64
_QUIET: Final = 10.0
"""Seconds between two lines in the log."""

log = structlog.get_logger(__name__)


class TurnWatch(trio.abc.Instrument):
    """While entered, counts the stalls of the loop that runs, and says so in the log.

    Args:
        counters: ``loop.stalls`` and ``loop.stalled_ms``, their milliseconds together.
        clock: seconds on a clock that stands while the machine is suspended.
    """

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._begun = clock()
        self._recent: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)
        self._said_at = -_QUIET
        counters[STALLS] += 0
        counters[STALLED_MS] += 0

    def __enter__(self) -> Self:
        self._begun = self._clock()
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)

    def after_io_wait(self, timeout: float) -> None:
        """A turn begins."""
        self._begun = self._clock()

    def before_io_wait(self, timeout: float) -> None:
        """It has ended."""
        now = self._clock()
        if now - self._begun >= STALL:
            self._note(now, now - self._begun)

    def recent(self) -> Stalls:
        """The stalls of the last ten minutes."""
        oldest = self._clock() - WINDOW
        lengths = [seconds for at, seconds in self._recent if at >= oldest]
        return Stalls(len(lengths), max(lengths, default=0.0))

    def _note(self, now: float, seconds: float) -> None:
        self._counters[STALLS] += 1
        self._counters[STALLED_MS] += round(seconds * 1000)
        self._recent.append((now, seconds))
        if now - self._said_at >= _QUIET:
            self._said_at = now
            log.warning("loop_stalled", seconds=round(seconds, 2), n_stalls=self._counters[STALLS])
