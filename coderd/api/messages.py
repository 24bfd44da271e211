"""What is said at ``/api/v1``: JSON objects, unknown fields ignored, every text bounded. ``rules`` says where and by whom.

A refusal has a status of 400 or more and an ``ErrorBody``. Tokens travel as ``Authorization: Bearer``, nowhere else.
"""

from typing import Annotated, Final, Literal, TypeAlias, TypeVar
from uuid import UUID

import msgspec

from coderd.model import limits
from coderd.model.errors import MalformedPacket
from coderd.model.paths import PathKind, PathRule
from coderd.model.ports import MAX_TEXT as MAX_PORTS_TEXT
from coderd.model.roles import Scope, UserRole

PREFIX = "/api/v1"
MAX_BODY: Final = limits.MAX_API_BODY
"""Bytes of a request's body."""
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer that a client is ready to read."""

NameText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
ShareText: TypeAlias = Literal["owner", "shared", "authenticated", "public"]
Lifetime: TypeAlias = Annotated[float, msgspec.Meta(ge=1, le=316_224_000)]
"""Seconds, ten years at most."""
PortsText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PORTS_TEXT)]
MAX_PAGE: Final = limits.MAX_API_PAGE
MAX_LIST: Final = limits.MAX_API_LIST
KeyText: TypeAlias = Annotated[str, msgspec.Meta(max_length=80)]


class ApiMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Anything said at the API."""


class ErrorBody(ApiMessage, frozen=True):
    """Why a request was refused."""

    code: str
    """A short word for programs."""
    message: str
    """One sentence for people."""
    hint: str = ""
    """What to do next."""


class Health(ApiMessage, frozen=True):
    """The server is up."""

    status: str
    version: str


class PageQuery(ApiMessage, frozen=True):
    """Which page of a list."""

    after: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """The ``next`` of the page before; empty for the first."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIST)] | None = None
    """Things at most, a page may have fewer and go on; null: all in one answer."""


class ListPage(ApiMessage, frozen=True, kw_only=True):
    """A list that may go on."""

    next: str | None = None
    """What to ask for as ``after``; null where this is the end."""


class Usage(ApiMessage, frozen=True):
    """How many things of a kind a user has, and may have."""

    used: int
    most: int


class UserInfo(ApiMessage, frozen=True):
    """A user."""

    id: UUID
    name: str
    is_admin: bool
    """Whether the role is admin or owner."""
    role: str = ""
    usage: dict[str, Usage] = {}
    """Of workspaces, devices, tokens, apps and shares; empty in a list of users, and where they are changed."""


class UserList(ListPage, frozen=True, kw_only=True):
    """Users by name."""

    users: list[UserInfo]


class CreateUser(ApiMessage, frozen=True):
    """Wishes for a new user."""

    name: NameText
    role: UserRole = UserRole.MEMBER


class ChangeUser(ApiMessage, frozen=True):
    """What shall become of a user; null: as it is."""

    name: NameText | None = None
    role: UserRole | None = None


class UserCreated(ApiMessage, frozen=True):
    """The new user and a session token, shown this once."""

    id: UUID
    name: str
    token: str


class CreateWorkspace(ApiMessage, frozen=True):
    """Wishes for a new workspace."""

    name: NameText


class WorkspaceCreated(ApiMessage, frozen=True):
    """The new workspace and the token that lets its machine join, shown this once."""

    id: UUID
    name: str
    owner: str
    address: str
    token: str


class ShareInfo(ApiMessage, frozen=True):
    """A share or an offer, as the workspace's owner is shown it."""

    user: str
    """Whom it is shared with or offered to. That it is offered does not say that there is such a user."""
    state: Literal["offered", "accepted"]
    ports: str
    """What the guest may reach: ``all``, ``none``, a list such as ``22,8000-8999``, or ``apps``."""
    open_ports: str
    """Lists the ports that ``ports`` opens now; of ``apps``, those of the workspace's apps that others than its owner may open."""
    terminal: bool
    """Whether the guest may open a shell."""
    created_at: float
    lapses_at: float | None
    """Of an offer: when it is gone unless it was accepted."""
    expires_at: float | None
    """When the share ends; null: when it is taken back or left."""


class WorkspaceInfo(ApiMessage, frozen=True):
    """A workspace."""

    id: UUID
    name: str
    owner: str
    address: str
    online: bool
    created_at: float
    """Wall-clock seconds."""
    path: str = "direct"
    """By which paths it may be reached: direct, relay-only, or deny."""
    shared_with: list[str] = []
    """Names of other users who have accepted; told only to who may change the workspace."""
    shares: list[ShareInfo] = []
    """Lists shares and open offers with their terms; told only to who may change the workspace."""
    enforces: bool | None = None
    """Whether the program that runs there keeps guests to these terms; null while it is not connected."""


class OfferInfo(ApiMessage, frozen=True):
    """A share or an offer, as its guest is shown it."""

    owner: str
    workspace: str
    state: Literal["offered", "declined", "accepted"]
    ports: str
    """As in ``ShareInfo``."""
    open_ports: str
    terminal: bool
    created_at: float
    lapses_at: float | None
    expires_at: float | None


class OfferList(ApiMessage, frozen=True):
    """Lists workspaces that are shared with the caller, by name, then offers, the newest first."""

    offers: list[OfferInfo]


class OfferShare(ApiMessage, frozen=True):
    """Terms of a share; null: as they are, and of a new one the narrow default."""

    ports: PortsText | None = None
    """``all``, ``none``, a list, or ``apps``, which is the default."""
    terminal: bool | None = None
    """By default no."""
    lifetime: Lifetime | None = None
    """Seconds from now until it ends; by default it does not."""
    endless: bool = False
    """Takes an end away that was set."""


class ConnectionInfo(ApiMessage, frozen=True):
    """Somebody has something open to a workspace."""

    user: str
    """Empty where nobody is signed in: a public app."""
    device: str
    """The device's name; empty where it is a browser."""
    kind: Literal["tunnel", "app", "terminal"]
    what: str
    """Of an app its name."""
    path: str
    """Of a tunnel: direct, relay, or empty while the device has not said it."""
    since: float
    """Wall-clock seconds."""
    is_owner: bool
    """Whether it is the workspace's owner."""


class ConnectionList(ApiMessage, frozen=True):
    """Who is connected, by user and device."""

    connections: list[ConnectionInfo]


class AppInfo(ApiMessage, frozen=True):
    """A web app of a workspace, as it was set; any other port is an app for the owner alone."""

    name: str
    """Its port in digits, or a slug."""
    port: int
    """On the workspace's loopback."""
    share: ShareText
    """Whom it is for, beside the workspace's owner."""
    path: str
    """Where it is on the server's host."""
    host: str = ""
    """Its own host, if apps have hosts and its names allow one."""


class AppList(ApiMessage, frozen=True):
    """Web apps by name."""

    apps: list[AppInfo]


class SetApp(ApiMessage, frozen=True):
    """What a web app shall be from now on."""

    name: NameText
    share: ShareText = "owner"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    """Null where the name is the port."""


class WorkspaceList(ListPage, frozen=True, kw_only=True):
    """Workspaces by name."""

    workspaces: list[WorkspaceInfo]


class ChangeWorkspace(ApiMessage, frozen=True):
    """What shall become of a workspace; null: as it is."""

    name: NameText | None = None
    path: PathRule | None = None


class JoinWorkspace(ApiMessage, frozen=True):
    """A machine with a join key wants to be a workspace."""

    name: NameText
    """What the machine calls itself."""


class EnrolDevice(ApiMessage, frozen=True):
    """A machine wants to join as the caller's device; the same key enrols the same device again."""

    name: NameText
    """What the machine calls itself."""
    node_key: KeyText
    device_token: Annotated[str, msgspec.Meta(max_length=limits.MAX_TOKEN)] | None = None
    """The token that this device has, if it is enrolled: a token of scope enrol needs it then."""


class DeviceEnrolled(ApiMessage, frozen=True):
    """The device, under the name that it has got, and its token, shown this once."""

    id: UUID
    name: str
    owner: str
    address: str
    token: str
    is_waiting: bool = False
    """Whether it connects nowhere until an admin approves it."""


class DeviceInfo(ApiMessage, frozen=True):
    """A device."""

    id: UUID
    name: str
    owner: str
    address: str
    online: bool
    created_at: float
    is_waiting: bool = False
    """Whether it connects nowhere until an admin approves it."""
    expires_at: float | None = None
    """When it has to sign in again, in wall-clock seconds; null: never."""


class DeviceList(ListPage, frozen=True, kw_only=True):
    """Devices by name."""

    devices: list[DeviceInfo]


class ChangeDevice(ApiMessage, frozen=True):
    """What shall become of a device."""

    name: NameText


class ListQuery(PageQuery, frozen=True):
    """Whose things to list."""

    all: bool = False
    """Everybody's."""


class CreateToken(ApiMessage, frozen=True):
    """Wishes for a token."""

    kind: Literal["session", "join"]
    name: Annotated[str, msgspec.Meta(max_length=63)] = ""
    """For people, to know it again: empty, or a DNS label."""
    scope: Scope = Scope.ALL
    """Of a session: ``read`` changes nothing, ``enrol`` enrols devices and nothing else."""
    lifetime: Lifetime | None = None
    """Seconds; null: as long as the token used."""
    reusable: bool = False
    """A join key for any number of machines."""
    workspace: NameText | None = None
    """The caller's workspace that a join key joins; null: a new one each time."""


class TokenInfo(ApiMessage, frozen=True):
    """A token, never in clear."""

    id: UUID
    kind: str
    """session, join, workspace or device."""
    name: str
    scope: str
    created_at: float
    expires_at: float | None
    uses_left: int | None
    """Of a join key; null: any number."""
    node: str
    """The workspace or device that it speaks for, or the workspace that a join key joins: ``owner/name``."""
    made_with: UUID | None = None
    """The token that it was made with: who revokes that ends this, unless it is a node's or another user's."""
    is_sign_in: bool = False
    """Whether it stands for a person having been let in: a first token, one given since, or a browser's opened with such."""


class TokenList(ListPage, frozen=True, kw_only=True):
    """Tokens in the order in which they were made."""

    tokens: list[TokenInfo]


class RevokeQuery(ApiMessage, frozen=True):
    """How much ends with a token."""

    nodes: bool = False
    """Also the tokens of devices and workspaces that it let in, whose connections end, and sign-ins that it gave to others."""


class GiveSignIn(ApiMessage, frozen=True):
    """Asks for a new sign-in: there is nothing to wish for."""


class SignInGiven(ApiMessage, frozen=True):
    """A sign-in, shown this once."""

    id: UUID
    """The user's."""
    name: str
    token: str
    expires_at: float


class TokenCreated(ApiMessage, frozen=True):
    """A token, shown this once."""

    token: str
    info: TokenInfo


class ReachInfo(ApiMessage, frozen=True):
    """One node reaches another, as it reports itself."""

    node: str
    """``owner/name``."""
    node_id: UUID
    kind: str
    """Of the node: device or workspace."""
    peer: str
    peer_id: UUID
    peer_kind: str
    path: PathKind
    """``none``: not in use."""
    since: float
    """Seconds for which it has been this path."""
    region: str = ""
    """Code of the relay's region, where the path is relayed."""
    rtt: float | None = None
    """Seconds there and back; null while unmeasured."""


class PathList(ApiMessage, frozen=True):
    """Paths by node, then peer."""

    paths: list[ReachInfo]


class RelayLoad(ApiMessage, frozen=True):
    """What the server's own relay does; counts since the server's start."""

    clients: int
    bytes: int
    packets: int
    drops: int
    """Packets that could not be handed on."""
    queued_packets: int
    """Packets that wait for clients now."""
    queued_bytes: int


class RelayRegionInfo(ApiMessage, frozen=True):
    """A region of the relay map, as nodes see it."""

    id: int
    code: str
    name: str
    relays: list[str]
    """Host names; a region of STUN servers alone has none."""
    home_of: int
    """Nodes that listen there."""
    latency: float | None
    """Median of what nodes measured, in seconds; null where none did."""
    measured_by: int
    """How many did."""
    load: RelayLoad | None = None
    """Of the server's own relay; for admins and owners."""


class RelayList(ApiMessage, frozen=True):
    """Regions by number."""

    regions: list[RelayRegionInfo]


class AuditQuery(ApiMessage, frozen=True):
    """Which page of the audit log."""

    before: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    """Only entries with smaller numbers."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)] = 100


class AuditEntry(ApiMessage, frozen=True):
    """Who changed what."""

    number: int
    at: float
    """Wall-clock seconds."""
    actor: str
    actor_id: UUID | None
    source: str
    """The address that the request came from."""
    action: str
    target: str
    detail: str


class AuditPage(ApiMessage, frozen=True):
    """Entries, newest first."""

    entries: list[AuditEntry]
    next: int | None
    """``before`` of the next page; null: this was the last."""


class RelayClient(ApiMessage, frozen=True):
    """One connected node's traffic through the embedded relay, since it connected; bytes with frame headers."""

    node_key: str
    node: str
    """``owner/name``, empty where the store no longer knows the key."""
    bytes_in: int
    """What it sent to the relay."""
    bytes_out: int
    """What the relay sent to it."""
    packets_in: int
    packets_out: int


class ServerCounters(ApiMessage, frozen=True):
    """What the server has moved and refused since it started."""

    counters: dict[str, int]
    n_connections: int
    """Nodes on the coordination link."""
    relay: list[RelayClient]
    relay_bytes: int
    """Taken on by the relay for nodes that were connected, with frame headers; what a full queue then dropped of it is
    counted, in packets, as ``derp.drop.queue_full``."""
    relay_packets: int


class Reflection(ApiMessage, frozen=True):
    """How a request reached the server: whoever made it sees from that what stands in between."""

    seen_from: str
    """The address that it came from, as the server saw it."""
    arrived_at: str
    """The server's own address that it came to."""
    unix_time: float
    """The server's clock."""
    n_stun_answered: int
    """Binding requests, of anybody, that the server's STUN has answered since it started."""


class Nothing(ApiMessage, frozen=True):
    """Done."""


M = TypeVar("M", bound=ApiMessage)

_encoder = msgspec.json.Encoder()


def encode_message(message: ApiMessage) -> bytes:
    """Encodes any message as JSON."""
    return _encoder.encode(message)


def parse_message(kind: type[M], data: bytes) -> M:
    """Reads one message. Raises MalformedPacket with a sentence that names the field."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedPacket(str(error)) from None


def parse_query(kind: type[M], values: dict[str, str]) -> M:
    """Reads a query string's values. Raises MalformedPacket with a sentence that names the field."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise MalformedPacket(str(error)) from None
