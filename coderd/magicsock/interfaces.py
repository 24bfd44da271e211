"""Which of a host's addresses are worth telling to peers. Pure: the list comes from the shell.

Left out: interfaces that are down; tunnels, our own and others' (a tunnel must not run through a tunnel); the
tailnet's addresses; IPv6 link-local, which means nothing elsewhere; IPv6 addresses that are not usable yet,
or whose use is coming to its end. IPv4 link-local and loopback serve only where there is nothing else.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple, TypeAlias

from coderd.model.addresses import TAILNET_PREFIX, AddressScope, address_scope

MOST_IPV6_PER_SUBNET = 2
"""IPv6 addresses published per subnet: privacy extensions give a host many, and each costs every peer a ping
per round."""

_INSIDE = (TAILNET_PREFIX, IPv6Network("fd7a:115c:a1e0::/48"))
"""Prefixes of this tailnet and of Tailscale's: their addresses belong to tunnel interfaces."""

Address: TypeAlias = IPv4Address | IPv6Address


class InterfaceAddress(NamedTuple):
    """One address of the host.

    Attributes:
        interface: the interface's name.
        address: the address itself.
        prefix_length: of its subnet.
        is_tunnel: the interface has no link layer (TUN, WireGuard, ...).
        is_usable: neither tentative nor deprecated nor a duplicate, on an interface that is up.
    """

    interface: str
    address: Address
    prefix_length: int
    is_tunnel: bool = False
    is_usable: bool = True


def choose_addresses(found: Iterable[InterfaceAddress], ignore: str) -> tuple[str, ...]:
    """Selects the addresses to publish, IPv4 first, sorted.

    Args:
        found: everything that the host has.
        ignore: our own interface's name.
    """
    usable = sorted(
        (a for a in found if _is_usable(a, ignore)), key=lambda a: (a.address.version, int(a.address))
    )
    regular = [a for a in usable if _rank(a.address) == 0]
    last_resorts = [[a for a in usable if _rank(a.address) == rank] for rank in (1, 2)]
    chosen = _thinned(regular) or next((resort for resort in last_resorts if resort), [])
    return tuple(dict.fromkeys(str(a.address) for a in chosen))


def tunnel_addresses(found: Iterable[InterfaceAddress], ignore: str) -> tuple[str, ...]:
    """Selects the addresses of tunnels other than ours (``ignore``), in order of their text."""
    return tuple(sorted({str(a.address) for a in found if a.is_tunnel and a.interface != ignore}))


def _is_usable(found: InterfaceAddress, ignore: str) -> bool:
    if found.interface == ignore or found.is_tunnel or not found.is_usable:
        return False
    if isinstance(found.address, IPv6Address):
        is_inside = any(found.address in prefix for prefix in _INSIDE)
        return not is_inside and not found.address.is_link_local
    return True


def _rank(address: Address) -> int:
    """Returns 0: publish it; 1: only for want of better; 2: only for want of anything."""
    scope = address_scope(str(address))
    return {AddressScope.LINK_LOCAL: 1, AddressScope.LOOPBACK: 2}.get(scope, 0)


def _thinned(found: Iterable[InterfaceAddress]) -> list[InterfaceAddress]:
    n_in_subnet: dict[tuple[str, str], int] = {}
    kept = []
    for a in found:
        if a.address.version == 6:
            subnet = (a.interface, str(ip_network((int(a.address), min(a.prefix_length, 64)), strict=False)))
            n_in_subnet[subnet] = n_in_subnet.get(subnet, 0) + 1
            if n_in_subnet[subnet] > MOST_IPV6_PER_SUBNET:
                continue
        kept.append(a)
    return kept
