"""Where to send STUN for a relay node, one address family at a time."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from ipaddress import ip_address

from coderd.model.addresses import AddrPort, is_this_machine
from coderd.model.derpmap import DEFAULT_STUN_PORT, DerpNode


class Family(IntEnum):
    """An address family, by its version number."""

    V4 = 4
    V6 = 6


Resolved = Mapping[str, Sequence[str]]
"""Addresses by host name, as the shell resolved them beforehand; both families, in order of preference."""


def stun_target(node: DerpNode, family: Family, resolved: Resolved) -> AddrPort | None:
    """Returns the address to probe, or None if the node offers no STUN over that family.

    A test address overrides all; then the node's own field of that family; an empty field means DNS.
    """
    port = node.stun_port or DEFAULT_STUN_PORT
    if not 0 < port <= 65535:
        return None
    literal = node.stun_test_ip or family_field(node, family)
    candidates = (literal,) if literal else (node.host_name, *resolved.get(node.host_name, ()))
    found = (ip for text in candidates if (ip := _of_family(text, family)) is not None)
    return next(((ip, port) for ip in found if not (node.is_elsewhere and is_this_machine(ip))), None)


def family_field(node: DerpNode, family: Family) -> str:
    """Returns what the map says of a node's address of a family.

    Empty, a literal, or something that means *none*.
    """
    return node.ipv4 if family is Family.V4 else node.ipv6


def may_use(node: DerpNode, family: Family) -> bool:
    """Returns whether the map lets a node be reached over a family."""
    text = family_field(node, family)
    return not text or _of_family(text, family) is not None


def is_test_node(node: DerpNode) -> bool:
    """Returns whether a node is for tests: probed even if the host seems to lack the family."""
    return bool(node.stun_test_ip) or node.ipv4 == "127.0.0.1"


def _of_family(text: str, family: Family) -> str | None:
    """The canonical address if the text is one of that family, else None."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return str(address) if address.version == family else None
