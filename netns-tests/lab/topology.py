"""The words of RFC 4787 for a NAT, and the named topologies as data. No code of the lab or the product is used here."""

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
    """Every kind that the lab can build, by the name that its tests use: four mappings times three filterings."""
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
Front = Literal["none", "nginx", "haproxy"]
Gate = Literal["none", "forwards", "masks", "balances"]
UpstreamNet = Literal["100.64.0.", "192.168.100."]


@dataclass(frozen=True)
class Site:
    """One place with hosts: behind a router that translates or filters, or straight on the internet.

    NATs translate IPv4 alone. With IPv6 a site behind a NAT has real addresses and whatever ``firewall`` says.
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
    """Else packets of the second family vanish in the core, though addresses and routes say that it is there."""
    front: Front = "none"
    """What takes the server's connections first; STUN is asked of the server itself."""
    gate: Gate = "none"
    """What stands at the server's public address, the server itself having a private one: a router that ``forwards``
    its TCP and UDP ports; one that ``masks`` besides, so that all senders look like the router; or a machine that
    ``balances`` TCP connections, which hides who makes them, and knows nothing of UDP."""


TOPOLOGIES: dict[str, Topology] = {
    "same-lan": Topology("both on one LAN, behind one easy NAT", user=Site(EASY), dev=None),
    "no-nat": Topology("both with public addresses", user=Site(), dev=Site()),
    "easy-nat": Topology(
        "each behind a NAT with endpoint-independent mapping", user=Site(EASY), dev=Site(EASY)
    ),
    "hard-open": Topology(
        "the user behind a hard NAT, dev behind one that filters by address only",
        user=Site(HARD),
        dev=Site(EASY_BY_ADDRESS),
    ),
    "hard-strict": Topology(
        "the user behind a hard NAT, dev behind an easy one that filters by port",
        user=Site(HARD),
        dev=Site(EASY),
    ),
    "hard-nat-both": Topology("each behind a hard NAT", user=Site(HARD), dev=Site(HARD)),
    "udp-blocked": Topology(
        "easy NATs whose firewalls pass TCP alone",
        user=Site(EASY, passes_udp=False),
        dev=Site(EASY, passes_udp=False),
    ),
    "ipv6-only": Topology(
        "no IPv4 anywhere, a stateful firewall at each site",
        user=Site(firewall="stateful"),
        dev=Site(firewall="stateful"),
        family=6,
    ),
    "udp-blocked-here": Topology(
        "easy NATs, the user's passes TCP alone", user=Site(EASY, passes_udp=False), dev=Site(EASY)
    ),
    "hairpin": Topology(
        "on one isolating LAN, behind one NAT that turns around what is meant for its own outer address",
        user=Site(EASY_OPEN, isolates=True, hairpins=True),
        dev=None,
    ),
    "no-hairpin": Topology(
        "on one isolating LAN, behind one NAT that does not", user=Site(EASY_OPEN, isolates=True), dev=None
    ),
    "double-nat": Topology(
        "the user behind two easy NATs in a row, dev behind one",
        user=Site(EASY, upstream=EASY, upstream_net="192.168.100."),
        dev=Site(EASY),
    ),
    "cgnat-easy": Topology(
        "each behind an easy NAT and its carrier's easy NAT, the same 100.64.0.0/24 between them",
        user=Site(EASY, upstream=EASY),
        dev=Site(EASY, upstream=EASY),
    ),
    "cgnat-hard": Topology(
        "the user behind an easy NAT and its carrier's hard one, dev behind an easy one",
        user=Site(EASY, upstream=HARD),
        dev=Site(EASY),
    ),
    "mtu-1280": Topology(
        "easy NATs, the user's link carries 1280 bytes, too few for the tunnel's own 1280 in UDP",
        user=Site(EASY, mtu=1280),
        dev=Site(EASY),
    ),
    "large-swallowed": Topology(
        "easy NATs, packets over 1300 bytes vanish on the user's link, without a word",
        user=Site(EASY, swallows_over=1300),
        dev=Site(EASY),
    ),
    "dual-stack": Topology(
        "hard NATs for IPv4; IPv6 with a stateful firewall at each site",
        user=Site(HARD, firewall="stateful"),
        dev=Site(HARD, firewall="stateful"),
        second=6,
    ),
    "broken-ipv6": Topology(
        "easy NATs for IPv4; IPv6 has addresses and routes, and carries nothing",
        user=Site(EASY),
        dev=Site(EASY),
        second=6,
        second_works=False,
    ),
    "broken-ipv6-hard": Topology(
        "hard NATs for IPv4; IPv6 has addresses and routes, and carries nothing",
        user=Site(HARD),
        dev=Site(HARD),
        second=6,
        second_works=False,
    ),
    "broken-ipv4": Topology(
        "IPv6 with stateful firewalls; IPv4 has addresses and routes, and carries nothing",
        user=Site(firewall="stateful"),
        dev=Site(firewall="stateful"),
        family=6,
        second=4,
        second_works=False,
    ),
    "behind-nginx": Topology(
        "hard NATs, so that all goes by the relay, whose connections nginx takes and upgrades",
        user=Site(HARD),
        dev=Site(HARD),
        front="nginx",
    ),
    "behind-haproxy": Topology(
        "hard NATs, so that all goes by the relay, whose connections haproxy takes and upgrades",
        user=Site(HARD),
        dev=Site(HARD),
        front="haproxy",
    ),
    "server-forwarded": Topology(
        "easy NATs; the server behind a router that forwards its ports",
        user=Site(EASY),
        dev=Site(EASY),
        gate="forwards",
    ),
    "server-masked": Topology(
        "easy NATs; the server behind a router that forwards its ports and hides who sends",
        user=Site(EASY),
        dev=Site(EASY),
        gate="masks",
    ),
    "server-masked-open": Topology(
        "the user behind an easy NAT, dev public; the server behind a router that hides who sends",
        user=Site(EASY),
        dev=Site(),
        gate="masks",
    ),
    "server-balanced": Topology(
        "easy NATs; a load balancer before the server that passes TCP alone and hides who connects",
        user=Site(EASY),
        dev=Site(EASY),
        gate="balances",
    ),
    "server-balanced-open": Topology(
        "the user behind an easy NAT, dev public; the same load balancer",
        user=Site(EASY),
        dev=Site(),
        gate="balances",
    ),
}
"""The named ones, for ``scripts/lab run``."""


def nat_grid() -> dict[str, Topology]:
    """Every pair of kinds of NAT. Which end has which does not matter to a path, so each pair is there once."""
    names = list(NAT_KINDS)
    return {
        f"{one}/{other}": Topology(
            f"{one} and {other}", user=Site(NAT_KINDS[one]), dev=Site(NAT_KINDS[other])
        )
        for at, one in enumerate(names)
        for other in names[at:]
    }
