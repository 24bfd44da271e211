"""How many unknown tokens may be tried: per address, and by everybody together. Pure; ``now`` is passed in.

Guessing 256 bits is hopeless; the limits keep those who try from costing a look into the store each, and show in the log.
Only failures count. An address that has used up its own is refused; when everybody's are used up, those who had no part in
it are still let in.
"""

from collections import OrderedDict

BURST = 20.0
"""Failures that one address may have at once."""
RATE = 0.2
"""Failures per second that it may have in the long run."""
GLOBAL_BURST = 400.0
GLOBAL_RATE = 20.0
MAX_ADDRESSES = 4096
"""Addresses that are remembered; the one that has been quiet for longest goes first."""


class _Bucket:
    """Holds up to ``burst`` and fills at ``rate`` per second."""

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst, self._rate = burst, rate
        self._level, self._at = burst, now

    def level(self, now: float) -> float:
        """What is in it."""
        return min(self._burst, self._level + max(0.0, now - self._at) * self._rate)

    def take(self, now: float) -> None:
        """Takes one out; never below nothing."""
        self._level, self._at = max(0.0, self.level(now) - 1), now


class Attempts:
    """The failures of late. Addresses count as texts; callers cut IPv6 to the network that one customer has."""

    def __init__(self, now: float) -> None:
        self._everybody = _Bucket(GLOBAL_BURST, GLOBAL_RATE, now)
        self._addresses: OrderedDict[str, _Bucket] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Whether another token from there is worth a look."""
        bucket = self._addresses.get(address)
        if bucket is None:
            return True
        if self._everybody.level(now) < 1:
            return bucket.level(now) >= BURST
        return bucket.level(now) >= 1

    def fail(self, address: str, now: float) -> bool:
        """A token from there was unknown; whether that was the last one allowed for now."""
        bucket = self._addresses.pop(address, None) or _Bucket(BURST, RATE, now)
        self._addresses[address] = bucket
        if len(self._addresses) > MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        bucket.take(now)
        self._everybody.take(now)
        return bucket.level(now) < 1
