"""Whether a node is connected to its server, and the reason if not."""

from dataclasses import dataclass, field

WRONG_KIND = "wrong_kind"
"""Error code where a server or a command would make this machine another kind of node than it was joined
as."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """State of a node's connection to its server."""

    connected: bool
    reason: str = ""
    """Why the node is not connected, as one clause for people; empty while connected."""
    attempts: int = 0
    """Failed attempts since the last connection."""
    resume_token: str = field(default="", repr=False)
    """Shown to the server at the next connection, also after a restart; set while connected."""
