"""Paths between nodes, and the relays that they may take."""

from uuid import UUID

from coderd.api.messages.message import ApiMessage
from coderd.model.paths import PathKind


class ReachInfo(ApiMessage, frozen=True):
    """A node's path to a peer, as the node reports it."""

    node: str
    """``owner/name``."""
    node_id: UUID
    kind: str
    """Of the node: device or workspace."""
    peer: str
    peer_id: UUID
    peer_kind: str
    path: PathKind
    """``none``: not in use."""
    since: float
    """Seconds since it became this path."""
    region: str = ""
    """Code of the relay's region, where the path is relayed."""
    rtt: float | None = None
    """Round trip in seconds; null while unmeasured."""


class PathList(ApiMessage, frozen=True):
    """Paths by node, then peer."""

    paths: list[ReachInfo]


class RelayLoad(ApiMessage, frozen=True):
    """Load of the server's own relay; counts are since the server's start."""

    clients: int
    bytes: int
    packets: int
    drops: int
    """Packets that could not be forwarded."""
    queued_packets: int
    """Packets that wait for clients now."""
    queued_bytes: int


class RelayRegionInfo(ApiMessage, frozen=True):
    """A region of the relay map, as nodes see it."""

    id: int
    code: str
    name: str
    relays: list[str]
    """Host names; a region of STUN servers alone has none."""
    home_of: int
    """Number of nodes with this home region."""
    latency: float | None
    """Median latency that nodes measured, in seconds; null if none did."""
    measured_by: int
    """Number of nodes that measured it."""
    load: RelayLoad | None = None
    """Of the server's own relay; for admins and owners."""


class RelayList(ApiMessage, frozen=True):
    """Regions by number."""

    regions: list[RelayRegionInfo]
