"""What is said at ``/api/v1``: JSON objects, unknown fields ignored, every text bounded.

    GET    /healthz             anybody          Health
    GET    /users/me            session          UserInfo
    POST   /users               admin            CreateUser -> UserCreated
    DELETE /sessions/me         session          (the token used is revoked)
    GET    /workspaces          session          WorkspaceList, the caller's own
    POST   /workspaces          session          CreateWorkspace -> WorkspaceCreated
    GET    /workspaces/{name}   session          WorkspaceInfo; {name} is a name or an id, here and below
    DELETE /workspaces/{name}   session
    GET    /devices             session          DeviceList
    POST   /devices             session          EnrolDevice -> DeviceEnrolled
    DELETE /devices/{id}        session, or the device's own token
    GET    /reflection          any token        Reflection
    GET    /debug/counters      admin            ServerCounters

A refusal has a status of 400 or more and an ``ErrorBody``. Tokens travel as ``Authorization: Bearer``, nowhere else.
"""

from typing import Annotated, TypeAlias, TypeVar
from uuid import UUID

import msgspec

from coderd.model.errors import MalformedPacket

PREFIX = "/api/v1"
MAX_BODY = 64 * 1024
"""Bytes of a request's body."""
MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer that a client is ready to read."""

NameText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
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


class UserInfo(ApiMessage, frozen=True):
    """A user."""

    id: UUID
    name: str
    is_admin: bool


class CreateUser(ApiMessage, frozen=True):
    """Wishes for a new user."""

    name: NameText


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


class WorkspaceInfo(ApiMessage, frozen=True):
    """A workspace."""

    id: UUID
    name: str
    owner: str
    address: str
    online: bool
    created_at: float
    """Wall-clock seconds."""


class WorkspaceList(ApiMessage, frozen=True):
    """Workspaces by name."""

    workspaces: list[WorkspaceInfo]


class EnrolDevice(ApiMessage, frozen=True):
    """A machine wants to join as the caller's device; the same key enrols the same device again."""

    name: NameText
    """What the machine calls itself."""
    node_key: KeyText


class DeviceEnrolled(ApiMessage, frozen=True):
    """The device, under the name that it has got, and its token, shown this once."""

    id: UUID
    name: str
    owner: str
    address: str
    token: str


class DeviceInfo(ApiMessage, frozen=True):
    """A device."""

    id: UUID
    name: str
    owner: str
    address: str
    online: bool
    created_at: float


class DeviceList(ApiMessage, frozen=True):
    """Devices by name."""

    devices: list[DeviceInfo]


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
    """The JSON of any message."""
    return _encoder.encode(message)


def parse_message(kind: type[M], data: bytes) -> M:
    """Reads one message. Raises MalformedPacket with a sentence that names the field."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedPacket(str(error)) from None
