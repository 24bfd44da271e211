"""Token buckets for unauthenticated clients, by the network and site of their address.

Pure; ``now`` is passed in.

Of IPv6 one customer has a /64 at least, and often a /48, which is 65,536 of them: a /64 alone would be a new
stranger with each try. So an address is counted as the network that is one customer's at least, and as the
site that may be one customer's at most. A site has more to spend than a network, but not per network; the
price is that where a provider gives its customers less than a /48, one of them uses up neighbours' share. Of
IPv4 there is nothing wider: who shares an address there shares it already.
"""

from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address

from coderd.model.token_bucket import BucketTable, Rate


@dataclass(frozen=True, slots=True)
class Origin:
    """Network and site of a client's address, for rate limits."""

    network: str
    """The address; of IPv6 its /64."""
    site: str = ""
    """Of IPv6 the /48; otherwise empty."""

    @classmethod
    def of(cls, source: str) -> "Origin":
        """Returns the origin of an address, without its zone; an invalid address is its own network."""
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
        network: what one network may do.
        site: what one site may do, whichever of its networks it comes from.
        n_most: networks that are remembered, and as many sites; the one that was used longest ago makes room.
    """

    def __init__(self, network: Rate, site: Rate, n_most: int) -> None:
        self._burst = network.burst
        self._buckets = (BucketTable[str](network, n_most), BucketTable[str](site, n_most))

    def allows(self, origin: Origin, now: float) -> bool:
        """Returns whether one more may be done from an origin."""
        return all(
            buckets.level(place, now) >= 1
            for place, buckets in zip(origin.places, self._buckets, strict=False)
        )

    def is_untouched(self, origin: Origin, now: float) -> bool:
        """Returns whether a network's bucket is full."""
        return self._buckets[0].level(origin.network, now) >= self._burst

    def take(self, origin: Origin, now: float) -> None:
        """Counts one that was done from an origin."""
        for place, buckets in zip(origin.places, self._buckets, strict=False):
            buckets.use(place).drain(1, now)

    def give(self, origin: Origin, now: float) -> None:
        """Takes back the last one from an origin."""
        for place, buckets in zip(origin.places, self._buckets, strict=False):
            buckets.give(place, now)

    def __len__(self) -> int:
        return max(map(len, self._buckets))
