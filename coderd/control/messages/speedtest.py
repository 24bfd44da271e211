"""``speedtest``: holds a path to a peer while the caller measures it."""

from typing import TypeAlias

from coderd.control.messages.message import Message, PeerName
from coderd.model.addresses import PORT_SPEEDTEST
from coderd.model.paths import PathKind, Pin


class SpeedtestParams(Message, frozen=True, kw_only=True):
    """Parameters of ``speedtest``: the path to a peer that is held until the caller closes."""

    peer: PeerName
    path: Pin = Pin.ANY


class Waiting(Message, frozen=True, kw_only=True, tag_field="type", tag="waiting"):
    """Event, once a second, while only another path than the requested one answers."""

    path: PathKind
    via: str = ""
    latency_ms: float | None = None


class Ready(Message, frozen=True, kw_only=True, tag_field="type", tag="ready"):
    """Event: the path is held, and the caller may dial ``[address]:port``."""

    name: str
    """The peer's full name."""
    address: str
    port: int = PORT_SPEEDTEST
    path: PathKind
    via: str
    latency_ms: float
    secret: str = ""
    """Secret that the caller presents there; grants access, so not to be shown."""

    def __repr__(self) -> str:
        return f"<Ready {self.name!r} secret redacted>"


class PathBytes(Message, frozen=True, kw_only=True, tag_field="type", tag="paths"):
    """Bytes of WireGuard datagrams to and from the peer since the daemon knows it, by path.

    Sent every 250 ms or so.
    """

    tx_direct_bytes: int
    tx_relay_bytes: int
    rx_direct_bytes: int
    rx_relay_bytes: int


SpeedtestEvent: TypeAlias = Waiting | Ready | PathBytes
