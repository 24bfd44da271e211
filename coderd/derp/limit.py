"""A token bucket."""


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
