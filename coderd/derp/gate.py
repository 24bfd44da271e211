"""Limits the handshakes and connections of a relay's unauthenticated clients. Pure.

A handshake costs the relay a key agreement and a query of its directory, and the client's key is known only
in it; limits before it therefore go by the client's address. Each network has a token bucket, and each IPv6
site (``model.origins``), so that a few addresses cannot use up the bucket of all. A handshake that ends in an
admitted key is given back to its network: behind an address with a thousand nodes only failures count. When
very many addresses have emptied the bucket of all, a second one is left, for networks from which a key was
admitted lately.
"""

from collections import Counter, OrderedDict
from typing import Final

from coderd.model import limits
from coderd.model.keys import NodePublic
from coderd.model.origins import Origin, OriginBuckets
from coderd.model.token_bucket import Rate

HANDSHAKES: Final = Rate(limits.DERP_HANDSHAKE_BURST, limits.DERP_HANDSHAKE_RATE)
"""Handshakes of all clients together that may begin; after a restart all clients come at once."""
HANDSHAKES_OF_KNOWN: Final = Rate(limits.DERP_KNOWN_HANDSHAKE_BURST, limits.DERP_KNOWN_HANDSHAKE_RATE)
HANDSHAKES_OF_SOURCE: Final = Rate(limits.DERP_SOURCE_HANDSHAKE_BURST, limits.DERP_SOURCE_HANDSHAKE_RATE)
"""Handshakes of one network that do not end in an admitted key."""
HANDSHAKES_OF_SITE: Final = Rate(limits.DERP_SITE_HANDSHAKE_BURST, limits.DERP_SITE_HANDSHAKE_RATE)
HANDSHAKES_PER_SOURCE: Final = limits.DERP_HANDSHAKES_PER_SOURCE
"""Most handshakes in progress from one network, which a proxy that is not trusted is, too."""
HANDSHAKES_PER_SITE: Final = limits.DERP_HANDSHAKES_PER_SITE
MAX_SOURCES: Final = limits.MAX_DERP_SOURCES
MAX_KNOWN_KEYS: Final = limits.MAX_DERP_KNOWN_KEYS
"""Most keys of which the last network is remembered; the one admitted longest ago is forgotten first."""
RETURN_INTERVAL: Final = limits.DERP_RETURN_INTERVAL
"""Seconds before another handshake of a key is given back: a key that reconnects more often pays for each."""


class Gate:
    """The limits of a relay's connections and handshakes, and the state that they depend on.

    Args:
        max_connections: most connections at once, handshakes in progress included.
    """

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._everybody = HANDSHAKES.full_bucket()
        self._known = HANDSHAKES_OF_KNOWN.full_bucket()
        self._origins = OriginBuckets(HANDSHAKES_OF_SOURCE, HANDSHAKES_OF_SITE, MAX_SOURCES)
        self._admitted: OrderedDict[NodePublic, tuple[str, float]] = OrderedDict()
        self._n_known: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self._n_connections = 0

    def enter(self, origin: Origin, now: float) -> bool:
        """Returns whether a connection may begin its handshake, and counts it if so.

        ``settle`` must follow at the handshake's end, ``leave`` at the connection's.
        """
        if self._n_connections >= self._max_connections or self._is_crowded(origin):
            return False
        if not self._origins.allows(origin, now):
            return False
        is_known = self._n_known[origin.network] > 0
        if not self._everybody.take(1, now) and not (is_known and self._known.take(1, now)):
            return False
        self._origins.take(origin, now)
        self._n_connections += 1
        self._under_way.update(origin.places)
        return True

    def admit(self, origin: Origin, key: NodePublic, now: float) -> None:
        """Notes that a handshake has proved an admitted key, and gives the handshake back to its origin."""
        network, at = self._admitted.pop(key, ("", -RETURN_INTERVAL))
        if now - at >= RETURN_INTERVAL:
            self._origins.give(origin, now)
            at = now
        self._forget(network)
        self._admitted[key] = (origin.network, at)
        self._n_known[origin.network] += 1
        if len(self._admitted) > MAX_KNOWN_KEYS:
            self._forget(self._admitted.popitem(last=False)[1][0])

    def settle(self, origin: Origin) -> None:
        """Counts a handshake as ended, whatever its outcome."""
        for place in origin.places:
            self._under_way[place] -= 1
            if not self._under_way[place]:
                del self._under_way[place]

    def leave(self) -> None:
        """Counts a connection as ended."""
        self._n_connections -= 1

    def _is_crowded(self, origin: Origin) -> bool:
        return (
            self._under_way[origin.network] >= HANDSHAKES_PER_SOURCE
            or self._under_way[origin.site] >= HANDSHAKES_PER_SITE
        )

    def _forget(self, network: str) -> None:
        if network:
            self._n_known[network] -= 1
            if not self._n_known[network]:
                del self._n_known[network]
