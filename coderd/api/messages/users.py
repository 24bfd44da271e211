"""Users, and the sign-ins that let them in."""

from uuid import UUID

import msgspec

from coderd.api.messages.message import ApiMessage, ListPage, NameText
from coderd.model.roles import UserRole


class Usage(ApiMessage, frozen=True):
    """A user's number of things of a kind, and the quota."""

    used: int
    most: int


class UserInfo(ApiMessage, frozen=True):
    """A user."""

    id: UUID
    name: str
    is_admin: bool
    """Whether the role is admin or owner."""
    role: str = ""
    usage: dict[str, Usage] = msgspec.field(default_factory=dict)
    """Of workspaces, devices, tokens, apps and shares; empty in a list of users, and where they are
    changed."""


class UserList(ListPage, frozen=True, kw_only=True):
    """Users by name."""

    users: list[UserInfo]


class CreateUser(ApiMessage, frozen=True):
    """Name and role of a new user."""

    name: NameText
    role: UserRole = UserRole.MEMBER


class ChangeUser(ApiMessage, frozen=True):
    """Changes to a user; null leaves a property as it is."""

    name: NameText | None = None
    role: UserRole | None = None


class UserCreated(ApiMessage, frozen=True):
    """The new user and a session token, shown only once."""

    id: UUID
    name: str
    token: str


class GiveSignIn(ApiMessage, frozen=True):
    """Asks for a new sign-in; has no fields."""


class SignInGiven(ApiMessage, frozen=True):
    """A sign-in, shown only once."""

    id: UUID
    """The user's."""
    name: str
    token: str
    expires_at: float
