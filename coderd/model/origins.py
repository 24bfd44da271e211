"""Where strangers come from, and what each such place still may: buckets by address, network and site. Pure; ``now`` is passed in.

Of IPv6 one customer has a /64 at least, and often a /48, which is 65,536 of them: a /64 alone would be a new stranger with each
try. So an address is counted as the network that is one customer's at least, and as the site that may be one customer's
at most. A site has more to spend than a network, but not per network; the price is that where a provider gives its
customers less than a /48, one of them uses up neighbours' share. Of IPv4 there is nothing wider: who shares an address there
shares it already.
"""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from typing import NamedTuple


class Rate(NamedTuple):
    """So many at once, and so many per second after that."""

    burst: float
    per_second: float


class Bucket:
    """Holds up to the burst, and fills at the rate.

    Args:
        rate: of what.
        now: when it is full.
    """

    __slots__ = ("_at", "_level", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._level, self._at = rate.burst, now

    def level(self, now: float) -> float:
        """Returns the tokens that are in the bucket at an instant."""
        return min(self._rate.burst, self._level + max(0.0, now - self._at) * self._rate.per_second)

    def take(self, now: float) -> None:
        """Takes one out; never below nothing."""
        self._level, self._at = max(0.0, self.level(now) - 1), now

    def give(self, now: float) -> None:
        """Puts one back."""
        self._level, self._at = min(self._rate.burst, self.level(now) + 1), now


@dataclass(frozen=True, slots=True)
class Origin:
    """Where somebody comes from, as it is counted."""

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

    @property
    def places(self) -> tuple[str, ...]:
        """Network and, where there is one, site."""
        return (self.network, self.site) if self.site else (self.network,)


class OriginBuckets:
    """A bucket for each network, and one for each site, of late.

    Args:
        network: what one network may.
        site: what one site may, whichever of its networks it comes from.
        n_most: networks that are remembered, and as many sites; the one that has been quiet for longest goes first.
    """

    def __init__(self, network: Rate, site: Rate, n_most: int) -> None:
        self._rates = (network, site)
        self._n_most = n_most
        self._buckets: tuple[OrderedDict[str, Bucket], OrderedDict[str, Bucket]] = (
            OrderedDict(),
            OrderedDict(),
        )

    def allows(self, origin: Origin, now: float) -> bool:
        """Whether somebody from there may do one more."""
        return all(
            name not in buckets or buckets[name].level(now) >= 1
            for name, buckets in zip(origin.places, self._buckets, strict=False)
        )

    def is_untouched(self, origin: Origin, now: float) -> bool:
        """Whether a network has all that it may have."""
        bucket = self._buckets[0].get(origin.network)
        return bucket is None or bucket.level(now) >= self._rates[0].burst

    def take(self, origin: Origin, now: float) -> None:
        """One was done from there."""
        for name, buckets, rate in zip(origin.places, self._buckets, self._rates, strict=False):
            bucket = buckets.pop(name, None) or Bucket(rate, now)
            buckets[name] = bucket
            if len(buckets) > self._n_most:
                buckets.popitem(last=False)
            bucket.take(now)

    def give(self, origin: Origin, now: float) -> None:
        """The last one is not to be counted."""
        for name, buckets in zip(origin.places, self._buckets, strict=False):
            if name in buckets:
                buckets[name].give(now)

    def __len__(self) -> int:
        return max(map(len, self._buckets))
