"""The relay region that this node calls home, and when its relay is given up.

Netcheck proposes, by latency; but STUN may answer where the relay does not. So a home whose relay stays away
for three seconds (ten, where it was never reached) is dead for a while, twice as long each time, and another
that answers takes its place.
"""

from enum import IntEnum

from coderd.model.deadline import Deadline
from coderd.model.timers import TimerTable

PATIENCE = 3.0
"""Seconds since the link to the home relay broke after which it is dead: a restart takes one."""
FIRST_PATIENCE = 10.0
"""Seconds that a first link may take: what stands in between may have to be got round first."""
DEAD_FOR = 60.0
"""Seconds for which a dead relay is not chosen as home, the first time; doubled each time."""
DEAD_FOR_MOST = 3600.0


class Timer(IntEnum):
    """What a home waits for."""

    HOME_RELAY_AWAY = 0
    """``PATIENCE`` after the link to its relay broke, ``FIRST_PATIENCE`` after it was chosen, unless the link
    is up by then.
    """


class Home:
    """The home region, and the regions whose relays are dead."""

    def __init__(self) -> None:
        self.region = 0
        """0 while there is none."""
        self._is_connected = False
        self._timers = TimerTable(Timer)
        self._dead_until: dict[int, float] = {}
        self._dead_for: dict[int, float] = {}

    def move(self, region: int, now: float) -> bool:
        """Moves home to a region, 0 for none. Returns whether that is a change."""
        if region == self.region:
            return False
        self.region = region
        self._is_connected = False
        self._timers.set(Timer.HOME_RELAY_AWAY, now + FIRST_PATIENCE if region else None)
        return True

    def handle_connected(self, region: int) -> None:
        """Notes that the link to a region's relay is up: it is alive."""
        self._dead_until.pop(region, None)
        self._dead_for.pop(region, None)
        if region == self.region:
            self._is_connected = True
            self._timers.disarm(Timer.HOME_RELAY_AWAY)

    def handle_broken(self, region: int, now: float) -> None:
        """Notes that the link to a region's relay is down."""
        if region == self.region and self._is_connected:
            self._is_connected = False
            self._timers.arm(Timer.HOME_RELAY_AWAY, now + PATIENCE)

    def handle_rebound(self, now: float) -> None:
        """Forgets which relays were dead: the network changed, and may have been the cause."""
        self._dead_until.clear()
        self._dead_for.clear()
        if self.region and not self._is_connected:
            self._timers.arm(Timer.HOME_RELAY_AWAY, now + FIRST_PATIENCE)

    def handle_timeout(self, now: float) -> bool:
        """Does what is due. Returns whether home has just been given up."""
        if self._timers.pop_due(now) is None:
            return False
        span = self._dead_for.get(self.region, DEAD_FOR)
        self._dead_until[self.region] = now + span
        self._dead_for[self.region] = min(2 * span, DEAD_FOR_MOST)
        return True

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``."""
        return self._timers.poll_timeout()

    def dead(self, now: float) -> frozenset[int]:
        """Returns the regions that cannot be home now."""
        return frozenset(region for region, until in self._dead_until.items() if now < until)
