"""How traffic to a peer travels, and how it may.

The one set of words for paths, used by every layer and message.
"""

from dataclasses import dataclass
from enum import StrEnum

from coderd.model.addresses import AddrPort


class PathKind(StrEnum):
    """How traffic to a peer travels: over UDP between the nodes, through a relay, or not at all."""

    DIRECT = "direct"
    RELAY = "relay"
    NONE = "none"


class Pin(StrEnum):
    """Which paths a user allows for a peer's traffic."""

    ANY = "any"
    DIRECT = "direct"
    RELAY = "relay"


class PathPolicy(StrEnum):
    """Which paths the server allows between a node and one of its peers; part of the NetMap."""

    ANY = "any"
    RELAY_ONLY = "relay-only"


class PathRule(StrEnum):
    """Which paths a workspace may be reached by, as its owner sets it."""

    DIRECT = "direct"
    """Direct and relayed paths."""
    RELAY_ONLY = "relay-only"
    DENY = "deny"
    """No path: the workspace has no peers."""


@dataclass(frozen=True, slots=True)
class PathInfo:
    """One peer's path at one instant.

    Attributes:
        kind: direct, relay or none; ``PathKind`` is a ``str``, so it equals the plain words.
        via: the address of a direct path, the region of a relayed one, or None.
        latency: round trip by this path in seconds; None while unmeasured.
        since: the instant at which traffic took this path.
        time_to_direct: seconds that this direct path took to find, since data was first sent or the last
            direct path was lost; None on other paths.
        n_changes: how often the path has changed while the peer was active.
        tx_direct: WireGuard bytes sent over UDP, IP and UDP headers not counted.
        rx_direct: WireGuard bytes received over UDP.
        tx_relay: WireGuard bytes sent through relays.
        rx_relay: WireGuard bytes received through relays.
    """

    kind: PathKind
    via: AddrPort | int | None
    latency: float | None
    since: float
    time_to_direct: float | None = None
    n_changes: int = 0
    tx_direct: int = 0
    rx_direct: int = 0
    tx_relay: int = 0
    rx_relay: int = 0
