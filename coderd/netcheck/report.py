"""What a netcheck found out: frozen, with Tailscale's field meanings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from coderd.model.addresses import AddrPort


@dataclass(frozen=True, slots=True)
class Report:
    """One finished report. Latencies are seconds per region, the least of what was measured."""

    started_at: float
    taken_at: float
    """Both on the clock of the machine's ``now`` arguments."""
    udp: bool = False
    """A STUN round trip worked."""
    ipv4: bool = False
    ipv6: bool = False
    """A STUN round trip over that family worked."""
    ipv4_can_send: bool = False
    ipv6_can_send: bool = False
    """A probe of that family could be sent, whatever became of it."""
    mapping_varies_by_dest: bool | None = None
    """Whether IPv4 mappings differ by destination address or port; None while only one destination answered.
    """
    preferred_derp: int = 0
    """The home region to have now; 0 where nothing could be measured."""
    region_latency: Mapping[int, float] = field(default_factory=dict)
    region_v4_latency: Mapping[int, float] = field(default_factory=dict)
    region_v6_latency: Mapping[int, float] = field(default_factory=dict)
    global_v4: AddrPort | None = None
    """The mapping that the first IPv4 reply showed."""
    global_v6: AddrPort | None = None
    """What the last IPv6 reply showed."""
    global_v4_counters: Mapping[AddrPort, int] = field(default_factory=dict)
    global_v6_counters: Mapping[AddrPort, int] = field(default_factory=dict)
    """How many replies showed each mapping, in order of first sight."""
    v4_mappings: Mapping[AddrPort, AddrPort] = field(default_factory=dict)
    """Which mapping each probed IPv4 address and port showed last."""
    foreign_mappings: Mapping[AddrPort, AddrPort] = field(default_factory=dict)
    """Addresses that STUN servers saw in place of this node, by server: they are in none of the above."""
