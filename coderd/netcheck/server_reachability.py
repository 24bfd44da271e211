"""What stands before the server, from what it says of our requests and from what its STUN sees. Pure.

The server ought to have the address at which it is reached. Where a router forwards to it, all is well as
long as datagrams are forwarded too, and show who sent them. A router that hides who sends, or a load balancer
that knows of TCP alone, takes from every node what it needs for direct paths, and no firewall at the nodes'
side explains it.
"""

from collections.abc import Collection
from enum import Enum
from typing import NamedTuple

from coderd.netcheck.mapped_address import ForeignAddress, HostAddresses
from coderd.netcheck.report import Report


class ServerReachability(Enum):
    """How nodes reach the server, and whether its STUN shows them their own addresses."""

    OPEN = "open"
    """Reached at its own address."""
    FORWARDED = "forwarded"
    """Behind something that passes on UDP with its sender, or at least does not stand in the way."""
    MASKED = "masked"
    """Behind something that shows its STUN another sender than this node."""
    CLOSED = "closed"
    """Behind something, and no STUN request of any node has ever reached it."""
    UNKNOWN = "unknown"


HIDES_MAPPINGS = frozenset({ServerReachability.MASKED, ServerReachability.CLOSED})
"""Where no node can learn its public address."""


class ServerView(NamedTuple):
    """How a request of ours reached the server, by the server's own account.

    Attributes:
        arrived_at: the server's address that it came to.
        n_stun_answered: Binding requests of all clients that its STUN has answered.
    """

    arrived_at: str
    n_stun_answered: int


def server_reachability(
    report: Report | None,
    host: HostAddresses,
    reached_at: Collection[str],
    view: ServerView | None,
    *,
    has_stun: bool,
) -> ServerReachability:
    """Returns how the server is reached.

    Args:
        report: the last netcheck's.
        host: this host's addresses.
        reached_at: addresses of the server's name, as this node resolves it.
        view: what the server said; None if it could not be asked.
        has_stun: whether the server offers STUN.
    """
    if report is not None and any(
        host.why_foreign(seen[0], server[0]) in (ForeignAddress.INNER, ForeignAddress.SERVERS_OWN)
        for server, seen in report.foreign_mappings.items()
    ):
        return ServerReachability.MASKED
    if view is None or report is None or not reached_at:
        return ServerReachability.UNKNOWN
    if view.arrived_at in reached_at:
        return ServerReachability.OPEN
    if has_stun and not report.udp and view.n_stun_answered == 0:
        return ServerReachability.CLOSED
    return ServerReachability.FORWARDED
