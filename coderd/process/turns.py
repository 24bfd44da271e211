"""Measures the turns of the event loop, and counts those that stall it.

One turn of trio's loop runs every ready task to its next checkpoint; every other task, waiting for a socket
or a deadline, waits until the turn ends. A turn's length is therefore the delay of everything else. It is
measured from the loop's return from its wait in the kernel to the next wait: exactly, without a timer, and
without waking an idle process.

The clock is CLOCK_MONOTONIC, which stands while the machine is suspended. Time in which the process is ready
but has no CPU counts.
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
"""Seconds from which on a turn counts as a stall, long enough for a person to notice."""
WINDOW: Final = 600.0
"""Seconds for which single stalls are remembered."""
_REMEMBERED: Final = 64
"""Number of single stalls that are remembered; older ones are dropped."""
_QUIET: Final = 10.0
"""Least seconds between two lines about stalls in the log."""

log = structlog.get_logger(__name__)


class TurnWatch(trio.abc.Instrument):
    """Instrument of the running trio loop that counts and logs stalls while entered.

    Args:
        counters: receives ``loop.stalls``, the number of stalls, and ``loop.stalled_ms``, their milliseconds
            together.
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
        """Notes when a turn begins: the loop's wait in the kernel is over."""
        self._begun = self._clock()

    def before_io_wait(self, timeout: float) -> None:
        """Measures the turn that ends, and counts it as a stall from ``STALL`` seconds on."""
        now = self._clock()
        if now - self._begun >= STALL:
            self._note(now, now - self._begun)

    def recent(self) -> Stalls:
        """Returns the number and the greatest length of the last ten minutes' stalls."""
        oldest = self._clock() - WINDOW
        lengths = [seconds for at, seconds in self._recent if at >= oldest]
        return Stalls(len(lengths), max(lengths, default=0.0))

    def _note(self, now: float, seconds: float) -> None:
        """Counts and remembers a stall; logs it if none was logged in the last ``_QUIET`` seconds."""
        self._counters[STALLS] += 1
        self._counters[STALLED_MS] += round(seconds * 1000)
        self._recent.append((now, seconds))
        if now - self._said_at >= _QUIET:
            self._said_at = now
            log.warning("loop_stalled", seconds=round(seconds, 2), n_stalls=self._counters[STALLS])
