"""This node and its peers, as the server sent them last. Frozen: a new map replaces the old."""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address
from uuid import UUID

from coderd.model.addresses import AddrPort
from coderd.model.derpmap import EMBEDDED_REGION, DerpMap
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.paths import PathPolicy
from coderd.model.ports import ALL_PORTS, PortSet


class NodeKind(StrEnum):
    """What a node is to the team."""

    WORKSPACE = "workspace"
    DEVICE = "device"
    """A user's machine."""
    SERVER = "server"
    """The server itself, where web apps are relayed by it.

    To its peers it looks like a device, which is all that it is to them.
    """


class Capability(StrEnum):
    """What a node's program can do that earlier releases could not.

    A node says it in its hello; the server tells its peers.
    """

    PACKET_FILTER = "packet-filter"
    """Admits inbound packets by ``PeerAccess`` alone.

    Ports and terminals that a share does not name are closed.
    """
    BIRTHDAY = "birthday"
    """Searches for random ports (``--birthday``) together with peers that have this capability, too."""
    TUNNEL_SECRET = "tunnel-secret"
    """Announces a secret in its introduction, to be shown by connections to the peer's port 4."""


@dataclass(frozen=True, slots=True)
class PeerAccess:
    """What a peer may reach of this node, as the server says it.

    Enforced here, at the receiver; see ``packetfilter``.

    The defaults are what a server of an earlier release means, which says nothing: everything.
    """

    ports: PortSet = ALL_PORTS
    """TCP and UDP ports of this node, and of its loopback through the node API."""
    terminal: bool = True
    """Whether the peer may open a shell through the node API."""
    is_server: bool = False
    """The peer is the server itself, which reaches TCP port 4 (the node API) and nothing else."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer as the server describes it. Addresses and rights come from the server, never from the peer."""

    node_id: UUID
    kind: NodeKind
    name: str
    """``owner/workspace`` or ``user/device``."""
    node_key: NodePublic
    disco_key: DiscoPublic
    address: IPv6Address
    """Its tailnet address: its one allowed IP, a /128."""
    home_region: int
    """The relay region it listens at; 0 while unknown."""
    endpoints: tuple[AddrPort, ...]
    generation: int
    """Random per process start: when it changes, the peer has lost its sessions."""
    online: bool = True
    """False when the server has lost the peer; its tunnel may live on."""
    path_policy: PathPolicy = PathPolicy.ANY
    access: PeerAccess = PeerAccess()
    """What the peer may reach of this node; meant for workspaces, a device decides for itself."""
    capabilities: frozenset[str] = frozenset()
    """What the peer's program says that it can do: members of ``Capability``, or words of a newer release."""

    @property
    def person(self) -> str:
        """The peer's owner: the part of its name before the slash, or the server's name."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class AbsentNode:
    """Peer that this node may reach, but that is not connected now."""

    node_id: UUID
    kind: NodeKind
    name: str
    address: IPv6Address
    terminal: bool = True
    """Whether shells of its own may go on here meanwhile."""


@dataclass(frozen=True, slots=True)
class SelfNode:
    """This node as the server describes it."""

    node_id: UUID
    kind: NodeKind
    name: str
    address: IPv6Address


@dataclass(frozen=True, slots=True)
class NetMap:
    """Network map: all that the server has sent to this node."""

    self_node: SelfNode
    derp_map: DerpMap
    peers: dict[UUID, Peer] = field(default_factory=dict)
    absent: dict[UUID, AbsentNode] = field(default_factory=dict)
    embedded_region: int = EMBEDDED_REGION
    """The region of the map that is the server itself; 0 = none is."""

    @property
    def owner(self) -> str:
        """The user that owns this node: the name before the slash; empty where there is no slash."""
        owner, slash, _ = self.self_node.name.partition("/")
        return owner if slash else ""

    def find(self, name: str) -> list[Peer]:
        """Returns the peers called ``name``: a full name, or the bare name of a peer with this node's owner.

        A bare name never stands for another user's node, even while the own one is not connected: others
        choose the names of the workspaces that they share.
        """
        meant = self._full_names(name)
        return [peer for peer in self.peers.values() if peer.name in meant]

    def is_absent(self, name: str) -> bool:
        """Returns whether ``name``, as for ``find``, is a node that may be met and is not connected."""
        meant = self._full_names(name)
        return any(node.name in meant for node in self.absent.values())

    def of_others(self, name: str) -> list[str]:
        """Returns full names of others' nodes that bear this bare name, sorted, as suggestions."""
        known = {peer.name for peer in self.peers.values()} | {node.name for node in self.absent.values()}
        return sorted(full for full in known if name and full.partition("/")[2] == name)

    def _full_names(self, name: str) -> set[str]:
        return {name, f"{self.owner}/{name}"} if name and "/" not in name else {name}
