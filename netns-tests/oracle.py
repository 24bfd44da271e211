"""What path two sites must end up with, foretold from the words of their topology alone.

For a site behind a NAT, RFC 4787 says whether its outer port can be known beforehand (mapping) and who may answer
through it (filtering). A stateful firewall keeps addresses, so it maps independently of the endpoint and filters by
address and port.
"""

from typing import Literal

from lab.topology import EASY, EASY_OPEN, Filtering, Mapping, Nat, Site, Topology

Path = Literal["direct", "relay"]


def predict(topology: Topology) -> Path:
    """The path that the user and the workspace of a topology settle on."""
    if topology.dev is None:
        return "direct"  # their own LAN is between them, and nothing else
    if not (topology.user.passes_udp and topology.dev.passes_udp):
        return "relay"
    return predict_nats(behaviour(topology.user), behaviour(topology.dev))


def behaviour(site: Site) -> Nat:
    """A site's mapping and filtering, in the words for NATs, whatever makes them."""
    if site.nat is not None:
        return site.nat
    return EASY if site.firewall == "stateful" else EASY_OPEN


def predict_nats(one: Nat, other: Nat) -> Path:
    """Whether two NATs can be punched through from both sides at once."""
    independent = [nat for nat in (one, other) if nat.mapping is Mapping.ENDPOINT_INDEPENDENT]
    match independent:
        case [_, _]:
            return "direct"
        case [nat]:  # the other side's port cannot be foretold: it must not matter here
            return "relay" if nat.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT else "direct"
        case _:
            return "relay"
