"""Ways past another tunnel's default route.

These are found by the mark with which packets take the way that the tunnel's own packets take.

A full tunnel (wg-quick with AllowedIPs = 0.0.0.0/0, Tailscale with an exit node) keeps its own packets out of
itself by a mark: rules send what bears it by the main table, and all the rest into the tunnel. Our datagrams
are a tunnel's too. Without that mark they would travel inside the other one, with its MTU, its detour and its
NAT; and where the other one's peer is reached through us, each would carry the other round and round. So they
bear it, where there is one. So do connections to server and relays (``http/dialer.py``), unless they lead
nowhere so: a company's server may be reached through its tunnel alone.
"""

import errno
import socket
from collections.abc import Collection
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

SOMEWHERE = {socket.AF_INET: "192.88.99.1", socket.AF_INET6: "2001:20::1"}
"""Addresses to which a host has no route but the default one."""

_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL})


def find_mark(netlink: Any, family: int, tunnels: Collection[int]) -> int:
    """Finds the least mark with which packets bypass the tunnels; 0 if none is needed, or none helps.

    Args:
        netlink: pyroute2's, open.
        family: AF_INET or AF_INET6.
        tunnels: tunnel interfaces, of this program and of others.
    """
    marks = {rule.get_attr("FRA_FWMARK") or 0 for rule in netlink.get_rules(family=family)} - {0}
    if not marks or _way_out(netlink, family, 0) not in tunnels:
        return 0
    ways = ((mark, _way_out(netlink, family, mark)) for mark in sorted(marks))
    return next((mark for mark, way in ways if way is not None and way not in tunnels), 0)


def _way_out(netlink: Any, family: int, mark: int) -> int | None:
    """Returns the interface that a packet with a mark leaves by; None if there is no route."""
    try:
        found = netlink.route("get", family=family, dst=SOMEWHERE[socket.AddressFamily(family)], mark=mark)
    except NetlinkError as error:
        if error.code in _NO_WAY:
            return None
        raise
    return next((route.get_attr("RTA_OIF") for route in found), None)
