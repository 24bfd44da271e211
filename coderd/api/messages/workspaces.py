"""Workspaces, and who is connected to one."""

from typing import Literal
from uuid import UUID

import msgspec

from coderd.api.messages.message import ApiMessage, ListPage, NameText
from coderd.api.messages.shares import ShareInfo
from coderd.model.paths import PathRule


class CreateWorkspace(ApiMessage, frozen=True):
    """Name of a new workspace."""

    name: NameText


class WorkspaceCreated(ApiMessage, frozen=True):
    """The new workspace and the token that lets its machine join, shown only once."""

    id: UUID
    name: str
    owner: str
    address: str
    token: str


class JoinWorkspace(ApiMessage, frozen=True):
    """Request of a machine with a join key to become a workspace."""

    name: NameText
    """What the machine calls itself."""


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
    shared_with: list[str] = msgspec.field(default_factory=list)
    """Names of other users who have accepted; only for callers who may change the workspace."""
    shares: list[ShareInfo] = msgspec.field(default_factory=list)
    """Lists shares and open offers with their terms; only for callers who may change the workspace."""
    enforces: bool | None = None
    """Whether the workspace's release enforces these terms; null while it is not connected."""


class WorkspaceList(ListPage, frozen=True, kw_only=True):
    """Workspaces by name."""

    workspaces: list[WorkspaceInfo]


class ChangeWorkspace(ApiMessage, frozen=True):
    """Changes to a workspace; null leaves a property as it is."""

    name: NameText | None = None
    path: PathRule | None = None


class ConnectionInfo(ApiMessage, frozen=True):
    """A user's open connection to a workspace."""

    user: str
    """Name of the user; empty for an unauthenticated browser at a public app."""
    device: str
    """The device's name; empty for a browser."""
    kind: Literal["tunnel", "app", "terminal"]
    what: str
    """Of an app: its name."""
    path: str
    """Of a tunnel: direct, relay, or empty until the device has reported it."""
    since: float
    """Wall-clock seconds."""
    is_owner: bool
    """Whether the user is the workspace's owner."""


class ConnectionList(ApiMessage, frozen=True):
    """Connections to a workspace, by user and device."""

    connections: list[ConnectionInfo]
