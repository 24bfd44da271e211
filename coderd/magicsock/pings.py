"""Pings that wait for their pong, by transaction id."""

from enum import Enum
from typing import NamedTuple

from coderd.model.addresses import AddrPort
from coderd.model.transport import MAIN_SOCKET, SocketId

PING_SIZE = 124
"""A ping without padding, as a UDP payload."""
PING_TIMEOUT = 5.0
"""Seconds after which a ping without a pong is forgotten."""
_MOST = 1024
"""Pings in flight to one peer; the oldest makes room, so that nothing grows without bound."""


class Purpose(Enum):
    """Why a ping was sent."""

    DISCOVERY = "discovery"
    """To find out whether anybody is at an address: small; then whether the way carries the tunnel: at full size."""
    HEARTBEAT = "heartbeat"
    """To keep the best path's trust, or to check it in doubt: small."""
    EVIDENCE = "evidence"
    """To tell a narrow way from a closed one: small, and chooses nothing."""
    USER = "user"
    """Somebody waits for the answer."""


class SentPing(NamedTuple):
    """One ping in flight.

    Attributes:
        tx_id: its name on the wire.
        to: the address it was sent to; None for the relay.
        at: when.
        udp_payload: its size as a UDP payload, bytes; what a pong proves the path to carry.
        token: whose user ping it is; None for our own.
        socket: which of ours it left by.
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
        """Whether it has no padding: a pong shows that the peer is there, and nothing of the way's size."""
        return self.udp_payload <= PING_SIZE


class Pings:
    """The table. Pings all live equally long, so insertion order is order of expiry."""

    def __init__(self) -> None:
        self._sent: dict[bytes, SentPing] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, ping: SentPing) -> None:
        """Starts waiting."""
        if len(self._sent) >= _MOST:
            del self._sent[next(iter(self._sent))]
        self._sent[ping.tx_id] = ping

    def pop(self, tx_id: bytes) -> SentPing | None:
        """Ends waiting; None for an id that nobody waits for."""
        return self._sent.pop(tx_id, None)

    def get(self, tx_id: bytes) -> SentPing | None:
        """Looks without ending."""
        return self._sent.get(tx_id)

    def forget_token(self, token: int) -> None:
        """A user's ping has been answered by one path: its other pings are ordinary from now on."""
        for tx_id, ping in self._sent.items():
            if ping.token == token:
                self._sent[tx_id] = ping._replace(token=None)

    def forget_socket(self, socket: SocketId) -> None:
        """Ends waiting for all that left by a spare socket (not 0): it is closed, and no path can go by it."""
        for tx_id in [tx_id for tx_id, ping in self._sent.items() if ping.socket == socket]:
            del self._sent[tx_id]

    def pop_expired(self, now: float) -> list[SentPing]:
        """Takes out the pings that have waited too long."""
        expired = []
        for ping in self._sent.values():
            if now < ping.at + PING_TIMEOUT:
                break
            expired.append(ping)
        for ping in expired:
            del self._sent[ping.tx_id]
        return expired

    def expires_at(self) -> float | None:
        """When the oldest one expires."""
        return next((ping.at + PING_TIMEOUT for ping in self._sent.values()), None)

    def clear(self) -> None:
        """Waits for none of them any more."""
        self._sent.clear()
