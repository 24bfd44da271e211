"""Paths between nodes, and the relays that they may take."""

from uuid import UUID

from coderd.api.messages.message import ApiMessage
from coderd.model.paths import PathKind


class ReachInfo(ApiMessage, frozen=True):
    """One node reaches another, as it reports itself."""

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
    """Seconds for which it has been this path."""
    region: str = ""
    """Code of the relay's region, where the path is relayed."""
    rtt: float | None = None
    """Seconds there and back; null while unmeasured."""


class PathList(ApiMessage, frozen=True):
    """Paths by node, then peer."""

    paths: list[ReachInfo]


class RelayLoad(ApiMessage, frozen=True):
    """What the server's own relay does; counts since the server's start."""

    clients: int
    bytes: int
    packets: int
    drops: int
    """Packets that could not be handed on."""
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
    """Nodes that listen there."""
    latency: float | None
    """Median of what nodes measured, in seconds; null where none did."""
    measured_by: int
    """How many did."""
    load: RelayLoad | None = None
    """Of the server's own relay; for admins and owners."""


class RelayList(ApiMessage, frozen=True):
    """Regions by number."""

    regions: list[RelayRegionInfo]
