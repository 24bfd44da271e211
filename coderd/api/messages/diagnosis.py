"""What the server says of its own state: that it is up, what it has moved, and how a request reached it."""

from coderd.api.messages.message import ApiMessage


class Health(ApiMessage, frozen=True):
    """Sign of life of the server, and its version."""

    status: str
    version: str


class RelayClient(ApiMessage, frozen=True):
    """One connected node's traffic through the embedded relay since it connected.

    Bytes include frame headers.
    """

    node_key: str
    node: str
    """``owner/name``, empty where the store no longer knows the key."""
    bytes_in: int
    """Bytes that it sent to the relay."""
    bytes_out: int
    """Bytes that the relay sent to it."""
    packets_in: int
    packets_out: int


class ServerCounters(ApiMessage, frozen=True):
    """Traffic and drops of the server since its start."""

    counters: dict[str, int]
    n_connections: int
    """Nodes on the coordination link."""
    relay: list[RelayClient]
    relay_bytes: int
    """Bytes that the relay accepted for connected nodes, with frame headers. Packets of them that a full
    queue dropped are counted as ``derp.drop.queue_full``."""
    relay_packets: int


class Reflection(ApiMessage, frozen=True):
    """How a request reached the server; the client sees from it which proxies and NATs are in between."""

    seen_from: str
    """The address that it came from, as the server saw it."""
    arrived_at: str
    """The server's own address that it came to."""
    unix_time: float
    """The server's clock."""
    n_stun_answered: int
    """Binding requests, from all clients, that the server's STUN has answered since it started."""
