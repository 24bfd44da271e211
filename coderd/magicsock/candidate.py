"""One address at which a peer may be: who named it, when it was tried, how it answered."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from coderd.magicsock.ping_budget import ANSWER_LIFETIME
from coderd.model.addresses import TAILNET_PREFIX, AddrPort
from coderd.model.transport import MAIN_SOCKET

LEARNED_LIFETIME = 45.0
"""Seconds that an address known only by its pings outlives the last of them."""

_NOWHERE = IPv4Network("0.0.0.0/8")
"""This network, whichever that is."""
_HIDES_IPV4 = tuple(
    map(
        IPv6Network,
        (
            "::/96",
            "::ffff:0:0/96",
            "::ffff:0:0:0/96",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "2001::/32",
            "2002::/16",
        ),
    )
)
"""IPv6 that ends at the IPv4 address inside it.

Compatible, mapped, translated (RFC 2765, 6052, 8215), Teredo, 6to4.
"""


class Candidate:
    """What is known of one address of one peer."""

    __slots__ = (
        "addr",
        "answered_at",
        "call_me_maybe_at",
        "in_netmap",
        "ping_heard_at",
        "pinged_at",
        "socket",
    )

    def __init__(self, addr: AddrPort) -> None:
        self.addr = addr
        self.socket = MAIN_SOCKET
        """Local socket that reaches it, as far as is known."""
        self.in_netmap = False
        self.call_me_maybe_at: float | None = None
        self.ping_heard_at: float | None = None
        """When the peer last pinged us from here."""
        self.pinged_at: float | None = None
        """When we last pinged it."""
        self.answered_at: float | None = None
        """When it last answered a ping; until then it gets few pings, and small ones."""

    def has_answered(self, now: float) -> bool:
        """Returns whether the peer has answered from here within ``ANSWER_LIFETIME``."""
        return self.answered_at is not None and now - self.answered_at <= ANSWER_LIFETIME

    def is_deletable(self, now: float) -> bool:
        """Returns whether neither the NetMap, a call-me-maybe nor a recent ping names the address."""
        if self.in_netmap or self.call_me_maybe_at is not None:
            return False
        return self.ping_heard_at is None or now - self.ping_heard_at > LEARNED_LIFETIME

    def forget_probes(self) -> None:
        """Forgets what was measured, not who named the address: the network changed."""
        self.socket = MAIN_SOCKET
        self.pinged_at = None
        self.answered_at = None

    @property
    def origins(self) -> tuple[str, ...]:
        """Returns who named the address: ``netmap``, ``call-me-maybe``, ``ping``."""
        named = {
            "netmap": self.in_netmap,
            "call-me-maybe": self.call_me_maybe_at is not None,
            "ping": self.ping_heard_at is not None,
        }
        return tuple(name for name, is_origin in named.items() if is_origin)


@lru_cache(maxsize=4096)
def may_be_node(addr: AddrPort) -> bool:
    """Returns whether an address can be a node's at all, this machine's own among them.

    Not: port 0, multicast, broadcast, the unspecified address, IPv6 link-local (it means nothing without an
    interface), whatever names an interface, and the tailnet's own addresses, since a tunnel must not run
    through itself.
    """
    ip, port = addr
    if "%" in ip:
        return False
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    if not 0 < port < 65536 or address.is_multicast or address.is_unspecified or ip == "255.255.255.255":
        return False
    if isinstance(address, IPv6Address):
        return not address.is_link_local and address not in TAILNET_PREFIX and address.ipv4_mapped is None
    return True


@lru_cache(maxsize=4096)
def may_be_candidate(addr: AddrPort) -> bool:
    """Returns whether an address that a peer or the server named may be pinged as the peer's.

    Refused, of those that can be a node's: this machine's loopback, what is reserved, and IPv6 that hides an
    IPv4 address. The broadcast addresses of this machine's networks are left to the kernel, which knows them
    and refuses.
    """
    if not may_be_node(addr):
        return False
    address = ip_address(addr[0])
    if isinstance(address, IPv4Address):
        return not (address.is_loopback or address.is_reserved or address in _NOWHERE)
    return not (address.is_loopback or any(address in network for network in _HIDES_IPV4))
