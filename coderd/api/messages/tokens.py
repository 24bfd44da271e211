"""Tokens: sessions, join keys, and those of nodes."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from coderd.api.messages.message import ApiMessage, Lifetime, ListPage, NameText
from coderd.model.roles import Scope


class CreateToken(ApiMessage, frozen=True):
    """Properties of a new token."""

    kind: Literal["session", "join"]
    name: Annotated[str, msgspec.Meta(max_length=63)] = ""
    """A name to recognise it by: empty, or a DNS label."""
    scope: Scope = Scope.ALL
    """Of a session: ``read`` changes nothing, ``enrol`` enrols devices and nothing else."""
    lifetime: Lifetime | None = None
    """Seconds; null: it expires with the token used."""
    reusable: bool = False
    """Whether a join key joins any number of machines."""
    workspace: NameText | None = None
    """The caller's workspace that a join key joins; null: a new one each time."""


class TokenInfo(ApiMessage, frozen=True):
    """Properties of a token, without its secret."""

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
    """The token that created it; revoking that one revokes this, unless it is a node's or another user's."""
    is_sign_in: bool = False
    """Whether it is a sign-in: a user's first token, one given later, or a browser's session from either."""


class TokenList(ListPage, frozen=True, kw_only=True):
    """Tokens in the order of their creation."""

    tokens: list[TokenInfo]


class RevokeQuery(ApiMessage, frozen=True):
    """Extent of a token's revocation."""

    nodes: bool = False
    """Also revokes the tokens of nodes that joined with it, and sign-ins that it gave to other users."""


class TokenCreated(ApiMessage, frozen=True):
    """A token, shown only once."""

    token: str
    info: TokenInfo
