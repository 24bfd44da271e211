"""``port-forward`` and ``nc``: where the caller dials a peer's node API."""

from coderd.control.messages.message import Message, PeerName, Port
from coderd.model.addresses import PORT_NODE_API


class DialParams(Message, frozen=True, kw_only=True):
    """Parameters of ``port-forward`` and ``nc``: a TCP service of a peer, perhaps on its loopback only."""

    peer: PeerName
    port: Port


class DialTarget(Message, frozen=True, kw_only=True):
    """Address of the peer's node API, which the caller dials and asks for the port."""

    name: str
    """The peer's full name."""
    address: str
    api_port: int = PORT_NODE_API
    secret: str = ""
    """Secret that the caller presents there; grants access, so not to be shown."""

    def __repr__(self) -> str:
        return f"<DialTarget {self.name!r} secret redacted>"
