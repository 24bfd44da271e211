"""The host's addresses, and word of their changes, from rtnetlink.

A change is not an event but a difference: events only say when to look, and our own interface, other tunnels
and refreshed lifetimes make no difference. Looking is pyroute2's work, in a thread, since it runs an event
loop of its own.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, NamedTuple

import trio
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted

from coderd.magicsock.interfaces import InterfaceAddress, choose_addresses, tunnel_addresses
from coderd.magicsock.io.bypass import find_mark
from coderd.tun.io.link import discard_events

LOOK_INTERVAL = 1.0
"""Least seconds between two looks at the tables while events continue."""
FIRST_INTERVAL = 0.1
"""Least seconds between two looks after a quiet time, as what comes up does so in steps (address, route,
rule); doubled each time.
"""

_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV4_ROUTE = 0x1, 0x10, 0x40
_RTMGRP_IPV6_IFADDR, _RTMGRP_IPV6_ROUTE = 0x100, 0x400
_RTMGRP_IPV4_RULE, _RTMGRP_IPV6_RULE = 0x80, 0x40000
_GROUPS = (
    _RTMGRP_LINK
    | _RTMGRP_IPV4_IFADDR
    | _RTMGRP_IPV4_ROUTE
    | _RTMGRP_IPV4_RULE
    | _RTMGRP_IPV6_IFADDR
    | _RTMGRP_IPV6_ROUTE
    | _RTMGRP_IPV6_RULE
)
_IFF_UP = 0x1
_ARPHRD_NONE = 0xFFFE
_TUNNEL_TYPES = frozenset({_ARPHRD_NONE, 512, 519, 768, 769, 776, 778, 823})
"""ARPHRD_NONE (TUN, WireGuard), PPP, RAWIP, and the kernel's own IP-in-IP, SIT and GRE tunnels."""
_TUNNEL_KINDS = frozenset(
    {"amneziawg", "geneve", "gretap", "ip6gretap", "ovpn", "tun", "vti", "vti6", "vxlan", "wireguard", "xfrm"}
)
"""Those that look like Ethernet, or like anything, among them TAP, which is ZeroTier's."""
_IFA_F_DADFAILED, _IFA_F_DEPRECATED, _IFA_F_TENTATIVE = 0x08, 0x20, 0x40
_UNUSABLE = _IFA_F_DADFAILED | _IFA_F_DEPRECATED | _IFA_F_TENTATIVE
_TABLE_MAIN = 254
_LOOKS = 10


class NetworkView(NamedTuple):
    """What a change is a difference of.

    These are the addresses worth publishing, the ways out of the host, and others' tunnels.
    """

    addresses: tuple[str, ...]
    default_routes: tuple[tuple[int, str, int], ...]
    """Address family, gateway, interface index."""
    tunnels: tuple[str, ...] = ()
    """Addresses of other tunnels than ours, never to be published."""
    marks: tuple[int, int] = (0, 0)
    """With which our IPv4 and IPv6 datagrams pass by others' tunnels; 0 where they do without."""

    def is_same_way_out(self, other: "NetworkView") -> bool:
        """Returns whether nothing has changed that paths depend on: tunnels are no paths."""
        return self._replace(tunnels=()) == other._replace(tunnels=())


async def watch_interfaces(*, ignore: str) -> AsyncIterator[NetworkView]:
    """Yields the present view at once, then one after each change of it.

    Events are listened for before the first look, so no change is lost between the two.

    Args:
        ignore: our own interface; what happens to it is no change.
    """
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    with events:
        events.setblocking(False)
        events.bind((0, _GROUPS))
        seen = await trio.to_thread.run_sync(_look, ignore)
        yield seen
        interval = FIRST_INTERVAL
        while True:
            with trio.move_on_after(LOOK_INTERVAL) as patience:
                await trio.lowlevel.wait_readable(events)
            if patience.cancelled_caught:
                interval = FIRST_INTERVAL
                await trio.lowlevel.wait_readable(events)
            discard_events(events)
            view = await trio.to_thread.run_sync(_look, ignore)
            if view != seen:
                seen = view
                yield view
            await trio.sleep(min(interval, LOOK_INTERVAL))
            interval = min(2 * interval, LOOK_INTERVAL)


def _look(ignore: str) -> NetworkView:
    """Looks again where the kernel's tables changed under the look, as they do while containers start."""
    for _ in range(_LOOKS - 1):
        with suppress(NetlinkDumpInterrupted):
            return _look_once(ignore)
    return _look_once(ignore)


def _look_once(ignore: str) -> NetworkView:
    with IPRoute() as netlink:
        links = {link["index"]: link for link in netlink.get_links()}
        tunnels = {index for index, link in links.items() if _is_tunnel(link)}
        found = [_found(message, links, tunnels) for message in netlink.get_addr()]
        ignored = tunnels | {i for i, link in links.items() if link.get_attr("IFLA_IFNAME") == ignore}
        routes = [
            route
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in netlink.get_default_routes(family=family, table=_TABLE_MAIN)
            if (route := _default_route(message))[2] not in ignored
        ]
        marks = [find_mark(netlink, family, ignored) for family in (socket.AF_INET, socket.AF_INET6)]
    return NetworkView(
        choose_addresses(found, ignore),
        tuple(sorted(routes)),
        tunnel_addresses(found, ignore),
        (marks[0], marks[1]),
    )


def _is_tunnel(link: Any) -> bool:
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    return link["ifi_type"] in _TUNNEL_TYPES or kind in _TUNNEL_KINDS


def _found(message: Any, links: dict[int, Any], tunnels: set[int]) -> InterfaceAddress:
    """An address as pyroute2 tells it.

    On a point-to-point link IFA_ADDRESS is the other end's; IFA_LOCAL is ours.
    """
    index = message["index"]
    link = links.get(index)
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return InterfaceAddress(
        interface=link.get_attr("IFLA_IFNAME") if link is not None else "",
        address=ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")),
        prefix_length=message["prefixlen"],
        is_tunnel=index in tunnels,
        is_usable=link is not None and bool(link["flags"] & _IFF_UP) and not flags & _UNUSABLE,
    )


def _default_route(message: Any) -> tuple[int, str, int]:
    return (
        message["family"],
        str(message.get_attr("RTA_GATEWAY") or ""),
        int(message.get_attr("RTA_OIF") or 0),
    )
