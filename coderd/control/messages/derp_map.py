"""``derp-map``: the relays that this node knows, and what a probe of each found."""

from typing import Literal

from coderd.control.messages.message import Message


class DerpMapParams(Message, frozen=True, kw_only=True):
    """Parameters of ``derp-map``."""

    check: bool = False
    """Whether to probe every relay from this node."""


class RelayCheck(Message, frozen=True, kw_only=True):
    """Findings of a probe of one node of the map; null where the map or this machine has no such way."""

    region: int
    node: str
    stun_v4_ms: float | None = None
    stun_v6_ms: float | None = None
    connect_ms: float | None = None
    """TCP and, where the relay has it, TLS."""
    http_ms: float | None = None
    """One request to ``/derp/probe``."""
    derp_ms: float | None = None
    """From the first SYN to the relay's first frame."""
    derp_by: Literal["", "upgrade", "websocket"] = ""
    why_websocket: str = ""
    """Why the upgrade would not do."""
    problems: tuple[str, ...] = ()
    """One clause each; none where all is well."""


class DerpMapInfo(Message, frozen=True, kw_only=True):
    """The relay map of a node."""

    map: dict[str, object]
    """Tailscale's JSON, with the server's own region as this node dials it."""
    home: int = 0
    """This node's home region; 0 while unknown."""
    server_region: int = 0
    """The region that is the server itself; 0 where it has no relay."""
    checks: tuple[RelayCheck, ...] | None = None
    """In the map's order; null unless they were requested."""
