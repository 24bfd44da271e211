"""``status``: this node, its server, its relays and its peers."""

from typing import Literal, TypeAlias

import msgspec

from coderd.control.messages.message import Message
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind

Transport: TypeAlias = Literal["derp", "websocket"]
State: TypeAlias = Literal["logged-out", "connecting", "running", "down"]


class StatusParams(Message, frozen=True, kw_only=True):
    """Parameters of ``status``: none."""


class SelfStatus(Message, frozen=True, kw_only=True):
    """This node as the server describes it."""

    name: str
    id: str
    kind: NodeKind
    address: str
    """Tailnet address."""
    node_key: str
    """``nodekey:<hex>``."""
    accept_inbound: str | None = None
    """Of a device: the ports that peers may connect to, by default ``none``; null where the server decides
    for each peer."""


class ServerStatus(Message, frozen=True, kw_only=True):
    """The link to the coordination server."""

    url: str
    connected: bool
    since_s: float | None = None
    """Seconds since the link was connected, or lost."""
    error: str = ""
    """Why it is not connected, in one sentence."""


class Region(Message, frozen=True, kw_only=True):
    """This node's home: the relay region at which peers reach it."""

    id: int
    code: str


class RelayLink(Message, frozen=True, kw_only=True):
    """One relay region that this node is connected to or dials: its home, and those of peers it talks to."""

    id: int
    code: str
    connected: bool
    node: str = ""
    """Name of the relay that is reached, of those in the region."""
    transport: Transport | None = None
    why: str = ""
    """Why it is reached by WebSocket, as the end of a sentence."""
    error: str = ""
    """Why it could not be reached the last time."""


class PeerPath(Message, frozen=True, kw_only=True):
    """Current path to a peer."""

    kind: PathKind
    via: str = ""
    """``ip:port`` of a direct path, the region's code of a relayed one."""
    latency_ms: float | None = None
    since_s: float | None = None


class PeerStatus(Message, frozen=True, kw_only=True):
    """One peer. Bytes are those of WireGuard's datagrams; the split by path is magicsock's."""

    name: str
    id: str
    kind: NodeKind
    address: str
    online: bool
    node_key: str
    path: PeerPath
    last_handshake_s: float | None = None
    """Seconds since the last handshake; null before the first."""
    tx_bytes: int = 0
    rx_bytes: int = 0
    tx_relay_bytes: int = 0
    rx_relay_bytes: int = 0
    tx_direct_bytes: int = 0
    rx_direct_bytes: int = 0


class Batches(Message, frozen=True, kw_only=True):
    """Mean sizes of the batches that crossed the process's walls since its start; 0 where none did."""

    datagrams_per_sendmsg: float = 0.0
    datagrams_per_recvmsg: float = 0.0
    segments_per_tun_read: float = 0.0
    segments_per_tun_write: float = 0.0


class Status(Message, frozen=True, kw_only=True):
    """State of a node, its server, its relays and its peers. Result of ``status``."""

    version: str
    state: State
    interface: str
    self_node: SelfStatus | None = msgspec.field(default=None, name="self")
    server: ServerStatus | None = None
    home_region: Region | None = None
    relays: tuple[RelayLink, ...] = ()
    endpoints: tuple[str, ...] = ()
    """This node's own candidates, as ``ip:port``."""
    udp_port: int | None = None
    peers: tuple[PeerStatus, ...] = ()
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    batches: Batches = Batches()
    health: tuple[str, ...] = ()
    """Problems, one sentence each."""
