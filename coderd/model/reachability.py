"""A node's report of its endpoints, its relay latencies, and its path to each peer."""

from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from coderd.model.addresses import AddrPort
from coderd.model.paths import PathInfo


@dataclass(frozen=True, slots=True)
class NodeUpdate:
    """Where a node can be reached, as it tells its server."""

    home_region: int
    """0 while unknown: the server then shows this node to no peer."""
    endpoints: tuple[tuple[AddrPort, int], ...] = ()
    """Addresses and how they were found, best first."""
    latencies: dict[int, float] = field(default_factory=dict)
    """Seconds to each region's relay."""


class PeerPath(NamedTuple):
    """The path that a node uses to one peer."""

    peer: UUID
    path: PathInfo
    is_used: bool
    """Whether data was sent to the peer lately; a path that is not used is reported as ``none``."""
