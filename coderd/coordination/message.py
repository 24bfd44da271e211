"""What a node and the server say to each other: JSON texts over one WebSocket, one schema for both ends.

    node                                   server
     |  <- challenge{server_key, nonce}      |   the bearer token was good
     |  hello{keys, generation, proof} ->    |
     |  <- welcome{self, derp_map, ...}      |   the node measures its network
     |  update{home_region, endpoints} ->    |   from now on its peers see it, and it them
     |  <- peers{upsert, remove, absent, full} |   256 entries each, 512 KiB; `more` announces a continuation
     |  ready{ids} ->                        |   these peers may now initiate a handshake
     |  update{.., path_reports} ->           |   its paths to peers: shown, counted, not passed on
     |  alive{} <->                          |   each way every few seconds: silence means death
     |  goodbye{} ->                         |   peers remove the node at once

Each text is an object whose ``type`` is the message's name. Unknown fields are ignored, so that either end
may be newer; an unknown type is malformed, and ``version`` changes only when an old end could not live with
the new one.
"""

from enum import StrEnum
from typing import Annotated, Final, TypeAlias, TypeVar
from uuid import UUID

import msgspec

from coderd.model import limits
from coderd.model.derpmap import EMBEDDED_REGION
from coderd.model.errors import MalformedPacket
from coderd.model.ports import MAX_TEXT as MAX_PORTS_TEXT

VERSION = 1
PATH = "/api/v1/coordinate"

MAX_NODE_MESSAGE: Final = limits.MAX_NODE_MESSAGE
"""Bytes of a text from a node; a longer one ends its connection."""
MAX_SERVER_MESSAGE = 1024 * 1024
"""Bytes of a text from the server."""
MAX_PARCEL = 512 * 1024
"""Bytes of the entries of one ``peers``: however many peers there are and whatever is told of each, a node
can read it."""
MAX_ENTRIES: Final = limits.MAX_ENTRIES
MAX_ENDPOINTS: Final = limits.MAX_ENDPOINTS
MAX_READY: Final = limits.MAX_READY
MAX_CAUSES: Final = limits.MAX_CAUSES

ALIVE_INTERVAL = 4.0
"""Seconds between two ``alive`` of either end."""
SILENCE_TIMEOUT: Final = limits.COORDINATION_SILENCE_TIMEOUT
"""Seconds without any message after which the other end counts as dead."""

KeyText: TypeAlias = Annotated[str, msgspec.Meta(max_length=80)]
AddressText: TypeAlias = Annotated[str, msgspec.Meta(max_length=80)]
NameText: TypeAlias = Annotated[str, msgspec.Meta(max_length=130)]
TokenText: TypeAlias = Annotated[str, msgspec.Meta(max_length=512)]
SentenceText: TypeAlias = Annotated[str, msgspec.Meta(max_length=1024)]
Generation: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
"""A u64; the upper bound is checked by ``_parse``, msgspec's own bounds end at 63 bits."""
RegionId: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65535)]
CapabilityList: TypeAlias = Annotated[
    list[Annotated[str, msgspec.Meta(max_length=32)]], msgspec.Meta(max_length=limits.MAX_CAPABILITIES)
]
PortsText: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_PORTS_TEXT)]
"""A set of ports: see ``model.ports``."""
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class Message(msgspec.Struct, frozen=True, tag_field="type"):
    """Anything that either end says."""


class Alive(Message, frozen=True, tag="alive"):
    """Sign of life of either end, sent when there is nothing else to say."""


# From the node.


class Hello(Message, frozen=True, tag="hello"):
    """Who connects, and the proof that it holds the node key: see ``proof``."""

    version: int
    node_key: KeyText
    disco_key: KeyText
    generation: Generation
    """Random per process start."""
    proof: TokenText
    resume_token: TokenText = ""
    """From an earlier welcome: this is the same machine again, so its old connection is merely stale."""
    allowed_ips: list[AddressText] | None = None
    """A node need not say its addresses; if it does, anything but the one that its id derives is refused."""
    capabilities: CapabilityList = []
    """What this program can do that earlier releases could not: see ``model.netmap.Capability``."""


class Endpoint(msgspec.Struct, frozen=True):
    """One address at which a node believes that it can be reached."""

    addr: AddressText
    """``ip:port``, IPv6 in brackets."""
    type: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    """How it was found; a hint for people."""


class PathReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """By which path a node reaches a peer. For people and counters: nothing is decided by it."""

    peer: UUID
    path: Annotated[str, msgspec.Meta(max_length=16)]
    """``direct``, ``relay``, or ``none`` where it is not in use."""
    region: RegionId = 0
    """Of a relayed path."""
    rtt: Seconds | None = None
    """Seconds there and back; null while unmeasured."""
    since: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    """Seconds for which traffic has taken this path."""
    time_to_direct: Seconds | None = None
    """Seconds from the wish for a path to this direct one; told once for each."""
    n_changes: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    """Changes of the path while it was in use, since the last connection's reports."""


class Update(Message, frozen=True, tag="update"):
    """The node's whole reachability.

    Each one replaces the last, its reports aside, which add to earlier ones.
    """

    home_region: RegionId
    endpoints: Annotated[list[Endpoint], msgspec.Meta(max_length=MAX_ENDPOINTS)] = []
    latencies: Annotated[dict[RegionId, Seconds], msgspec.Meta(max_length=MAX_ENTRIES)] = {}
    """Seconds to each region's relay."""
    generation: Generation | None = None
    """If given, the hello's; an update of another process is malformed."""
    allowed_ips: list[AddressText] | None = None
    """As in ``Hello``."""
    path_reports: Annotated[list[PathReport], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    """Of peers whose path is another than was reported on this connection."""
    handshake_failures: Annotated[
        dict[Annotated[str, msgspec.Meta(max_length=32)], Annotated[int, msgspec.Meta(ge=0, le=2**31)]],
        msgspec.Meta(max_length=MAX_CAUSES),
    ] = {}
    """Handshakes that came to nothing, by cause, since the last connection's reports."""


class Ready(Message, frozen=True, tag="ready"):
    """The node's tunnel now knows these peers, so that their first handshake will be answered."""

    ids: Annotated[list[UUID], msgspec.Meta(max_length=MAX_READY)]


class Goodbye(Message, frozen=True, tag="goodbye"):
    """The node leaves on purpose."""


# From the server.


class Challenge(Message, frozen=True, tag="challenge"):
    """What the node must seal under its node key; ``proof`` says how."""

    server_key: KeyText
    """The server's coordination key, ``nodekey:<hex>``."""
    nonce: KeyText
    """32 random bytes in hex, good for this connection only."""
    version: int = VERSION


class SelfEntry(msgspec.Struct, frozen=True):
    """The receiver, as the server knows it."""

    id: UUID
    kind: NameText
    name: NameText
    address: AddressText


class Welcome(Message, frozen=True, tag="welcome"):
    """The node is in."""

    self: SelfEntry
    derp_map: dict[str, object]
    resume_token: TokenText
    server_key: KeyText = ""
    """The embedded relay's key, ``derpkey:<hex>``; empty where the server has no relay."""
    embedded_region: RegionId = EMBEDDED_REGION
    """The map's region that is the server itself, which a node dials by the URL that it knows; 0 = none
    is."""


class PeerEntry(msgspec.Struct, frozen=True):
    """One peer. The server derives ``name`` and ``address`` from its identity.

    Keys and endpoints are the peer's own.
    """

    id: UUID
    kind: NameText
    name: NameText
    node_key: KeyText
    disco_key: KeyText
    address: AddressText
    home_region: RegionId
    generation: Generation
    endpoints: Annotated[list[AddressText], msgspec.Meta(max_length=MAX_ENDPOINTS)] = []
    path_policy: NameText = "any"
    ports: PortsText = "all"
    """TCP and UDP ports of the receiver that this peer may reach."""
    terminal: bool = True
    """Whether this peer may open a shell at the receiver."""
    is_server: bool = False
    """This peer is the server's own node, which may reach TCP port 4 of the receiver and nothing else."""
    capabilities: CapabilityList = []
    """As in the peer's hello."""
    signature: SentenceText | None = None
    """Room for keys that the server does not hold."""


class RemovalReason(StrEnum):
    """Why a peer is gone. A node removes it at once for any reason but ``LOST``, also an unknown one."""

    LOST = "lost"
    """Its connection broke: the tunnel may live on, so the peer is kept, marked offline."""
    DISCONNECTED = "disconnected"
    """Left on purpose: the tunnel ends, the name stays known."""
    DENIED = "denied"
    """Not allowed to meet the receiver any more, or deleted."""


class Removal(msgspec.Struct, frozen=True):
    """A peer that is not connected any more, and why."""

    id: UUID
    reason: NameText
    """A ``RemovalReason``, or a word of a newer release."""
    ports: PortsText | None = None
    """Of a peer that may come back: what it may reach of the receiver, as in ``PeerEntry``; absent: as
    before."""
    terminal: bool = True
    """Of a peer that may come back, where ``ports`` are given: whether it may open a shell at the
    receiver."""


class Absence(msgspec.Struct, frozen=True):
    """A node that the receiver may meet and that is not connected.

    A peer that it knows as lost stays a peer.
    """

    id: UUID
    kind: NameText
    name: NameText


class Peers(Message, frozen=True, tag="peers"):
    """Changes, or with ``full`` all that there is: a peer in no list is then removed."""

    upsert: Annotated[list[PeerEntry], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    remove: Annotated[list[Removal], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    absent: Annotated[list[Absence], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    """Told to devices, so that they can tell an absent workspace from one that does not exist."""
    full: bool = False
    more: bool = False
    """A ``full`` list goes on in the next message; apply it when complete."""


class DerpMapChanged(Message, frozen=True, tag="derp_map"):
    """The relay map has changed."""

    derp_map: dict[str, object]


class Reconnect(Message, frozen=True, tag="reconnect"):
    """The server is about to close; come back after a while."""

    after_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)]


class Refusal(Message, frozen=True, tag="error"):
    """The server ends the connection. ``FINAL_CODES`` names the codes after which redialling is useless."""

    code: NameText
    message: SentenceText


FINAL_CODES = frozenset(
    {"unauthorized", "expired", "replaced", "version", "bad_proof", "key_taken", "bad_claim"}
)

NodeMessage: TypeAlias = Hello | Update | Ready | Goodbye | Alive
ServerMessage: TypeAlias = Challenge | Welcome | Peers | DerpMapChanged | Reconnect | Refusal | Alive

_M = TypeVar("_M")
_encoder = msgspec.json.Encoder()
_node_decoder: msgspec.json.Decoder[NodeMessage] = msgspec.json.Decoder(NodeMessage)
_server_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


def encode_message(message: Message) -> str:
    """Returns the JSON text of any message."""
    return _encoder.encode(message).decode()


def encoded_size(entry: PeerEntry | Removal | Absence) -> int:
    """Returns the bytes that an entry takes in the JSON text of a message."""
    return len(_encoder.encode(entry))


def parse_node_message(text: str | bytes) -> NodeMessage:
    """Parses a node's message. Raises MalformedPacket if it is none, or longer than ``MAX_NODE_MESSAGE``."""
    return _parse(_node_decoder, text, MAX_NODE_MESSAGE)


def parse_server_message(text: str | bytes) -> ServerMessage:
    """Parses a server's message.

    Raises MalformedPacket if it is none, or longer than ``MAX_SERVER_MESSAGE``.
    """
    return _parse(_server_decoder, text, MAX_SERVER_MESSAGE)


def _parse(decoder: msgspec.json.Decoder[_M], text: str | bytes, limit: int) -> _M:
    if len(text) > limit:
        raise MalformedPacket(f"a message of {len(text)} bytes, where {limit} are the limit")
    try:
        message = decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedPacket(f"not a message of the coordination protocol: {error}") from None
    for entry in message.upsert if isinstance(message, Peers) else (message,):
        if (getattr(entry, "generation", 0) or 0) >> 64:
            raise MalformedPacket("a generation has 64 bits")
    return message
