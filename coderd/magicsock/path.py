"""How good a path is: a sort key, so that choosing never runs in a circle.

Pairwise rules with percentages can: public IPv4 at 54 ms beats private IPv4 at 68 ms beats private IPv6 at 76
ms beats public IPv4 at 54 ms. Here each path has one number of its own, its latency less a share for being
nearer by nature.
"""

from functools import lru_cache
from typing import NamedTuple

from coderd.model.addresses import AddressScope, AddrPort, address_scope, is_ipv6
from coderd.model.transport import MAIN_SOCKET, SocketId

_NS = 1_000_000_000
_WHOLE = 100
_STICKINESS = 1
"""Percent by which a challenger must be better, so that noise does not move traffic to and fro."""
_SCOPE_BONUS = {
    AddressScope.LOOPBACK: 50,
    AddressScope.LINK_LOCAL: 30,
    AddressScope.PRIVATE: 20,
    AddressScope.PUBLIC: 0,
}
"""Percent of latency forgiven by scope: a path that stays inside a site costs less and breaks less."""
_IPV6_BONUS = 10
"""Percent of latency forgiven for IPv6: as a rule there is no address translation on the path."""


class PathQuality(NamedTuple):
    """What is known of one path to a peer.

    Attributes:
        addr: where its datagrams are sent.
        latency: seconds there and back.
        udp_payload: bytes of UDP payload that it was seen to carry; 0 while unmeasured.
        socket: the local socket that reaches it.
    """

    addr: AddrPort
    latency: float
    udp_payload: int = 0
    socket: SocketId = MAIN_SOCKET


def path_score(path: PathQuality) -> int:
    """Computes the sort key of a peer's path, smaller is better: a total order.

    Args:
        path: latency in seconds, address family and scope.

    Returns: latency less its bonus, in hundredths of nanoseconds. Stickiness is not in it: see
        ``is_improvement``.

    Source: the aims of Tailscale's ``betterAddr``, whose points become a factor here.
    """
    return round(path.latency * _NS) * (_WHOLE - _bonus(path.addr[0]))


def is_improvement(challenger: PathQuality, current: PathQuality | None) -> bool:
    """Returns whether to move from one path to another.

    Over the same address only a greater size counts: its latency changes by itself. Otherwise the
    challenger's score has to be smaller by one percent, hence smaller: a chain of improvements never comes
    back to where it was.
    """
    if current is None:
        return True
    if challenger.addr == current.addr:
        return challenger.udp_payload > current.udp_payload
    return path_score(challenger) * _WHOLE < path_score(current) * (_WHOLE - _STICKINESS)


@lru_cache(maxsize=4096)
def _bonus(ip: str) -> int:
    return _SCOPE_BONUS[address_scope(ip)] + (_IPV6_BONUS if is_ipv6((ip, 0)) else 0)
