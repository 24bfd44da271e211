"""The peers of the NetMap, as WireGuard and the paths know them, and the handling of their restarts. Pure.

A peer that restarted has lost its sessions and has a new disco key. There are four ways to learn of it, the
quickest wins:

    the server says so        a new generation: sessions are dropped, the user's side initiates at once
    unreadable disco          from the peer's address, by an unknown key: the device initiates, sessions stay
    the path dies             and nothing relays: the same
    the peer says so          an introduction, first packet of the new session: the map follows, nothing drops

The last three need no server. The second is unauthenticated and can be forged; all that it causes is one
handshake with the peer itself, once a second at most.
"""

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from typing import Final, NamedTuple, TypeAlias, TypeGuard

from coderd.engine.dataplane import PlaneEvent
from coderd.engine.introduction import (
    Introduced,
    SecretAcknowledged,
    SecretTold,
    SecretWanted,
    encode_introduction,
    encode_packet,
)
from coderd.engine.tunnel_secrets import TunnelSecrets
from coderd.magicsock import Conn
from coderd.metrics import Counters
from coderd.model import RandomBytes, limits
from coderd.model.deadline import Deadline
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NetMap, NodeKind, Peer
from coderd.model.paths import PathKind
from coderd.model.token_bucket import BucketTable, Rate
from coderd.wireguard import Device, HandshakeCompleted

SETTLED_AFTER = 1.0
"""Seconds: a handshake no older than this was with the peer as it is now."""

INTRODUCED_RATE: Final = limits.INTRODUCED_RATE
INTRODUCED_BURST: Final = limits.INTRODUCED_BURST
CALL_INTERVAL = 0.5
"""Least seconds between two handshakes begun for such reasons: the first must have time to be answered."""


_Start: TypeAlias = tuple[DiscoPublic, int]
"""What tells one start of a node from another: its disco key and its generation."""


class _Introduction(NamedTuple):
    """A peer's own word, in force while the server's word on the peer is what it was."""

    served: _Start
    said: _Start


class Roster:
    """The peers of the NetMap, and the one place that decides which start of a peer is the present one.

    Attributes:
        netmap: the map in force: the server's, with what restarted peers have said of themselves since.

    Args:
        device: learns of keys and addresses.
        conn: learns of endpoints and disco keys.
        disco_key: this start's, told to peers that cannot have heard of it.
        generation: likewise.
        rng: makes secrets.
        counters: ``engine.*``.

    Attributes:
        secrets: by which peers tell who comes from our daemon, and we who comes from theirs.
    """

    def __init__(
        self,
        device: Device,
        conn: Conn,
        *,
        disco_key: DiscoPublic,
        generation: int,
        rng: RandomBytes,
        counters: Counters,
    ) -> None:
        self.secrets = TunnelSecrets(rng, generation)
        self._counters = counters
        self._changes = BucketTable[NodePublic](
            Rate(INTRODUCED_BURST, INTRODUCED_RATE), limits.MAX_INTRODUCERS
        )
        self._device = device
        self._conn = conn
        self._disco_key = disco_key
        self._generation = generation
        self.netmap: NetMap | None = None
        self._peers: dict[NodePublic, Peer] = {}
        self._introduced: dict[NodePublic, _Introduction] = {}
        self._called_at: dict[NodePublic, float] = {}
        """When each peer that restarted was called last."""
        self._address: IPv6Address | None = None
        self._initiates = False
        """Whether this end initiates handshakes after a restart; the device does, so two never cross."""

    def get(self, key: NodePublic) -> Peer | None:
        """Returns the peer with a node key, or None."""
        return self._peers.get(key)

    def keys(self) -> set[NodePublic]:
        """Returns the node keys of all peers."""
        return set(self._peers)

    def set_netmap(self, netmap: NetMap, now: float, unix_now: float) -> NetMap:
        """Makes the peers those of the server's map, and returns the map in force.

        A peer that restarted loses its sessions, and the user's side begins a handshake. What a peer has said
        of itself stays in force until the server says anything else of its start than it did then.
        """
        netmap = self.netmap = self._with_introductions(netmap)
        self._address = netmap.self_node.address
        self._device.set_own_address(self._address.packed)
        self._initiates = netmap.self_node.kind is NodeKind.DEVICE
        before, self._peers = self._peers, {peer.node_key: peer for peer in netmap.peers.values()}
        for key in before.keys() - self._peers.keys():
            self._device.remove_peer(key, now)
            self._called_at.pop(key, None)
        for key, peer in self._peers.items():
            if (known := before.get(key)) is None or known.address != peer.address:
                self._device.set_peer(key, now, allowed_ips=[IPv6Network(peer.address)])
        self._conn.set_netmap(self._peers.values(), now)
        for key, peer in self._peers.items():
            if (known := before.get(key)) is not None and known.generation != peer.generation:
                self._device.forget_sessions(key, now)
                self._call(key, now, unix_now)
        self.secrets.set_peers(self._peers, before)
        return netmap

    def _with_introductions(self, netmap: NetMap) -> NetMap:
        if not self._introduced:
            return netmap
        peers = dict(netmap.peers)
        by_key = {peer.node_key: peer for peer in peers.values()}
        for key, words in list(self._introduced.items()):
            peer = by_key.get(key)
            if peer is None or _start_of(peer) != words.served:
                del self._introduced[key]
            else:
                peers[peer.node_id] = _restarted(peer, words.said)
        return replace(netmap, peers=peers)

    def handle_event(self, event: PlaneEvent, now: float, unix_now: float) -> Peer | None:
        """Takes an event of the tunnel.

        Returns a peer that has introduced another start of itself, as it is now.
        """
        peer = self._peers.get(event.peer)
        match event:
            case Introduced():
                return self._handle_introduced(event, now)
            case HandshakeCompleted():
                if self._conn.path(event.peer).kind is not PathKind.DIRECT:
                    self._introduce_ourselves(event.peer, now, unix_now)
                if self._tells_secret_to(peer):
                    self.secrets.handle_session(peer, now)
            case SecretTold() if peer is not None:
                self._say(peer, self.secrets.handle_told(event), now, unix_now)
            case SecretAcknowledged():
                self.secrets.handle_acknowledged(event)
            case SecretWanted():
                if self._tells_secret_to(peer):
                    self.secrets.handle_wanted(event.peer, now)
        self.handle_timeout(now, unix_now)
        return None

    def ask_secret(self, key: NodePublic, now: float, unix_now: float) -> None:
        """Asks a peer's daemon for its secret, unless it has just been asked."""
        peer = self._peers.get(key)
        if peer is not None and (body := self.secrets.ask(key, now)) is not None:
            self._say(peer, body, now, unix_now)

    def handle_timeout(self, now: float, unix_now: float) -> None:
        """Tells peers again what they have not acknowledged."""
        for key, body in self.secrets.poll(now):
            if (peer := self._peers.get(key)) is not None:
                self._say(peer, body, now, unix_now)

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``, or None."""
        return self.secrets.poll_timeout()

    def _tells_secret_to(self, peer: Peer | None) -> TypeGuard[Peer]:
        """Returns whether a peer may request secrets: only workspaces may, and only of devices."""
        return self._initiates and peer is not None and peer.kind is NodeKind.WORKSPACE

    def _say(self, peer: Peer, body: bytes, now: float, unix_now: float) -> None:
        if self._address is not None:
            packet = encode_packet(self._address, peer.address, body)
            self._device.handle_packets([packet], now, unix_now)

    def handle_unreadable(self, key: NodePublic, now: float, unix_now: float) -> None:
        """Notes that disco came from a peer's address and no key opens it: one of the two has restarted."""
        status = self._device.status(now).peer(key)
        if status is None:
            return
        if status.has_session:
            self._introduce_ourselves(key, now, unix_now)
        shaken_at = status.last_handshake_at
        if shaken_at is None or now - shaken_at > SETTLED_AFTER:
            self._call(key, now, unix_now)

    def handle_path_lost(self, key: NodePublic, now: float, unix_now: float) -> None:
        """Notes that a peer's direct path failed and it has no relay; it may have restarted."""
        self._call(key, now, unix_now)

    def handle_path_found(self, key: NodePublic, now: float) -> None:
        """Notes a new path or relay to a peer; repeats a handshake message that it has not answered."""
        self._device.repeat_handshake(key, now)

    def _call(self, key: NodePublic, now: float, unix_now: float) -> None:
        """Begins a handshake, if that is for this end to do."""
        if not self._initiates:
            return
        if now - self._called_at.get(key, float("-inf")) <= CALL_INTERVAL:
            self._device.repeat_handshake(key, now)
        else:
            self._called_at[key] = now
            self._device.initiate(key, now, unix_now, force=True)

    def _handle_introduced(self, event: Introduced, now: float) -> Peer | None:
        known, said = self._peers.get(event.peer), (event.disco_key, event.generation)
        if known is None or self.netmap is None or _start_of(known) == said:
            return None
        if not self._changes.use(event.peer).take(1, now):
            self._counters["engine.drop.introduced_rate"] += 1
            return None
        before = self._introduced.get(event.peer)
        self._introduced[event.peer] = _Introduction(before.served if before else _start_of(known), said)
        peer = self._peers[event.peer] = _restarted(known, said)
        self.netmap = replace(self.netmap, peers={**self.netmap.peers, peer.node_id: peer})
        self._conn.introduce(peer, now)
        return peer

    def _introduce_ourselves(self, key: NodePublic, now: float, unix_now: float) -> None:
        peer = self._peers.get(key)
        if peer is None or self._address is None:
            return
        packet = encode_introduction(self._address, peer.address, self._disco_key, self._generation)
        self._device.handle_packets([packet], now, unix_now)


def _start_of(peer: Peer) -> _Start:
    return peer.disco_key, peer.generation


def _restarted(peer: Peer, start: _Start) -> Peer:
    return replace(peer, disco_key=start[0], generation=start[1])
