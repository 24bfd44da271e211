"""Who may try to come in: bounds on what strangers can make a relay do before it knows them. Pure.

A handshake costs the relay a key agreement and a question to its directory, and whose key it is shows only in it. So what counts
before is where somebody comes from. Each network has its own share, and each IPv6 site (``model.origins``), so that few
addresses cannot use up everybody's. A handshake that ends in a key that is admitted is given back to its network: behind an
address with a thousand nodes only those who fail count. When everybody's share is used up all the same, by very many addresses,
another one is left, which is only for networks from which a key was admitted lately.
"""

from collections import Counter, OrderedDict
from typing import Final

from coderd.model import limits
from coderd.model.keys import NodePublic
from coderd.model.origins import Origin, OriginBuckets
from coderd.model.token_bucket import Rate

HANDSHAKES: Final = Rate(limits.DERP_HANDSHAKE_BURST, limits.DERP_HANDSHAKE_RATE)
"""That may begin, of all clients together: a relay that restarts is met by everybody at once."""
HANDSHAKES_OF_KNOWN: Final = Rate(limits.DERP_KNOWN_HANDSHAKE_BURST, limits.DERP_KNOWN_HANDSHAKE_RATE)
HANDSHAKES_OF_SOURCE: Final = Rate(limits.DERP_SOURCE_HANDSHAKE_BURST, limits.DERP_SOURCE_HANDSHAKE_RATE)
"""Handshakes of one network that do not end in an admitted key."""
HANDSHAKES_OF_SITE: Final = Rate(limits.DERP_SITE_HANDSHAKE_BURST, limits.DERP_SITE_HANDSHAKE_RATE)
HANDSHAKES_PER_SOURCE: Final = limits.DERP_HANDSHAKES_PER_SOURCE
"""Under way from one network; behind a proxy that is not trusted everybody has the same."""
HANDSHAKES_PER_SITE: Final = limits.DERP_HANDSHAKES_PER_SITE
MAX_SOURCES: Final = limits.MAX_DERP_SOURCES
MAX_KNOWN_KEYS: Final = limits.MAX_DERP_KNOWN_KEYS
"""Keys whose last network is remembered; the one that was admitted longest ago goes first."""
RETURN_INTERVAL: Final = limits.DERP_RETURN_INTERVAL
"""Seconds after which the same key's handshake is given back again: one that comes and goes without pause pays for it."""


class Gate:
    """Counts those who come.

    Args:
        max_connections: held at all, those under way included.
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
        """Lets a connection begin its handshake, or not. One that was let in ``settle``s and ``leave``s."""
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
        """A handshake from there has proven a key that is served."""
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
        """A handshake is over, whatever its outcome."""
        for place in origin.places:
            self._under_way[place] -= 1
            if not self._under_way[place]:
                del self._under_way[place]

    def leave(self) -> None:
        """A connection is over."""
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
