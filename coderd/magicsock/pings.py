"""One peer's pings: those sent and not answered, and those received.

Their sizes show which MTU the paths carry.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, TypeAlias

from coderd.model.addresses import AddrPort
from coderd.model.transport import MAIN_SOCKET, SocketId

PING_SIZE = 124
"""Bytes of a ping without padding, as a UDP payload: disco's packet overhead 78, the message 46."""
PING_TIMEOUT = 5.0
"""Seconds after which a ping without a pong is forgotten (Tailscale's ``pingTimeoutDuration``)."""
MOST_HEARD = 256
"""Transaction ids kept of one peer's pings: a quarter of an hour of heartbeats."""

SMALL_PINGS_GAP = 10.0
"""Least seconds between two series of small pings that look for a path-MTU black hole."""
SMALL_PINGS_MOST = 4
"""Addresses that one such series asks at most."""
BLACK_HOLE_BELIEVED = 60.0
"""Seconds for which a small pong is evidence of a path-MTU black hole."""

_MOST_IN_FLIGHT = 1024
"""Pings in flight to one peer; the oldest makes room."""
_NEVER = float("-inf")


class Purpose(Enum):
    """Why a ping was sent."""

    DISCOVERY = "discovery"
    """Finds out whether the peer is at an address.

    Small; then whether the path carries the tunnel: at full size.
    """
    HEARTBEAT = "heartbeat"
    """Keeps the best path's trust, checks it in doubt, or measures it for a user: small."""
    EVIDENCE = "evidence"
    """Tells a path-MTU black hole from a closed firewall: small, and chooses no path."""
    USER = "user"
    """Asked for by a user while no path is in use: at full size where the peer has answered."""


class SendPing(NamedTuple):
    """Ping to be sealed and sent; ``to`` is None for the relay, ``padding`` in bytes."""

    tx_id: bytes
    to: AddrPort | None
    padding: int
    socket: SocketId = MAIN_SOCKET


class SendCallMeMaybe(NamedTuple):
    """Wish to tell the peer by relay where this node may be reached."""


Wish: TypeAlias = SendPing | SendCallMeMaybe
"""What is to be sealed and sent to one peer."""


class PingAnswered(NamedTuple):
    """Answer to a user's ping.

    From the address ``by``, or through the relay of the region ``by``, after ``latency`` s.
    """

    token: int
    by: AddrPort | int
    latency: float


class SentPing(NamedTuple):
    """One ping in flight.

    Attributes:
        tx_id: its transaction id on the wire.
        to: the address it was sent to; None for the relay.
        at: when.
        purpose: why.
        udp_payload: its size as a UDP payload, bytes; what a pong proves the path to carry.
        token: of the user's ping that it belongs to; None for our own.
        socket: the local socket that it left by.
    """

    tx_id: bytes
    to: AddrPort | None
    at: float
    purpose: Purpose
    udp_payload: int
    token: int | None = None
    socket: SocketId = MAIN_SOCKET

    @property
    def is_small(self) -> bool:
        """Returns whether it has no padding: its pong then says nothing of the path's MTU."""
        return self.udp_payload <= PING_SIZE

    @property
    def is_full_size_discovery(self) -> bool:
        """Returns whether its pong shows, and its loss suggests, what the path carries."""
        return self.to is not None and self.purpose is Purpose.DISCOVERY and not self.is_small


class Pings:
    """Pings in flight, by transaction id. All live equally long, so insertion order is order of expiry."""

    def __init__(self) -> None:
        self._sent: dict[bytes, SentPing] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, ping: SentPing) -> None:
        """Starts waiting for its pong."""
        if len(self._sent) >= _MOST_IN_FLIGHT:
            del self._sent[next(iter(self._sent))]
        self._sent[ping.tx_id] = ping

    def pop(self, tx_id: bytes) -> SentPing | None:
        """Takes out and returns a ping; None if no ping with this id is in flight."""
        return self._sent.pop(tx_id, None)

    def get(self, tx_id: bytes) -> SentPing | None:
        """Returns a ping in flight, leaving it there; None if there is none with this id."""
        return self._sent.get(tx_id)

    def forget_token(self, token: int) -> None:
        """Makes ordinary pings of the rest of a user's pings, of which one has been answered."""
        for tx_id, ping in self._sent.items():
            if ping.token == token:
                self._sent[tx_id] = ping._replace(token=None)

    def forget_socket(self, socket: SocketId) -> None:
        """Drops the pings that left by a spare socket which was closed: no path can go by it."""
        for tx_id in [tx_id for tx_id, ping in self._sent.items() if ping.socket == socket]:
            del self._sent[tx_id]

    def pop_expired(self, now: float) -> list[SentPing]:
        """Takes out and returns the pings that have waited for ``PING_TIMEOUT``."""
        expired = []
        for ping in self._sent.values():
            if now < ping.at + PING_TIMEOUT:
                break
            expired.append(ping)
        for ping in expired:
            del self._sent[ping.tx_id]
        return expired

    def expires_at(self) -> float | None:
        """Returns when the oldest ping expires; None if none is in flight."""
        return next((ping.at + PING_TIMEOUT for ping in self._sent.values()), None)

    def clear(self) -> None:
        """Drops all pings in flight."""
        self._sent.clear()


class HeardPings:
    """Transaction ids of one peer's last pings, so that a copy gets no pong, wherever it comes from.

    A disco packet authenticates its sealer, but neither time nor source: an attacker on its way can replay it
    from any source address. Disco keys live as long as a process, so replayed pings of an earlier process
    cannot be opened.
    """

    def __init__(self) -> None:
        self._ids: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def is_new(self, tx_id: bytes) -> bool:
        """Returns whether a ping is no copy, and remembers it. The oldest makes room."""
        if tx_id in self._ids:
            return False
        self._ids[tx_id] = None
        if len(self._ids) > MOST_HEARD:
            del self._ids[next(iter(self._ids))]
        return True

    def forget(self) -> None:
        """Forgets all ids: the peer has another disco key."""
        self._ids.clear()


class PathMtuBlackHole:
    """Evidence that the paths to one peer carry small datagrams and silently lose full ones (RFC 2923 §2.1).

    It is shown to people, and does not influence the choice of a path.

    No path is chosen by small pings. But a link whose MTU is too small, and which sends no ICMP, looks like a
    firewall: nothing comes back. So where full pings have timed out a few small ones follow, and their pongs
    tell the two apart.
    """

    def __init__(self) -> None:
        self._asked_at = _NEVER
        self._answered_at = _NEVER

    def choose(self, expired: Iterable[SentPing], now: float) -> list[AddrPort]:
        """Chooses the addresses to send small pings to, of pings that have just timed out; mostly none."""
        silent = [ping.to for ping in expired if ping.to is not None and ping.is_full_size_discovery]
        if not silent or now - self._asked_at < SMALL_PINGS_GAP:
            return []
        self._asked_at = now
        return list(dict.fromkeys(silent))[:SMALL_PINGS_MOST]

    def handle_pong(self, ping: SentPing, now: float) -> None:
        """Notes the answer to any ping: a small one is evidence for a black hole, a full one against it."""
        if ping.purpose is Purpose.EVIDENCE:
            self._answered_at = now
        elif ping.is_full_size_discovery:
            self._answered_at = _NEVER

    def forget(self) -> None:
        """Drops the evidence: the network changed."""
        self._answered_at = _NEVER

    def is_seen(self, now: float) -> bool:
        """Returns whether a small ping was answered within ``BLACK_HOLE_BELIEVED``, and no full one since."""
        return now - self._answered_at <= BLACK_HOLE_BELIEVED
