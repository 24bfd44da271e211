"""When one peer's addresses are all tried again: a round of discovery, and the wait for the next."""

from collections import deque

from coderd.magicsock.best_path import BestPath
from coderd.magicsock.peer_relay import PeerRelay
from coderd.magicsock.pings import Purpose
from coderd.magicsock.prober import Prober

ROUND_INTERVAL = 5.0
"""Seconds between rounds while relayed and in use."""
UPGRADE_INTERVAL = 60.0
"""Seconds between rounds while a direct path works but a nearer one may exist."""
GOOD_ENOUGH_LATENCY = 0.005
"""Seconds at or below which no nearer path is looked for."""
BURST = (0.15, 0.35, 0.75, 1.5, 3.0)
"""Waits between the first rounds after news: a lost ping must not cost five seconds."""
IMPATIENT_INTERVAL = 0.5
"""Least seconds between rounds that a user's ping starts."""

_NEVER = float("-inf")


class Rounds:
    """Rounds of discovery for one peer: what is sent in one, and when the next is due.

    Args:
        prober: knows the peer's addresses, and sends to them.
        relay: says whether the peer can be called and pinged by relay.
    """

    def __init__(self, prober: Prober, relay: PeerRelay) -> None:
        self._prober = prober
        self._relay = relay
        self._burst: deque[float] = deque()
        self._at = _NEVER

    def begin_burst(self) -> None:
        """Lets the next rounds come quickly, until a path is found: there is news."""
        self._burst = deque(BURST)

    def run(self, now: float, *, allows_direct: bool) -> None:
        """Does a round: pings each candidate, sends a call-me-maybe; pings by relay every five seconds."""
        self._at = now
        if allows_direct:
            self._prober.ping_all(now)
            if self._relay.is_known:
                self._prober.call_me_maybe()
        if now - self._relay.pinged_at >= ROUND_INTERVAL:
            self.ping_relay(now)

    def ping_relay(self, now: float, token: int | None = None) -> None:
        """Pings the peer by relay, if one is known; for a user where there is a token."""
        if self._relay.is_known:
            self._relay.pinged_at = now
            self._prober.ping(None, Purpose.DISCOVERY if token is None else Purpose.USER, now, token)

    def may_hurry(self, now: float) -> bool:
        """Returns whether a user's ping may start a round."""
        return now - self._at >= IMPATIENT_INTERVAL

    def next_delay(self, best: BestPath, now: float, *, is_active: bool) -> float | None:
        """Returns the seconds until the next round; None if the peer is idle, or the path is good enough."""
        is_trusted = best.is_trusted(now)
        if is_trusted:
            self._burst.clear()
        if self._burst:
            return self._burst.popleft()
        if not is_active:
            return None
        if not is_trusted:
            return ROUND_INTERVAL
        is_far = best.quality is not None and best.quality.latency > GOOD_ENOUGH_LATENCY
        return UPGRADE_INTERVAL if is_far else None
