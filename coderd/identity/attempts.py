"""How many unknown tokens may be tried: per address, and by everybody together. Pure; ``now`` is passed in.

Guessing 256 bits is hopeless; the limits keep those who try from costing a look into the store each, and show in the log.
Only failures count. An address that has used up its own is refused; when everybody's are used up, those who had no part in
it are still let in.

Of IPv6 one customer has a /64 at least, and often a /48, which is 65,536 of them: a /64 alone would be a new stranger with each
try. So an address is counted as the network that is one customer's at least, and as the site that may be one customer's
at most. A site has more to spend than a network, but not per network; the price is that where a provider
gives its customers less than a /48, one who guesses shuts neighbours out while it lasts: those whose token has not been seen
since the server started. Of IPv4 there is nothing wider: who shares an address there shares it already.
"""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from typing import Final

from coderd.model import limits

BURST: Final = limits.ATTEMPTS_BURST
"""Failures that one address may have at once."""
RATE: Final = limits.ATTEMPTS_RATE
"""Failures per second that it may have in the long run."""
SITE_BURST: Final = limits.SITE_ATTEMPTS_BURST
"""Failures that one site may have at once, whichever of its networks they come from."""
SITE_RATE: Final = limits.SITE_ATTEMPTS_RATE
GLOBAL_BURST: Final = limits.ALL_ATTEMPTS_BURST
GLOBAL_RATE: Final = limits.ALL_ATTEMPTS_RATE
MAX_ADDRESSES: Final = limits.MAX_ATTEMPT_ADDRESSES
"""Addresses that are remembered, and as many sites; the one that has been quiet for longest goes first."""


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


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a token comes from, as failures are counted."""

    network: str
    """The address; of IPv6 its /64."""
    site: str = ""
    """Of IPv6 the /48; otherwise empty."""

    @classmethod
    def of(cls, source: str) -> "Origin":
        """Reads an address, its zone left aside; what is none counts as it is."""
        try:
            address = ip_address(source.partition("%")[0])
        except ValueError:
            return cls(source)
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.version == 6:
            network, site = (IPv6Network((address, size), strict=False) for size in (64, 48))
            return cls(str(network), str(site))
        return cls(str(address))


class _Buckets:
    """A bucket for each name of late."""

    def __init__(self, burst: float, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def level(self, name: str, now: float) -> float:
        """What is left for a name."""
        bucket = self._buckets.get(name)
        return self._burst if bucket is None else bucket.level(now)

    def is_untouched(self, name: str, now: float) -> bool:
        """Whether a name has all that it may have."""
        return self.level(name, now) >= self._burst

    def take(self, name: str, now: float) -> None:
        """Takes one."""
        bucket = self._buckets.pop(name, None) or _Bucket(self._burst, self._rate, now)
        self._buckets[name] = bucket
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)


class Attempts:
    """The failures of late."""

    def __init__(self, now: float) -> None:
        self._everybody = _Bucket(GLOBAL_BURST, GLOBAL_RATE, now)
        self._networks = _Buckets(BURST, RATE)
        self._sites = _Buckets(SITE_BURST, SITE_RATE)

    def allows(self, origin: Origin, now: float) -> bool:
        """Whether another token from there is worth a look."""
        if self._everybody.level(now) < 1 and not self._networks.is_untouched(origin.network, now):
            return False
        return self._networks.level(origin.network, now) >= 1 and (
            not origin.site or self._sites.level(origin.site, now) >= 1
        )

    def fail(self, origin: Origin, now: float) -> bool:
        """A token from there was unknown; whether that was the last one allowed for now."""
        self._everybody.take(now)
        self._networks.take(origin.network, now)
        if origin.site:
            self._sites.take(origin.site, now)
            if self._sites.level(origin.site, now) < 1:
                return True
        return self._networks.level(origin.network, now) < 1
