"""Addresses: ip:port pairs as the data path carries them, the 18-byte wire form, and tailnet addresses.

An ``AddrPort`` is what ``recvmsg`` returns, cut to two fields, so no packet ever pays for parsing: canonical
text of an IPv4 or IPv6 address (never ``::ffff:a.b.c.d``) and a port. IPv6 link-local carries its scope as
``%<ifindex>``.
"""

import struct
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias
from uuid import UUID

AddrPort: TypeAlias = tuple[str, int]

TAILNET_PREFIX = IPv6Network("fd60:627a:a42b::/48")
"""Every tailnet address lies in this prefix; it is laid over the first 6 bytes of a node's UUID."""

PORT_SPEEDTEST = 3
PORT_NODE_API = 4

_MAPPED = bytes(10) + b"\xff\xff"
_PORT = struct.Struct(">H")


class AddressScope(Enum):
    """How far an address reaches, by the table of the path rules.

    Not by ``ipaddress``, which calls documentation ranges private.
    """

    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    PRIVATE = "private"
    PUBLIC = "public"


_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_LINK_LOCAL = (IPv4Network("169.254.0.0/16"), IPv6Network("fe80::/10"))
_PRIVATE = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),
)


def address_scope(ip: str) -> AddressScope:
    """Classifies an address for path choice. Raises ValueError if it is none."""
    address = ip_address(ip)
    for scope, networks in (
        (AddressScope.LOOPBACK, _LOOPBACK),
        (AddressScope.LINK_LOCAL, _LINK_LOCAL),
        (AddressScope.PRIVATE, _PRIVATE),
    ):
        if any(address in network for network in networks):
            return scope
    return AddressScope.PUBLIC


def is_this_machine(ip: str) -> bool:
    """Returns whether an address reaches this machine alone.

    Loopback, and the unspecified ones, which Linux takes for it.
    """
    address = ip_address(ip.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified or address in _THIS_NETWORK


def is_ipv6(addr: AddrPort) -> bool:
    """Returns whether a pair's address is IPv6."""
    return ":" in addr[0]


def tailnet_address(node_id: UUID) -> IPv6Address:
    """Returns the one tailnet address of a node: the /48 prefix over the first 6 bytes of its id."""
    return IPv6Address(TAILNET_PREFIX.network_address.packed[:6] + node_id.bytes[6:])


def format_addr_port(addr: AddrPort) -> str:
    """Formats a pair as ``192.0.2.1:41641`` or ``[2001:db8::1]:41641``."""
    return f"[{addr[0]}]:{addr[1]}" if is_ipv6(addr) else f"{addr[0]}:{addr[1]}"


def parse_addr_port(text: str) -> AddrPort:
    """Reads what ``format_addr_port`` writes, canonically; raises ValueError on anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"not an ip:port pair: {text!r}")
    bracketed = host.startswith("[") and host.endswith("]")
    address = ip_address(host[1:-1] if bracketed else host)
    if bracketed != (address.version == 6):
        raise ValueError(f"not an ip:port pair: {text!r}")
    return (canonical_ip(str(address)), int(port))


def canonical_ip(ip: str) -> str:
    """Returns an address in canonical text, with an IPv4-mapped one turned into IPv4.

    Raises ValueError if it is invalid.
    """
    address = ip_address(ip)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


@lru_cache(maxsize=1024)
def encode_addr_port(addr: AddrPort) -> bytes:
    """Returns the 18-byte wire form of disco: 16-byte address (IPv4 mapped), port, big-endian.

    Results are cached: parsing costs as much as a handshake's MACs, and a flood repeats its addresses.
    """
    ip = addr[0].partition("%")[0]
    packed = IPv6Address(ip).packed if ":" in ip else _MAPPED + IPv4Address(ip).packed
    return packed + _PORT.pack(addr[1])


def parse_wire_addr_port(data: bytes) -> AddrPort:
    """Reads 18 bytes of disco's wire form. Raises ValueError on another length."""
    if len(data) != 18:
        raise ValueError(f"an endpoint on the wire has 18 bytes, not {len(data)}")
    ip = bytes(data[:16])
    host = str(IPv4Address(ip[12:])) if ip[:12] == _MAPPED else str(IPv6Address(ip))
    port: int = _PORT.unpack_from(data, 16)[0]
    return (host, port)
