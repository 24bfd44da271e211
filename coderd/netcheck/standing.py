"""What stands before the server, from what it says of our requests and from what its STUN sees. Pure.

The server ought to have the address at which it is reached. Where a router forwards to it, all is well as long as datagrams
are forwarded too, and show who sent them. A router that hides who sends, or a load balancer that knows of TCP alone, takes
from every node what it needs for direct paths, and no firewall at the nodes' side explains it.
"""

from collections.abc import Collection
from enum import Enum
from typing import NamedTuple

from coderd.netcheck.report import Report
from coderd.netcheck.sighting import Here, Oddity


class Standing(Enum):
    """How the server stands in the network."""

    OPEN = "open"
    """At the very address that we reach."""
    FORWARDED = "forwarded"
    """Behind something that passes on UDP and who sent it, or does at least not stand in the way."""
    MASKED = "masked"
    """Behind something that shows its STUN another sender than this node."""
    CLOSED = "closed"
    """Behind something, and no STUN request of anybody has ever reached it."""
    UNKNOWN = "unknown"


HURTS = frozenset({Standing.MASKED, Standing.CLOSED})
"""Where no node can learn its public address."""


class Passage(NamedTuple):
    """How a request of ours reached the server, by the server's own account.

    Attributes:
        arrived_at: the server's address that it came to.
        n_stun_answered: Binding requests that its STUN has answered, whosever.
    """

    arrived_at: str
    n_stun_answered: int


def standing_of(
    report: Report | None, here: Here, reached_at: Collection[str], passage: Passage | None, *, has_stun: bool
) -> Standing:
    """How the server stands.

    Args:
        report: the last netcheck's.
        here: this host's addresses.
        reached_at: addresses of the server's name, as this node resolves it.
        passage: what the server said; None where it could not be asked.
        has_stun: whether the server offers STUN.
    """
    if report is not None and any(
        here.oddity(seen[0], server[0]) in (Oddity.INNER, Oddity.SERVERS_OWN)
        for server, seen in report.odd_sightings.items()
    ):
        return Standing.MASKED
    if passage is None or report is None or not reached_at:
        return Standing.UNKNOWN
    if passage.arrived_at in reached_at:
        return Standing.OPEN
    if has_stun and not report.udp and passage.n_stun_answered == 0:
        return Standing.CLOSED
    return Standing.FORWARDED
