"""A token bucket, and the rate that a relay grants each of its clients."""

from typing import Final, NamedTuple

MIN_BURST: Final = 65_568
"""Bytes: the largest frame has to fit."""


class ClientRate(NamedTuple):
    """What one client may send. A relay tells it in ServerInfo, and stops reading from whoever sends more."""

    bytes_per_second: int
    burst: int

    @classmethod
    def of(cls, bytes_per_second: int) -> "ClientRate | None":
        """With half a second's worth at once; None for 0, which is no limit."""
        if bytes_per_second <= 0:
            return None
        return cls(bytes_per_second, max(MIN_BURST, bytes_per_second // 2))


class TokenBucket:
    """Allows ``burst`` at once and ``rate`` a second after that.

    Args:
        rate: tokens gained per second.
        burst: tokens held at most; the bucket starts full.
        now: the instant from which tokens are gained.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, cost: float, now: float) -> bool:
        """Spends ``cost`` if the bucket holds that much, and says whether it did."""
        gained = (now - self._filled_at) * self._rate
        self._tokens = min(self._burst, self._tokens + max(gained, 0.0))
        self._filled_at = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def spend(self, cost: float, now: float) -> float:
        """Spends ``cost`` whatever the bucket holds; returns the seconds until the debt is gone, 0 without one."""
        if not self.take(cost, now):
            self._tokens -= cost
        return max(0.0, -self._tokens / self._rate)
