"""The words: RFC 4787's for a NAT, ours for sites, for what is before a server, and for the whole.

They use no code of lab or product.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class Mapping(Enum):
    """How a NAT chooses the outer address and port of an inner one (RFC 4787 §4.1)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent mapping"
    ADDRESS_DEPENDENT = "address-dependent mapping"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent mapping"


class Filtering(Enum):
    """Whom a NAT lets answer through a mapping that exists (RFC 4787 §5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent filtering"
    ADDRESS_DEPENDENT = "address-dependent filtering"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent filtering"


@dataclass(frozen=True)
class Nat:
    """A kind of NAT: its mapping, its filtering, and whether it hands out dependent ports in sequence."""

    mapping: Mapping
    filtering: Filtering
    sequential: bool = False

    def __str__(self) -> str:
        order = ", sequential ports" if self.sequential else ""
        return f"{self.mapping.value}, {self.filtering.value}{order}"


EASY = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
"""The usual home router: punching works with anything whose port can be foretold."""

EASY_BY_ADDRESS = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT)
EASY_OPEN = Nat(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)

HARD = Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
"""The strict company router: a fresh random port for each destination."""


def nat_kinds() -> dict[str, Nat]:
    """Every kind that the lab can build, by the name that its tests use.

    They are four mappings times three filterings.
    """
    mappings = {
        "easy": (Mapping.ENDPOINT_INDEPENDENT, False),
        "address": (Mapping.ADDRESS_DEPENDENT, False),
        "hard": (Mapping.ADDRESS_AND_PORT_DEPENDENT, False),
        "sequential": (Mapping.ADDRESS_AND_PORT_DEPENDENT, True),
    }
    filterings = {
        "open": Filtering.ENDPOINT_INDEPENDENT,
        "by-address": Filtering.ADDRESS_DEPENDENT,
        "by-port": Filtering.ADDRESS_AND_PORT_DEPENDENT,
    }
    return {
        f"{mapping}-{filtering}": Nat(how, whom, sequential)
        for mapping, (how, sequential) in mappings.items()
        for filtering, whom in filterings.items()
    }


NAT_KINDS = nat_kinds()

Family = Literal[4, 6]
Firewall = Literal["none", "stateful"]
Front = Literal["none", "nginx", "haproxy", "websockets"]
Gate = Literal["none", "forwards", "masks", "balances"]
UpstreamNet = Literal["100.64.0.", "192.168.100."]


@dataclass(frozen=True)
class Site:
    """One place with hosts: behind a router that translates or filters, or straight on the internet.

    NATs translate IPv4 alone. With IPv6 a site behind a NAT has real addresses and whatever ``firewall``
    says.
    """

    nat: Nat | None = None
    """How its router translates; None: public addresses all the way."""
    firewall: Firewall = "none"
    """Without NAT: ``stateful`` lets in only what answers (filtering by address and port)."""
    passes_udp: bool = True
    upstream: Nat | None = None
    """A second NAT between the site's own router and the internet."""
    upstream_net: UpstreamNet = "100.64.0."
    """What lies between the two: a carrier's shared addresses (RFC 6598), or another home network."""
    isolates: bool = False
    """Whether its router keeps the hosts of the LAN from reaching each other there, as guest networks do."""
    hairpins: bool = False
    """Whether its NAT turns around what an inner host sends to the outer address of another (RFC 4787 §6)."""
    mtu: int = 1500
    """Of the link between the site and the internet."""
    swallows_over: int | None = None
    """IP packets longer than this vanish on that link, and no ICMP says so; TCP is told by its MSS."""

    @property
    def has_router(self) -> bool:
        """Whether hosts sit behind a router rather than on the internet itself."""
        return (
            self.nat is not None
            or self.firewall != "none"
            or not self.passes_udp
            or self.mtu != 1500
            or self.swallows_over is not None
        )


@dataclass(frozen=True)
class Service:
    """How the server is reached, and what it lets its nodes do."""

    front: Front = "none"
    """What takes the server's connections first; STUN is asked of the server itself.

    The last, ``websockets``, upgrades
    to WebSocket alone, and lets anything else that wants an upgrade through without it."""
    gate: Gate = "none"
    """What stands at the server's public address, the server itself having a private one.

    A router that ``forwards``
    its TCP and UDP ports; one that ``masks`` besides, so that all senders look like the router; or a machine
    that ``balances`` TCP connections, which hides who makes them, and knows nothing of UDP."""
    is_encrypted: bool = False
    """Its URL is https, with a certificate by an authority that the lab's hosts trust and nobody else."""
    is_pinned: bool = False
    """Its URL is https, with a certificate of its own making, whose pin its nodes are told."""
    websockets_only: bool = False
    """Nodes are told to reach relays by WebSocket, whatever else may work."""
    blocks_direct: bool = False
    """The team wants all traffic on its relays."""
    n_relays: int = 0
    """Relays on hosts of their own, each a region; the server itself is none then.

    0: the server is the one relay.
    """
    loses_relay: bool = False
    """The relay at which dev listens is killed once data flows, for good."""


@dataclass(frozen=True)
class Topology:
    """Where the user and the workspace are, seen from the server. ``dev=None``: on the user's own LAN."""

    says: str
    """One line for people."""
    user: Site
    dev: Site | None
    family: Family = 4
    """The one in which the server is named."""
    second: Family | None = None
    """The other one, where every host has addresses of both."""
    second_works: bool = True
    """Else packets of the second family vanish in the core, in spite of addresses and routes."""
    service: Service = Service()
