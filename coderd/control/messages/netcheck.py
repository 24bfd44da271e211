"""``netcheck``: what this node's network lets through."""

import msgspec

from coderd.control.messages.message import Message


class NetcheckParams(Message, frozen=True, kw_only=True):
    """Parameters of ``netcheck``: none. The network is measured in full, now."""


class RegionDistance(Message, frozen=True, kw_only=True):
    """A relay region and its latency; null if it was not measured."""

    id: int
    code: str
    name: str
    latency_ms: float | None = None
    preferred: bool = False
    """Whether it is the home that the measurement proposes."""
    relay: bool = True
    """False where it only answers STUN."""


class Netcheck(Message, frozen=True, kw_only=True):
    """Findings of a full netcheck.

    Names in capitals are Tailscale's, their latencies nanoseconds by region.
    """

    udp: bool = msgspec.field(name="UDP")
    ipv4: bool = msgspec.field(name="IPv4")
    ipv6: bool = msgspec.field(name="IPv6")
    ipv4_can_send: bool = msgspec.field(name="IPv4CanSend")
    ipv6_can_send: bool = msgspec.field(name="IPv6CanSend")
    os_has_ipv6: bool = msgspec.field(name="OSHasIPv6")
    mapping_varies: bool | None = msgspec.field(name="MappingVariesByDestIP")
    preferred_derp: int = msgspec.field(name="PreferredDERP")
    region_latency: dict[int, int] = msgspec.field(name="RegionLatency")
    region_v4_latency: dict[int, int] = msgspec.field(name="RegionV4Latency")
    region_v6_latency: dict[int, int] = msgspec.field(name="RegionV6Latency")
    global_v4: str = msgspec.field(name="GlobalV4")
    """``ip:port`` that the first STUN server saw; empty where none did."""
    global_v6: str = msgspec.field(name="GlobalV6")
    global_v4_counters: dict[str, int] = msgspec.field(name="GlobalV4Counters")
    global_v6_counters: dict[str, int] = msgspec.field(name="GlobalV6Counters")
    nat: bool | None = None
    """Whether the address is translated on the way; null where no STUN server answered."""
    mapping: str = "unknown"
    """RFC 4787: ``endpoint-independent``, ``address-dependent``, ``address-and-port-dependent`` or
    ``unknown``."""
    filtering: str = "unknown"
    """As for ``mapping``. Without a second address of a STUN server only the strictest can be told."""
    filters_by_port: bool | None = None
    """Whether an answer from another port than was asked is kept out; null where no server could answer
    so."""
    hairpin: bool | None = msgspec.field(default=None, name="HairPinning")
    """Whether the NAT turns around what is sent to its own outer address; null without NAT, or where that
    is unknown."""
    captive_portal: bool | None = msgspec.field(default=None, name="CaptivePortal")
    """Whether something else answers in place of the server; null without an answer, or over https without a
    trusted one."""
    server: str = "unknown"
    """What stands before the server.

    Nothing (``open``), something that lets UDP and its senders through (``forwarded``), that hides senders
    (``masked``), or that lets no UDP through (``closed``); or ``unknown``.
    """
    proxy: str = ""
    """The HTTP proxy that the server is reached through, without its credentials; empty where there is
    none."""
    mtu: int | None = None
    """Of the way to the home relay, as far as this host knows."""
    mtu_needed: int | None = None
    """What the tunnel needs of a direct path."""
    carries_full: bool | None = None
    """Whether packets of that size came through, to a STUN server and back; null where no server could be
    asked."""
    clock_skew_s: float | None = None
    """This machine's clock less the server's; null where the server did not say."""
    regions: tuple[RegionDistance, ...] = ()
    """The nearest first, those without a measurement last."""
    warnings: tuple[str, ...] = ()
    """Obstacles to direct paths, one sentence each."""
