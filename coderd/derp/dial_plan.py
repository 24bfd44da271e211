"""How a region's node is dialled: addresses, names and certificate rules. Pure."""

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from coderd.model.derpmap import DEFAULT_DERP_PORT, DerpNode, DerpRegion

HTTP_PORT: Final = 80
MAX_PORT: Final = 65535
MAX_NAME: Final = 253
"""Characters of a name in DNS."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
PIN_PREFIX: Final = "sha256-raw:"


class Family(Enum):
    """An address family by its IP version."""

    IPV4 = 4
    IPV6 = 6


@dataclass(frozen=True, slots=True)
class Attempt:
    """One TCP dial. ``host`` is a literal, or a name to be resolved in this family alone."""

    family: Family
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class DialPlan:
    """One node: its attempts race, the first connection wins.

    Attributes:
        attempts: empty where the node has no address of either family, or a host name that is none: that goes into
            headers, and whoever writes the map may not write more than a name there.
        host_header: HostName, with a port that is not the scheme's own.
        server_name: the name sent in the ClientHello, None for an IP literal or plain HTTP.
    """

    node: DerpNode
    attempts: tuple[Attempt, ...]
    host_header: str
    server_name: str | None
    is_plain_http: bool


class CertificateRule(Enum):
    """What a relay's certificate is held to."""

    SERVER = "what the server itself is held to"
    HOST_NAME = "the chain for the host name"
    OTHER_NAME = "the chain for another name"
    PIN = "the hash of the one certificate"
    ANYTHING = "nothing, in tests"


def dial_plans(region: DerpRegion) -> tuple[DialPlan, ...]:
    """The nodes to try, in order; those for STUN only are left out."""
    return tuple(dial_plan(node) for node in region.nodes if not node.stun_only)


def dial_plan(node: DerpNode) -> DialPlan:
    """How to dial one node."""
    default_port = HTTP_PORT if node.force_http else DEFAULT_DERP_PORT
    port = node.derp_port or default_port
    attempts: list[Attempt] = []
    if 0 < port <= MAX_PORT and is_host(node.host_name):
        for family, literal in ((Family.IPV4, node.ipv4), (Family.IPV6, node.ipv6)):
            target = _target(node.host_name, literal, family)
            if target is not None:
                attempts.append(Attempt(family, target, port))
    is_literal = _version(node.host_name) is not None
    return DialPlan(
        node=node,
        attempts=tuple(attempts),
        host_header=_host_header(node.host_name, port, default_port),
        server_name=None if is_literal or node.force_http else node.host_name,
        is_plain_http=node.force_http,
    )


def is_host(text: str) -> bool:
    """Whether a text is an IP literal, or a name that may stand in DNS, in a ClientHello and in a header."""
    if _version(text) is not None:
        return "%" not in text
    try:
        name = text.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def certificate_rule(node: DerpNode) -> CertificateRule:
    """What the node's certificate is held to. A pin or another name is checked in tests too, see the TLS shell."""
    if node.server_trust:
        return CertificateRule.SERVER
    if node.cert_name.startswith(PIN_PREFIX):
        return CertificateRule.PIN
    if node.cert_name and node.cert_name != node.host_name:
        return CertificateRule.OTHER_NAME
    return CertificateRule.ANYTHING if node.insecure_for_tests else CertificateRule.HOST_NAME


def _target(host_name: str, literal: str, family: Family) -> str | None:
    """What a family's attempt dials: the map's literal, else the host name unless it is a literal of the other one."""
    if literal:
        return literal if _version(literal) == family.value else None
    return host_name if _version(host_name) in (None, family.value) else None


def _version(text: str) -> int | None:
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    return address.version


def _host_header(host: str, port: int, default_port: int) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port == default_port else f"{bracketed}:{port}"
