"""What path two sites must end up with, foretold from the words of their topology alone.

For a site behind a NAT, RFC 4787 says whether its outer port can be known beforehand (mapping) and who may
answer through it (filtering). A stateful firewall keeps addresses, so it maps independently of the endpoint
and filters by address and port. Both ends know the outer address and port at which a server saw the other,
and send there again and again; an answer goes back the way on which its question came.

Random ports are nobody's to guess. Sequential ones are foretold, one end at a time: what an end sends to the
other's address lies in its NAT's sequence between two servers' sightings, and the other is told. Two ends
cannot both foretell, since each one's next port depends on where it sends, which is the other's.

A server that sees no sources, since something stands before it, tells nobody an outer address. Then only
public addresses are known, to whom they belong and so to the other end.
"""

from typing import Literal

from lab.topology import EASY, EASY_OPEN, Family, Filtering, Mapping, Nat, Site, Topology

Path = Literal["direct", "relay"]

DIRECT_MTU = {4: 1280 + 32 + 8 + 20, 6: 1280 + 32 + 8 + 40}
"""The IP packet that carries the smallest tunnel fit for IPv6: its 1280 bytes, WireGuard, UDP, IP."""

_STRICTNESS = list(Filtering)
"""Loosest first."""


def predict(topology: Topology) -> Path:
    """The path that the user and the workspace of a topology settle on."""
    if topology.service.blocks_direct:
        return "relay"
    if topology.dev is None:
        return _one_lan(topology.user)
    families = [topology.family]
    if topology.second is not None and topology.second_works:
        families.append(topology.second)
    if any(_is_direct(topology, topology.user, topology.dev, family) for family in families):
        return "direct"
    return "relay"


def _one_lan(site: Site) -> Path:
    if not site.isolates:
        return "direct"  # their own LAN is between them, and nothing else
    return "direct" if site.hairpins and site.passes_udp else "relay"


def _is_direct(topology: Topology, user: Site, dev: Site, family: Family) -> bool:
    for site in (user, dev):
        if not site.passes_udp or min(site.mtu, site.swallows_over or 1500) < DIRECT_MTU[family]:
            return False
    if topology.service.gate in ("masks", "balances"):
        public = [site for site in (user, dev) if site.nat is None or family == 6]
        if len(public) < 2:  # whoever is public cannot send first, and so must let in whoever comes
            return any(behaviour(site, family).filtering is Filtering.ENDPOINT_INDEPENDENT for site in public)
    return predict_nats(behaviour(user, family), behaviour(dev, family)) == "direct"


def behaviour(site: Site, family: Family = 4) -> Nat:
    """A site's mapping and filtering, in the words for NATs, whatever makes them."""
    if site.nat is None or family == 6:
        return EASY if site.firewall == "stateful" else EASY_OPEN
    return site.nat if site.upstream is None else in_a_row(site.nat, site.upstream)


def in_a_row(inner: Nat, outer: Nat) -> Nat:
    """What two NATs are together: the port can be foretold if neither varies it, and both must let in."""
    varying = next((nat for nat in (inner, outer) if nat.mapping is not Mapping.ENDPOINT_INDEPENDENT), inner)
    strictest = max(inner.filtering, outer.filtering, key=_STRICTNESS.index)
    return Nat(varying.mapping, strictest, varying.sequential)


def predict_nats(one: Nat, other: Nat, *, foretells: bool = True) -> Path:
    """Whether two NATs can be punched through from both sides at once. One datagram that arrives is enough.

    Args:
        one: of the two.
        other: of the two.
        foretells: whether ends behind sequential ports foretell them; else they know what servers saw, and no
            more.
    """
    is_open = _gets_in(one, other, foretells) or _gets_in(other, one, foretells)
    return "direct" if is_open else "relay"


def _gets_in(sender: Nat, receiver: Nat, foretells: bool) -> bool:
    """Whether what the sender sends to a port that it knows of the receiver's arrives.

    The receiver has sent to the sender, too. If its mapping depends on the endpoint, it did so from another
    port than the one that the server saw, which is open to the server alone, unless the NAT filters nothing.
    That other port is known only where it can be foretold.
    """
    if receiver.filtering is Filtering.ENDPOINT_INDEPENDENT:
        return True
    is_foretold = foretells and receiver.sequential
    if receiver.mapping is not Mapping.ENDPOINT_INDEPENDENT and not is_foretold:
        return False
    if receiver.filtering is Filtering.ADDRESS_DEPENDENT:
        return True
    return sender.mapping is Mapping.ENDPOINT_INDEPENDENT  # else it comes from a port that nobody sent to
