"""Bearer tokens: a prefix that tells the kind, and 256 random bits.

Only the SHA-256 of a token is ever stored. With that much entropy a slow password hash would add nothing but
load, and looking a hash up in an index tells its timing nothing about the token.
"""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from enum import Enum
from typing import Final
from uuid import UUID

from coderd.identity.people import Node, User
from coderd.model import RandomBytes, limits
from coderd.model.roles import Scope

TOKEN_BYTES = 32
MAX_TOKEN_LENGTH: Final = limits.MAX_TOKEN


class TokenKind(Enum):
    """What a token speaks for; the value is its prefix."""

    SESSION = "cdrs_"
    """A user, at the API."""
    WORKSPACE = "cdrw_"
    """A workspace's node."""
    DEVICE = "cdrd_"
    """A device's node."""
    JOIN = "cdrj_"
    """A join key, which a machine exchanges for a workspace's token."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token's listed attributes, without the token itself."""

    token_id: UUID
    kind: TokenKind
    name: str
    scope: Scope
    created_at: float
    expires_at: float | None
    """Wall-clock seconds; None = never."""
    uses_left: int | None = None
    """Of a join key; None = any number."""
    node: str = ""
    """``owner/name`` of the device or workspace that it speaks for, or that a join key joins."""
    parent_id: UUID | None = None
    """The token that it was created with, or the nearest ancestor that still exists."""
    is_sign_in: bool = False
    """Whether the token is a sign-in, as ``policy`` defines it."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """The user or node that a valid token authenticates; for a join key, the user who created it."""

    record: TokenRecord
    user: User
    """The user, or the node's owner."""
    node: Node | None = None


def make_token(kind: TokenKind, rng: RandomBytes) -> str:
    """Makes a new token: show it once, store its hash."""
    return kind.value + urlsafe_b64encode(rng(TOKEN_BYTES)).decode().rstrip("=")


def hash_token(token: str) -> bytes:
    """Returns the SHA-256 of a token, which stands for it in the store."""
    return hashlib.sha256(token.encode()).digest()


def token_kind(token: str) -> TokenKind | None:
    """Returns the kind that a token claims by its prefix, None for what cannot be a token."""
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        return None
    return next((kind for kind in TokenKind if token.startswith(kind.value)), None)
