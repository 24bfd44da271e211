"""Token buckets, which bound a burst and a rate per second. Pure; ``now`` is passed in.

WireGuard's handshake limiter is not one of these (``wireguard.limiter``): it counts in whole nanoseconds, as
its vectors do.
"""

from collections import OrderedDict
from collections.abc import Hashable
from math import inf
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)


class Rate(NamedTuple):
    """What a bucket holds and gains.

    Attributes:
        burst: tokens at most, so what may be spent at once.
        per_second: tokens gained per second.
    """

    burst: float
    per_second: float

    def full_bucket(self) -> "TokenBucket":
        """Returns a full bucket of this rate."""
        return TokenBucket(self.per_second, self.burst)


class TokenBucket:
    """Allows ``burst`` at once and ``rate`` a second after that.

    Args:
        rate: tokens gained per second.
        burst: tokens held at most; the bucket starts full.
        now: the instant from which tokens are gained. A full bucket gains none, so any earlier instant does
            as well.
    """

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float = -inf) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def level(self, now: float) -> float:
        """Returns the tokens that the bucket holds, less than zero after ``spend`` made a debt."""
        gained = (now - self._filled_at) * self._rate
        return min(self._burst, self._tokens + max(gained, 0.0))

    def take(self, cost: float, now: float) -> bool:
        """Spends ``cost`` if the bucket holds that much. Returns whether it did."""
        self._tokens = self.level(now)
        self._filled_at = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def take_some(self, n_wanted: int, now: float) -> int:
        """Spends as many of ``n_wanted`` tokens as the bucket holds whole.

        Returns their number, 0 for a negative wish.
        """
        n_taken = max(0, min(n_wanted, int(self.level(now))))
        self.take(n_taken, now)
        return n_taken

    def drain(self, cost: float, now: float) -> None:
        """Spends ``cost``, or all that the bucket holds where that is less."""
        self._tokens = max(0.0, self.level(now) - cost)
        self._filled_at = now

    def spend(self, cost: float, now: float) -> float:
        """Spends ``cost`` whatever the bucket holds.

        Returns the seconds until the debt is gone, 0 without one.
        """
        if not self.take(cost, now):
            self._tokens -= cost
        return max(0.0, -self._tokens / self._rate)

    def give(self, amount: float, now: float) -> None:
        """Puts tokens back, up to the burst."""
        self._tokens = min(self._burst, self.level(now) + amount)
        self._filled_at = now


class BucketTable(Generic[K]):
    """A bucket for each key, full where nothing is known of a key.

    Args:
        rate: of each bucket.
        n_most: buckets that are kept; the one that was used longest ago makes room.
    """

    def __init__(self, rate: Rate, n_most: int) -> None:
        self._rate = rate
        self._n_most = n_most
        self._buckets: OrderedDict[K, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        """Returns how many buckets are kept."""
        return len(self._buckets)

    def use(self, key: K) -> TokenBucket:
        """Returns a key's bucket to spend from, and keeps it as the one used last."""
        bucket = self._buckets.pop(key, None) or self._rate.full_bucket()
        self._buckets[key] = bucket
        if len(self._buckets) > self._n_most:
            self._buckets.popitem(last=False)
        return bucket

    def level(self, key: K, now: float) -> float:
        """Returns the tokens that a key has."""
        bucket = self._buckets.get(key)
        return self._rate.burst if bucket is None else bucket.level(now)

    def give(self, key: K, now: float) -> None:
        """Puts one token back into a key's bucket."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.give(1, now)
