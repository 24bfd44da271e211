"""Relay regions and their nodes.

Tailscale's DERP map in JSON, with two fields of ours, ``ForceHTTP`` and ``ForceWebSockets``.

Field names on the wire are Tailscale's; a reader takes absent, null and zero alike and ignores what it does
not know.
"""

from dataclasses import dataclass, field

EMBEDDED_REGION = 999
"""The relay inside ``coderd server``; its code is ``coder``."""
DEFAULT_STUN_PORT = 3478
DEFAULT_DERP_PORT = 443


@dataclass(frozen=True, slots=True)
class DerpNode:
    """One relay server, or a STUN server only. Names follow the JSON: see ``node_to_json``."""

    name: str
    region_id: int
    host_name: str
    cert_name: str = ""
    ipv4: str = ""
    """"" = resolve host_name; a literal = use it; anything else = no IPv4."""
    ipv6: str = ""
    stun_port: int = 0
    """0 = 3478; negative = no STUN."""
    stun_only: bool = False
    derp_port: int = 0
    """0 = 443."""
    insecure_for_tests: bool = False
    stun_test_ip: str = ""
    can_port_80: bool = False
    force_http: bool = False
    """Ours: reach the relay by plain HTTP, as its access URL is http."""
    server_trust: str = ""
    """Trust anchor of the own server's relay; empty for others. Not part of the JSON."""
    is_elsewhere: bool = field(default=False, compare=False)
    """Whether a server on another machine listed this relay, so that it is never dialled on loopback. Not
    part of the JSON."""


@dataclass(frozen=True, slots=True)
class DerpRegion:
    """Nodes that serve one place, in order of preference."""

    region_id: int
    code: str
    name: str
    nodes: tuple[DerpNode, ...] = ()
    avoid: bool = False
    no_measure_no_home: bool = False
    latitude: float = 0.0
    longitude: float = 0.0


@dataclass(frozen=True, slots=True)
class DerpMap:
    """All regions by id, and how to weigh them when choosing a home."""

    regions: dict[int, DerpRegion] = field(default_factory=dict)
    region_score: dict[int, float] = field(default_factory=dict)
    omit_default_regions: bool = False
    force_websockets: bool = False
    """Ours: reach every relay by WebSocket, without trying the upgrade to DERP first."""

    def code(self, region_id: int) -> str:
        """Returns a region's short code for people, its number where the map does not know it."""
        region = self.regions.get(region_id)
        return region.code if region is not None else str(region_id)
