"""Tokens: sessions, join keys, and those of nodes."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from coderd.api.messages.message import ApiMessage, Lifetime, ListPage, NameText
from coderd.model.roles import Scope


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
    """Also revokes the tokens of nodes that joined with it, and sign-ins that it gave to other users."""


class TokenCreated(ApiMessage, frozen=True):
    """A token, shown this once."""

    token: str
    info: TokenInfo
