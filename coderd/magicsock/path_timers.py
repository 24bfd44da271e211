"""Everything that an endpoint does by the clock."""

from enum import IntEnum

from coderd.magicsock.best_path import BestPath
from coderd.magicsock.prober import Prober
from coderd.model.timers import TimerTable


class Timer(IntEnum):
    """Timers of one peer's endpoint."""

    HEARTBEAT = 0
    """Every 3 s while active: pings the best path."""
    ROUND = 1
    """Burst, then every 5 s while relayed and active, every 60 s while direct but far."""
    OPEN = 2
    """0.1 s after a ping came from an address that has not answered, until it does, or for a second."""
    PING_TIMEOUT = 3
    """5 s after the oldest ping in flight."""
    TRUST = 4
    """6.5 s after the best path's last pong."""
    DOUBT = 5
    """Every 0.15 s from a silence under load until a pong or the end of trust."""


class PathTimers(TimerTable[Timer]):
    """Table of one endpoint's timers; three of them follow from the best path and the pings in flight."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(Timer)

    def follow(self, best: BestPath, prober: Prober) -> None:
        """Sets the timers that follow from the best path and the pings in flight."""
        self.set(Timer.PING_TIMEOUT, prober.expires_at())
        self.set(Timer.TRUST, best.trust_until)
        if not best.is_in_doubt:
            self.disarm(Timer.DOUBT)
