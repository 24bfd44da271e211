"""Results of a device: batches to send, packets received, events, frozen snapshots."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, Protocol, TypeAlias

from coderd.model import Buffer
from coderd.model.keys import NodePrivate, NodePublic

Network: TypeAlias = IPv4Network | IPv6Network


class Source(Hashable, Protocol):
    """Origin of a datagram, a value of the layer below; the device reads its ``cookie_bytes`` only."""

    @property
    def cookie_bytes(self) -> bytes:
        """Address that a cookie is bound to: IP and port, packed big-endian, or a relayed sender's key."""


class Transmit(NamedTuple):
    """Batch to send: at most 64 datagrams and 65,000 bytes, of one size but a shorter last one."""

    to: NodePublic | Source
    """Peer that it is for, by any path; for a cookie reply the source of the message that it answers."""
    datagrams: list[bytes]
    segment_size: int
    tos: int = 0
    """Service byte of the outer header: ECN bits from the inner packet, or the DSCP of handshakes."""
    is_handshake: bool = False
    """Whether it holds initiations and responses, and no data: these may be sent by several paths at once."""


class Received(NamedTuple):
    """Decrypted packets of one peer, in order, without padding, their source address checked."""

    peer: NodePublic
    packets: list[Buffer]


class Authenticated(NamedTuple):
    """Event: a message from ``source`` was authenticated as the peer's, which may roam there."""

    peer: NodePublic
    source: Source


class HandshakeCompleted(NamedTuple):
    """Event: a handshake completed, and its session is the one sent on."""

    peer: NodePublic


class SessionExpired(NamedTuple):
    """Event: the peer's sessions were destroyed, as no new one had come for 540 s."""

    peer: NodePublic


class Unanswered(NamedTuple):
    """Event: the peer has not answered an initiation or data in time, so that its path may have failed."""

    peer: NodePublic


Event: TypeAlias = Authenticated | HandshakeCompleted | SessionExpired | Unanswered


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """Snapshot of one peer."""

    key: NodePublic
    last_handshake_at: float | None
    """Seconds on the clock of ``now``; None before the first handshake."""
    has_session: bool
    """Whether a packet would be sent at once, without a handshake first."""
    tx_bytes: int
    """Bytes of UDP payload sent, of handshakes and data."""
    rx_bytes: int
    """Bytes of UDP payload received and authenticated."""
    n_staged: int
    """Number of packets that wait for a session."""
    allowed_ips: tuple[Network, ...]
    persistent_keepalive: int
    """Interval in seconds; 0 for off."""
    has_preshared_key: bool


@dataclass(frozen=True, slots=True, repr=False)
class DeviceSecrets:
    """Secret keys of a device; the repr is redacted."""

    private_key: NodePrivate | None
    preshared_keys: Mapping[NodePublic, bytes]
    """Preshared key of every peer, 32 bytes, all zeros for none."""

    def __repr__(self) -> str:
        return "<DeviceSecrets redacted>"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """Snapshot of a device and its peers."""

    public_key: NodePublic | None
    is_up: bool
    mtu: int
    n_queued_handshakes: int
    is_under_load: bool
    peers: tuple[PeerStatus, ...]
    """Peers in the order in which they were added."""

    def peer(self, key: NodePublic) -> PeerStatus | None:
        """Returns the peer of a public key; None if the device has no such peer."""
        return next((peer for peer in self.peers if peer.key == key), None)
