"""``port-forward`` and ``nc``: where the caller dials a peer's node API."""

from coderd.control.messages.message import Message, PeerName, Port
from coderd.model.addresses import PORT_NODE_API


class DialParams(Message, frozen=True, kw_only=True):
    """``port-forward`` and ``nc``: a TCP service of a peer, which may listen on its loopback only."""

    peer: PeerName
    port: Port


class DialTarget(Message, frozen=True, kw_only=True):
    """Where the caller dials the peer's node API, to ask it for that port."""

    name: str
    """The peer's full name."""
    address: str
    api_port: int = PORT_NODE_API
    secret: str = ""
    """To be shown there, and kept from everybody else."""

    def __repr__(self) -> str:
        return f"<DialTarget {self.name!r} secret redacted>"
