"""Plans how a region's nodes are dialled: addresses, names and certificate rules. Pure."""

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from coderd.model.derpmap import DEFAULT_DERP_PORT, DerpNode, DerpRegion

HTTP_PORT: Final = 80
MAX_PORT: Final = 65535
MAX_NAME: Final = 253
"""Most characters of a DNS name without its last dot (RFC 1035 §2.3.4)."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
PIN_PREFIX: Final = "sha256-raw:"


class Family(Enum):
    """An address family by its IP version."""

    IPV4 = 4
    IPV6 = 6


@dataclass(frozen=True, slots=True)
class Attempt:
    """An address to dial by TCP: ``host`` is a literal, or a name that is resolved in this family only."""

    family: Family
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class DialPlan:
    """A node, the addresses to dial at once, of which the first connection wins, and the names to send.

    Attributes:
        node: the node of the relay map.
        attempts: empty where the node has no address of either family or port, or an invalid host name, which
            would otherwise go into HTTP headers.
        host_header: the Host field: HostName, with the port unless it is the scheme's default.
        server_name: the name sent in the ClientHello, None for an IP literal or plain HTTP.
        is_plain_http: whether the node is dialled without TLS.
    """

    node: DerpNode
    attempts: tuple[Attempt, ...]
    host_header: str
    server_name: str | None
    is_plain_http: bool


class CertificateRule(Enum):
    """Rules by which a relay's certificate is verified."""

    SERVER = "what the server itself is held to"
    HOST_NAME = "the chain for the host name"
    OTHER_NAME = "the chain for another name"
    PIN = "the hash of the one certificate"
    ANYTHING = "nothing, in tests"


def dial_plans(region: DerpRegion) -> tuple[DialPlan, ...]:
    """Returns the plans of a region's nodes in the map's order, without nodes for STUN only."""
    return tuple(dial_plan(node) for node in region.nodes if not node.stun_only)


def dial_plan(node: DerpNode) -> DialPlan:
    """Returns the plan for dialling one node of a region."""
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
    """Returns whether a text is an IP literal without zone, or a name valid in DNS, ClientHello and Host."""
    if _version(text) is not None:
        return "%" not in text
    try:
        name = text.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def certificate_rule(node: DerpNode) -> CertificateRule:
    """Returns the rule for verifying a node's certificate.

    A pin or another name is checked even with ``insecure_for_tests`` (``derp.io.tls``).
    """
    if node.server_trust:
        return CertificateRule.SERVER
    if node.cert_name.startswith(PIN_PREFIX):
        return CertificateRule.PIN
    if node.cert_name and node.cert_name != node.host_name:
        return CertificateRule.OTHER_NAME
    return CertificateRule.ANYTHING if node.insecure_for_tests else CertificateRule.HOST_NAME


def _target(host_name: str, literal: str, family: Family) -> str | None:
    """Returns the host that a family's attempt dials, or None: the map's literal, else the host name.

    A literal of the other family is not dialled.
    """
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
