"""Web apps as their workspace's owner has set them: a name, a port, and whom it is for. Pure."""

from dataclasses import dataclass
from enum import Enum


class AppShare(Enum):
    """Whom an app is for, beside the workspace's owner."""

    OWNER = "owner"
    """Nobody else."""
    SHARED = "shared"
    """Those with whom the workspace is shared."""
    AUTHENTICATED = "authenticated"
    """Everybody who is signed in to this server."""
    PUBLIC = "public"
    """Everybody who can reach the server."""


@dataclass(frozen=True, slots=True)
class App:
    """One web app of a workspace."""

    name: str
    """Its port in digits, or a slug."""
    port: int
    """On the workspace's loopback."""
    share: AppShare = AppShare.OWNER
