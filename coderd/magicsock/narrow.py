"""Whether a peer answers small pings where full ones vanish: a way that is too narrow for the tunnel. For people, not for paths.

No path is chosen by small pings. But a link whose MTU is too small, and which says so to nobody, looks from here like a firewall:
nothing comes back. So where full pings have timed out a few small ones follow, seldom, and their pongs tell the two apart.
"""

from collections.abc import Iterable

from coderd.magicsock.pings import Purpose, SentPing
from coderd.model.addresses import AddrPort

GAP = 10.0
"""Least seconds between two lots of small pings."""
MOST = 4
"""Addresses that a lot asks at most."""
BELIEVED = 60.0
"""Seconds for which a small pong is evidence."""

_NEVER = float("-inf")


class Narrowness:
    """What small pings have shown of the ways to one peer. Its owner is the peer's ``Endpoint``."""

    def __init__(self) -> None:
        self._asked_at = _NEVER
        self._answered_at = _NEVER

    def choose(self, expired: Iterable[SentPing], now: float) -> list[AddrPort]:
        """The addresses to ask by small pings, now that some pings have timed out; mostly none."""
        silent = [ping.to for ping in expired if ping.to is not None and _is_full(ping)]
        if not silent or now - self._asked_at < GAP:
            return []
        self._asked_at = now
        return list(dict.fromkeys(silent))[:MOST]

    def handle_pong(self, ping: SentPing, now: float) -> None:
        """Any ping was answered. A full one shows a way that is wide enough."""
        if ping.purpose is Purpose.EVIDENCE:
            self._answered_at = now
        elif ping.to is not None and _is_full(ping):
            self._answered_at = _NEVER

    def forget(self) -> None:
        """The network changed."""
        self._answered_at = _NEVER

    def is_seen(self, now: float) -> bool:
        """Whether small pings have come back lately, and no full one since."""
        return now - self._answered_at <= BELIEVED


def _is_full(ping: SentPing) -> bool:
    return ping.purpose is Purpose.DISCOVERY and not ping.is_small
