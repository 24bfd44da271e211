"""Web apps of a workspace: a name, a port, and the users who may open it. Pure."""

from dataclasses import dataclass
from enum import Enum


class AppShare(Enum):
    """Who may open an app, beside the workspace's owner."""

    OWNER = "owner"
    """The workspace's owner alone."""
    SHARED = "shared"
    """Users with whom the workspace is shared."""
    AUTHENTICATED = "authenticated"
    """Every user who is signed in to this server."""
    PUBLIC = "public"
    """Everyone who can reach the server."""


@dataclass(frozen=True, slots=True)
class App:
    """One web app of a workspace."""

    name: str
    """Its port in digits, or a slug."""
    port: int
    """On the workspace's loopback."""
    share: AppShare = AppShare.OWNER
