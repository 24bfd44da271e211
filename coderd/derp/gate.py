"""Who may try to come in: bounds on what strangers can make a relay do before it knows them. Pure.

A handshake costs the relay a key agreement and a question to its directory. So many may begin in a second, so many may be
under way from one source, and only so many connections are held at all: the rest is told to come back.
"""

from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Final

from coderd.derp.limit import TokenBucket
from coderd.model import limits

HANDSHAKE_RATE: Final = limits.DERP_HANDSHAKE_RATE
"""Handshakes that may begin in a second, of all clients together."""
HANDSHAKE_BURST: Final = limits.DERP_HANDSHAKE_BURST
"""And at once: a relay that restarts is met by everybody."""
HANDSHAKES_PER_SOURCE: Final = limits.DERP_HANDSHAKES_PER_SOURCE
"""Under way from one address; behind a proxy everybody has the same."""
_HOST_BITS: Final = 64


class Gate:
    """Counts those who come.

    Args:
        max_connections: held at all, those under way included.
        now: seconds on the clock of all other ``now`` arguments.
    """

    def __init__(self, max_connections: int, now: float) -> None:
        self._max_connections = max_connections
        self._rate = TokenBucket(HANDSHAKE_RATE, HANDSHAKE_BURST, now)
        self._under_way: Counter[str] = Counter()
        self._n_connections = 0

    def enter(self, source: str, now: float) -> bool:
        """Lets a connection begin its handshake, or not. One that was let in ``settle``s and ``leave``s."""
        if self._n_connections >= self._max_connections or self._under_way[source] >= HANDSHAKES_PER_SOURCE:
            return False
        if not self._rate.take(1.0, now):
            return False
        self._n_connections += 1
        self._under_way[source] += 1
        return True

    def settle(self, source: str) -> None:
        """A handshake is over, whatever its outcome."""
        self._under_way[source] -= 1
        if not self._under_way[source]:
            del self._under_way[source]

    def leave(self) -> None:
        """A connection is over."""
        self._n_connections -= 1


def source_of(ip: str) -> str:
    """Whom an address stands for: an IPv4 address for itself, an IPv6 one for its /64, which one host may fill."""
    address = ip_address(ip.partition("%")[0])
    if isinstance(address, IPv6Address):
        return f"{int(address) >> _HOST_BITS:x}"
    return ip
