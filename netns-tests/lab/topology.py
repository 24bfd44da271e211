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
HARD_BY_ADDRESS = Nat(Mapping.ADDRESS_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)

HARD = Nat(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
"""The strict company router: a fresh random port for each destination."""

HARD_SEQUENTIAL = Nat(
    Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT, sequential=True
)

NAT_KINDS: dict[str, Nat] = {
    "easy": EASY,
    "easy-by-address": EASY_BY_ADDRESS,
    "easy-open": EASY_OPEN,
    "hard-by-address": HARD_BY_ADDRESS,
    "hard": HARD,
    "hard-sequential": HARD_SEQUENTIAL,
}
"""Every kind that the lab can build, by the name that its tests use."""

Family = Literal[4, 6]
Firewall = Literal["none", "stateful"]


@dataclass(frozen=True)
class Site:
    """One place with hosts: behind a router that translates or filters, or straight on the internet."""

    nat: Nat | None = None
    """How its router translates; None: public addresses all the way."""
    firewall: Firewall = "none"
    """Without NAT: ``stateful`` lets in only what answers (filtering by address and port)."""
    passes_udp: bool = True

    @property
    def has_router(self) -> bool:
        """Whether hosts sit behind a router rather than on the internet itself."""
        return self.nat is not None or self.firewall != "none" or not self.passes_udp


@dataclass(frozen=True)
class Topology:
    """Where the user and the workspace are, seen from the server. ``dev=None``: on the user's own LAN."""

    says: str
    """One line for people."""
    user: Site
    dev: Site | None
    family: Family = 4


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
}
