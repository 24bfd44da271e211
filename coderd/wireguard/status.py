"""What a device tells: batches, packets, events, frozen snapshots."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, Protocol, TypeAlias

from coderd.model import Buffer
from coderd.model.keys import NodePrivate, NodePublic

Network: TypeAlias = IPv4Network | IPv6Network


class Source(Hashable, Protocol):
    """Where a datagram came from, in the words of the layer below; the device only hands it back."""

    @property
    def cookie_bytes(self) -> bytes:
        """The address that a cookie is bound to: ip and port, big-endian; over a relay the sender's key."""


class Transmit(NamedTuple):
    """One batch to send: at most 64 datagrams and 65,000 bytes, all of ``segment_size`` but a shorter last one."""

    to: NodePublic | Source
    """The peer, by whatever path; a source only for a cookie reply."""
    datagrams: list[bytes]
    segment_size: int
    tos: int = 0
    """The service byte of the outer header: congestion bits from inside, or a handshake's class."""
    is_handshake: bool = False
    """Whether it holds initiations and responses, and no data: paths may send these more than one way."""


class Received(NamedTuple):
    """Packets of one peer, decrypted, cut to their own length, their source address checked, in order."""

    peer: NodePublic
    packets: list[Buffer]


class Authenticated(NamedTuple):
    """A batch or handshake message from ``source`` really is the peer's: it may roam there."""

    peer: NodePublic
    source: Source


class HandshakeCompleted(NamedTuple):
    """A new session is in use."""

    peer: NodePublic


class SessionExpired(NamedTuple):
    """The peer's keys were destroyed: nothing renewed them for nine minutes."""

    peer: NodePublic


class Unanswered(NamedTuple):
    """The peer owes us an answer: perhaps the way there is not what it was."""

    peer: NodePublic


Event: TypeAlias = Authenticated | HandshakeCompleted | SessionExpired | Unanswered


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer at an instant."""

    key: NodePublic
    last_handshake_at: float | None
    """On the clock of ``now``; None before the first."""
    has_session: bool
    """Whether a packet given now would be sent without a handshake first."""
    tx_bytes: int
    """UDP payload sent: handshakes and data."""
    rx_bytes: int
    """UDP payload received and authenticated."""
    n_staged: int
    """Packets waiting for a session."""
    allowed_ips: tuple[Network, ...]
    persistent_keepalive: int
    """Seconds; 0 is off."""
    has_preshared_key: bool


@dataclass(frozen=True, slots=True, repr=False)
class DeviceSecrets:
    """The keys of a device; they do not print themselves."""

    private_key: NodePrivate | None
    preshared_keys: Mapping[NodePublic, bytes]
    """Of every peer; zeros for none."""

    def __repr__(self) -> str:
        return "<DeviceSecrets redacted>"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device at an instant."""

    public_key: NodePublic | None
    is_up: bool
    mtu: int
    n_queued_handshakes: int
    is_under_load: bool
    peers: tuple[PeerStatus, ...]
    """In the order in which they were added."""

    def peer(self, key: NodePublic) -> PeerStatus | None:
        """The peer of a key, None where the device does not know it."""
        return next((peer for peer in self.peers if peer.key == key), None)
