"""What one peer's endpoint says to ``Conn``: what to send for it, how a batch goes, which ping was answered."""

from typing import NamedTuple, TypeAlias

from coderd.model.addresses import AddrPort
from coderd.model.transport import MAIN_SOCKET, SocketId


class SendPing(NamedTuple):
    """A ping to be sealed and sent; ``to`` is None for the relay. ``socket`` is ours to send from."""

    tx_id: bytes
    to: AddrPort | None
    padding: int
    socket: SocketId = MAIN_SOCKET


class SendCallMeMaybe(NamedTuple):
    """Tell the peer by relay where this node may be reached."""


Wish: TypeAlias = SendPing | SendCallMeMaybe


class PingAnswered(NamedTuple):
    """A user's ping was answered: over the address ``by``, or through the relay of the region ``by``."""

    token: int
    by: AddrPort | int
    latency: float


class Route(NamedTuple):
    """How one batch goes: straight, by relay, both, or (neither) not at all."""

    udp: AddrPort | None
    by_relay: bool
    socket: SocketId = MAIN_SOCKET
    """Which socket sends what goes straight."""
