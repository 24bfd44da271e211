"""What the control socket says: the parameters, events and result of every method, and who may call it.

One schema for both ends and for ``--json``. It only ever grows: a field is added, never renamed or taken away, and
readers ignore what they do not know. Durations in ``*_s`` are seconds, latencies in ``*_ms`` are milliseconds.
Bounds stand in the types, so that what reaches a handler is within them.

method        params             events                     result
status        StatusParams       -                          Status
ping          PingParams         Pong                       PingResult
netcheck      NetcheckParams     -                          Netcheck
why           WhyParams          -                          Why
derp-map      DerpMapParams      -                          DerpMapInfo
speedtest     SpeedtestParams    Waiting, Ready, PathBytes  Done (never: it lasts until the caller closes)
port-forward  DialParams         -                          DialTarget
nc            DialParams         -                          DialTarget
up            UpParams           Progress                   UpResult
down          DownParams         -                          Done
logout        LogoutParams       Progress                   Done
debug         DebugParams        -                          DebugResult
"""

from enum import Enum
from typing import Annotated, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from coderd.model.addresses import PORT_NODE_API, PORT_SPEEDTEST
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind, Pin
from coderd.netcheck.facts import Facts

Transport: TypeAlias = Literal["derp", "websocket"]
State: TypeAlias = Literal["logged-out", "connecting", "running", "down"]
DebugAction: TypeAlias = Literal["rebind", "netcheck", "break-relay", "break-server"]

PeerName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Port: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=86400)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096)]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything on the control socket."""


class StatusParams(Message, frozen=True, kw_only=True):
    """``status`` asks for everything."""


class SelfStatus(Message, frozen=True, kw_only=True):
    """This node as the server describes it."""

    name: str
    id: str
    kind: NodeKind
    address: str
    """Tailnet address."""
    node_key: str
    """``nodekey:<hex>``."""
    accept_inbound: str | None = None
    """Of a device: the ports that peers may connect to, ``none`` unless it was said; null where the server says it of each peer."""


class ServerStatus(Message, frozen=True, kw_only=True):
    """The link to the coordination server."""

    url: str
    connected: bool
    since_s: float | None = None
    """Since when it has been so, in seconds ago."""
    error: str = ""
    """Why it is not connected, in one sentence."""


class Region(Message, frozen=True, kw_only=True):
    """The relay region that peers find this node at."""

    id: int
    code: str


class RelayLink(Message, frozen=True, kw_only=True):
    """One relay region that this node is connected to or dials: its home, and those of peers it talks to."""

    id: int
    code: str
    connected: bool
    node: str = ""
    """Name of the relay that is reached, of those in the region."""
    transport: Transport | None = None
    why: str = ""
    """Why it is reached by WebSocket, as the end of a sentence."""
    error: str = ""
    """Why it could not be reached the last time."""


class PeerPath(Message, frozen=True, kw_only=True):
    """How bytes travel to a peer now."""

    kind: PathKind
    via: str = ""
    """``ip:port`` of a direct path, the region's code of a relayed one."""
    latency_ms: float | None = None
    since_s: float | None = None


class PeerStatus(Message, frozen=True, kw_only=True):
    """One peer. Bytes are those of WireGuard's datagrams; the split by path is magicsock's."""

    name: str
    id: str
    kind: NodeKind
    address: str
    online: bool
    node_key: str
    path: PeerPath
    last_handshake_s: float | None = None
    """Seconds ago; null where there never was one."""
    tx_bytes: int = 0
    rx_bytes: int = 0
    tx_relay_bytes: int = 0
    rx_relay_bytes: int = 0
    tx_direct_bytes: int = 0
    rx_direct_bytes: int = 0


class Batches(Message, frozen=True, kw_only=True):
    """Mean sizes of the batches that crossed the process's walls since its start; 0 where none did."""

    datagrams_per_sendmsg: float = 0.0
    datagrams_per_recvmsg: float = 0.0
    segments_per_tun_read: float = 0.0
    segments_per_tun_write: float = 0.0


class Status(Message, frozen=True, kw_only=True):
    """Everything that a person or a script may want to know of a node. Result of ``status``."""

    version: str
    state: State
    interface: str
    self_node: SelfStatus | None = msgspec.field(default=None, name="self")
    server: ServerStatus | None = None
    home_region: Region | None = None
    relays: tuple[RelayLink, ...] = ()
    endpoints: tuple[str, ...] = ()
    """This node's own candidates, as ``ip:port``."""
    udp_port: int | None = None
    peers: tuple[PeerStatus, ...] = ()
    counters: dict[str, int] = {}
    batches: Batches = Batches()
    health: tuple[str, ...] = ()
    """What is wrong, one sentence each."""


class PingParams(Message, frozen=True, kw_only=True):
    """``ping``: disco pings on the path that is best at that moment."""

    peer: PeerName
    count: Annotated[int, Meta(ge=0, le=1_000_000)] = 10
    """0 = until the caller closes."""
    interval_s: Annotated[float, Meta(ge=0.01, le=3600)] = 1.0
    timeout_s: Annotated[float, Meta(ge=0.01, le=3600)] = 5.0
    """For each ping."""
    until_direct: bool = False
    """Stop at the first pong that came directly."""


class Pong(Message, frozen=True, kw_only=True):
    """The fate of one ping: a pong, or nothing in time."""

    seq: int
    """From 1."""
    path: PathKind = PathKind.NONE
    via: str = ""
    latency_ms: float | None = None
    direct_after_s: float | None = None
    """With the first direct pong, where the path became direct meanwhile: how many seconds after the first ping."""
    timeout: bool = False


class PingResult(Message, frozen=True, kw_only=True):
    """Totals; ``direct`` says whether any pong came directly."""

    sent: int
    received: int
    direct: bool
    direct_after_s: float | None = None
    """Seconds after the first ping at which the path became direct, 0 where it was before; null where no pong was direct."""


class NetcheckParams(Message, frozen=True, kw_only=True):
    """``netcheck``: measure the network in full, now."""


class RegionDistance(Message, frozen=True, kw_only=True):
    """One relay region and how far it is; null where it was not measured."""

    id: int
    code: str
    name: str
    latency_ms: float | None = None
    preferred: bool = False
    """Whether it is the home that the measurement proposes."""
    relay: bool = True
    """False where it only answers STUN."""


class Netcheck(Message, frozen=True, kw_only=True):
    """What a full netcheck found. Names in capitals are Tailscale's, latencies among them in nanoseconds by region id."""

    udp: bool = msgspec.field(name="UDP")
    ipv4: bool = msgspec.field(name="IPv4")
    ipv6: bool = msgspec.field(name="IPv6")
    ipv4_can_send: bool = msgspec.field(name="IPv4CanSend")
    ipv6_can_send: bool = msgspec.field(name="IPv6CanSend")
    os_has_ipv6: bool = msgspec.field(name="OSHasIPv6")
    mapping_varies: bool | None = msgspec.field(name="MappingVariesByDestIP")
    preferred_derp: int = msgspec.field(name="PreferredDERP")
    region_latency: dict[int, int] = msgspec.field(name="RegionLatency")
    region_v4_latency: dict[int, int] = msgspec.field(name="RegionV4Latency")
    region_v6_latency: dict[int, int] = msgspec.field(name="RegionV6Latency")
    global_v4: str = msgspec.field(name="GlobalV4")
    """``ip:port`` that the first STUN server saw; empty where none did."""
    global_v6: str = msgspec.field(name="GlobalV6")
    global_v4_counters: dict[str, int] = msgspec.field(name="GlobalV4Counters")
    global_v6_counters: dict[str, int] = msgspec.field(name="GlobalV6Counters")
    nat: bool | None = None
    """Whether the address is translated on the way; null where no STUN server answered."""
    mapping: str = "unknown"
    """RFC 4787: ``endpoint-independent``, ``address-dependent``, ``address-and-port-dependent`` or ``unknown``."""
    filtering: str = "unknown"
    """As for ``mapping``. Without a second address of a STUN server only the strictest can be told."""
    filters_by_port: bool | None = None
    """Whether an answer from another port than was asked is kept out; null where no server could answer so."""
    hairpin: bool | None = msgspec.field(default=None, name="HairPinning")
    """Whether the NAT turns around what is sent to its own outer address; null without NAT, or where that is unknown."""
    captive_portal: bool | None = msgspec.field(default=None, name="CaptivePortal")
    """Whether something else answers in place of the server; null where nobody answers, or over https nobody we trust."""
    server: str = "unknown"
    """What stands before the server: nothing (``open``), something that lets UDP and its senders through (``forwarded``),
    that hides senders (``masked``), or that lets no UDP through (``closed``); or ``unknown``."""
    proxy: str = ""
    """The HTTP proxy that the server is reached through, without its credentials; empty where there is none."""
    mtu: int | None = None
    """Of the way to the home relay, as far as this host knows."""
    mtu_needed: int | None = None
    """What the tunnel needs of a direct path."""
    carries_full: bool | None = None
    """Whether packets of that size came through, to a STUN server and back; null where no server could be asked."""
    clock_skew_s: float | None = None
    """This machine's clock less the server's; null where the server did not say."""
    regions: tuple[RegionDistance, ...] = ()
    """The nearest first, those without a measurement last."""
    warnings: tuple[str, ...] = ()
    """What stands in the way, one sentence each."""


class WhyParams(Message, frozen=True, kw_only=True):
    """``why``: why a peer is reached as it is."""

    peer: PeerName


class Cause(Message, frozen=True, kw_only=True):
    """One reason why there is no direct path."""

    cause: str
    """A word for programs."""
    side: Literal["this", "peer", "both", "network"]
    sentence: str
    fix: str


class Why(Message, frozen=True, kw_only=True):
    """How a peer is reached, and where not directly why: the deciding cause first."""

    name: str
    """The peer's full name."""
    path: PeerPath
    causes: tuple[Cause, ...] = ()
    this: Facts
    peer: Facts | None = None
    """Null where the peer could not be asked: see ``not_asked``."""
    not_asked: str = ""
    """Why the peer could not be asked."""
    notes: tuple[str, ...] = ()
    """What is worth knowing besides, one sentence each: no cause of the path's being what it is."""


class DerpMapParams(Message, frozen=True, kw_only=True):
    """``derp-map``: the relays that this node knows."""

    check: bool = False
    """Probe every one of them, from here."""


class RelayCheck(Message, frozen=True, kw_only=True):
    """What a probe of one node of the map found. Null: not asked, because the map or this machine has no such way."""

    region: int
    node: str
    stun_v4_ms: float | None = None
    stun_v6_ms: float | None = None
    connect_ms: float | None = None
    """TCP and, where the relay has it, TLS."""
    http_ms: float | None = None
    """One request to ``/derp/probe``."""
    derp_ms: float | None = None
    """From the first SYN to the relay's first frame."""
    derp_by: Literal["", "upgrade", "websocket"] = ""
    why_websocket: str = ""
    """Why the upgrade would not do."""
    problems: tuple[str, ...] = ()
    """One clause each; none where all is well."""


class DerpMapInfo(Message, frozen=True, kw_only=True):
    """The relay map of a node."""

    map: dict[str, object]
    """Tailscale's JSON, with the server's own region as this node dials it."""
    home: int = 0
    """The region that peers find this node at; 0 while unknown."""
    server_region: int = 0
    """The region that is the server itself; 0 where it has no relay."""
    checks: tuple[RelayCheck, ...] | None = None
    """In the map's order; null where nobody asked for them."""


class SpeedtestParams(Message, frozen=True, kw_only=True):
    """``speedtest``: hold this path to the peer until the caller closes."""

    peer: PeerName
    path: Pin = Pin.ANY


class Waiting(Message, frozen=True, kw_only=True, tag_field="type", tag="waiting"):
    """Once a second while only another path than the wanted one answers."""

    path: PathKind
    via: str = ""
    latency_ms: float | None = None


class Ready(Message, frozen=True, kw_only=True, tag_field="type", tag="ready"):
    """The path is there: the caller may dial ``[address]:port``."""

    name: str
    """The peer's full name."""
    address: str
    port: int = PORT_SPEEDTEST
    path: PathKind
    via: str
    latency_ms: float
    secret: str = ""
    """To be shown there, and kept from everybody else."""

    def __repr__(self) -> str:
        return f"<Ready {self.name!r} secret redacted>"


class PathBytes(Message, frozen=True, kw_only=True, tag_field="type", tag="paths"):
    """Bytes of WireGuard datagrams to and from the peer since the daemon knows it, by path; every 250 ms or so."""

    tx_direct_bytes: int
    tx_relay_bytes: int
    rx_direct_bytes: int
    rx_relay_bytes: int


SpeedtestEvent: TypeAlias = Waiting | Ready | PathBytes


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


class UpParams(Message, frozen=True, kw_only=True):
    """``up``: join. Without ``url`` as this node was enrolled before; with ``url`` and ``token`` enrol anew."""

    url: Text | None = None
    token: Text | None = None
    """A session token of the user. Never logged; the daemon exchanges it for its own device token."""
    name: Annotated[str, Meta(max_length=63)] | None = None
    """The device's name, a DNS label; the host's name by default."""
    accept_inbound: Text | None = None
    """Ports that peers may connect to: ``all``, ``none``, or ``22,8000-8999``. None leaves them as they are, of a device that is new at none."""

    def __repr__(self) -> str:
        return f"UpParams(url={self.url!r}, token={'<redacted>' if self.token else None}, name={self.name!r})"


class Progress(Message, frozen=True, kw_only=True):
    """What is being done, for a person who waits."""

    text: str


class UpResult(Message, frozen=True, kw_only=True):
    """Joined: who this node is now."""

    name: str
    address: str
    url: str


class DownParams(Message, frozen=True, kw_only=True):
    """``down``: leave, but keep the enrolment."""


class LogoutParams(Message, frozen=True, kw_only=True):
    """``logout``: leave and forget keys, tokens and map."""


class DebugParams(Message, frozen=True, kw_only=True):
    """``debug``: cause a fault, or ask for work now."""

    action: DebugAction


class DebugResult(Message, frozen=True, kw_only=True):
    """What was done."""

    text: str


class Done(Message, frozen=True, kw_only=True):
    """The end of a request without more to say."""


class Access(Enum):
    """Who may call a method."""

    USE = "use"
    """root, the operator, and members of group ``coderd``."""
    MANAGE = "manage"
    """root and the operator."""


P = TypeVar("P", bound=Message)
E = TypeVar("E", bound=Message)
R = TypeVar("R", bound=Message)


class Method(Generic[P, E, R]):
    """A method's name, its rule and its three types, which ``protocol`` decodes by.

    Args:
        name: as on the wire.
        access: who may call it.
        params: type of the parameters.
        event: type of its events, a union where there are several; ``Done`` where there are none.
        result: type of its result.
    """

    __slots__ = ("access", "event", "name", "params", "result")

    def __init__(
        self, name: str, access: Access, *, params: type[P], event: type[E], result: type[R]
    ) -> None:
        self.name = name
        self.access = access
        self.params = params
        self.event = event
        self.result = result

    def __repr__(self) -> str:
        return f"<Method {self.name}>"


STATUS: Final = Method("status", Access.USE, params=StatusParams, event=Done, result=Status)
PING: Final = Method("ping", Access.USE, params=PingParams, event=Pong, result=PingResult)
SPEEDTEST: Final[Method[SpeedtestParams, SpeedtestEvent, Done]] = Method(
    "speedtest",
    Access.USE,
    params=SpeedtestParams,
    event=SpeedtestEvent,  # type: ignore[arg-type]  # a union is a type to msgspec, not to mypy
    result=Done,
)
NETCHECK: Final = Method("netcheck", Access.USE, params=NetcheckParams, event=Done, result=Netcheck)
DERP_MAP: Final = Method("derp-map", Access.USE, params=DerpMapParams, event=Done, result=DerpMapInfo)
WHY: Final = Method("why", Access.USE, params=WhyParams, event=Done, result=Why)
PORT_FORWARD: Final = Method("port-forward", Access.USE, params=DialParams, event=Done, result=DialTarget)
NC: Final = Method("nc", Access.USE, params=DialParams, event=Done, result=DialTarget)
UP: Final = Method("up", Access.MANAGE, params=UpParams, event=Progress, result=UpResult)
DOWN: Final = Method("down", Access.MANAGE, params=DownParams, event=Done, result=Done)
LOGOUT: Final = Method("logout", Access.MANAGE, params=LogoutParams, event=Progress, result=Done)
DEBUG: Final = Method("debug", Access.MANAGE, params=DebugParams, event=Done, result=DebugResult)

AnyMethod: TypeAlias = Method[Message, Message, Message]

METHODS: Final[dict[str, AnyMethod]] = {
    method.name: method  # type: ignore[misc]  # one dictionary for methods of all types
    for method in (
        STATUS,
        PING,
        NETCHECK,
        WHY,
        DERP_MAP,
        SPEEDTEST,
        PORT_FORWARD,
        NC,
        UP,
        DOWN,
        LOGOUT,
        DEBUG,
    )
}
"""Every method by its name on the wire."""
