"""``coderctl netcheck``: the network as this machine sees it."""

from collections.abc import Iterator

from coderd.cli.options import SOCKET, Json, Socket
from coderd.cli.say import say_json, say_text
from coderd.cli.shown import Shown, lines_text
from coderd.cli.status_text import aligned
from coderd.cli.values import latency_text
from coderd.control.io.client import ControlClient
from coderd.control.messages import NETCHECK, Netcheck, NetcheckParams
from coderd.model.errors import Exit

PATIENCE = 20.0
"""Seconds to wait for the daemon, which finishes a measurement under way first."""


def netcheck(socket: Socket = SOCKET, json: Json = False) -> int:
    """Measure the network now.

    UDP, NAT, MTU, clock, what is in front of the server, and the latency of each relay.

    Examples:
      coderctl netcheck
      coderctl netcheck --json | jq .RegionLatency

    Exits with 0 if a relay answers, else with 11.
    """
    with ControlClient(socket) as client:
        found = client.call(NETCHECK, NetcheckParams(), patience=PATIENCE)
    if json:
        say_json(found)
    else:
        say_text(netcheck_text(found))
    is_relay_near = any(region.relay and region.latency_ms is not None for region in found.regions)
    return Exit.DONE if is_relay_near else Exit.NO_PATH


def netcheck_text(found: Netcheck) -> Shown:
    """Returns a measurement as lines for people."""
    rows = [
        ["UDP", "works" if found.udp else "does not get through"],
        ["IPv4", _family(found.ipv4, found.global_v4, found.ipv4_can_send)],
        ["IPv6", _family(found.ipv6, found.global_v6, found.ipv6_can_send)],
        ["NAT", nat_text(found.nat, found.mapping, found.mapping_varies)],
        ["filtering", filtering_text(found.filtering, found.filters_by_port)],
        [
            "hairpin",
            {True: "yes", False: "no", None: "no NAT" if found.nat is False else "unknown"}[found.hairpin],
        ],
        ["MTU", mtu_text(found.mtu, found.mtu_needed, found.carries_full)],
        ["server", SERVER.get(found.server, found.server)],
        ["clock", clock_text(found.clock_skew_s)],
        ["proxy", found.proxy or "none"],
    ]
    return lines_text([*aligned(rows), "", *aligned(list(_regions(found))), *_warnings(found)])


SERVER = {
    "open": "directly reachable at its address",
    "forwarded": "behind a forwarder that keeps its clients' addresses",
    "masked": "behind a NAT that hides its clients' addresses",
    "closed": "behind a firewall or proxy that passes no UDP",
    "unknown": "unknown",
}
"""What is in front of the server, in plain words."""


def filtering_text(filtering: str, by_port: bool | None) -> str:
    """Returns the NAT's filtering (RFC 4787 §5), or as much of it as two ports of one server show."""
    return "not by port; by address is unknown" if filtering == "unknown" and by_port is False else filtering


def mtu_text(mtu: int | None, needed: int | None, carries_full: bool | None) -> str:
    """Returns the MTU that this host knows, and whether datagrams of the needed size arrive."""
    known = f"{mtu}" if mtu is not None else "unknown"
    if needed is None or carries_full is None:
        return known
    return f"{known}; {needed} bytes {'arrive' if carries_full else 'are lost'}"


def nat_text(nat: bool | None, mapping: str, varies: bool | None) -> str:
    """Returns the kind of NAT in front of this machine, and its mapping (RFC 4787 §4.1), in plain words."""
    if nat is None:
        return "unknown"
    if not nat:
        return "none: the server sees this machine's own address"
    kind = f" ({mapping} mapping)" if mapping != "unknown" else ""
    if varies:
        return f"hard: another port for each destination{kind}"
    if varies is None:
        return "of unknown kind: only one STUN server answered"
    return f"easy: one port for all destinations{kind}" if kind else "one port for all destinations asked"


def clock_text(skew: float | None) -> str:
    """Returns how far this machine's clock is from the server's, in words."""
    if skew is None:
        return "unknown: the server does not send its time"
    if abs(skew) < 2:
        return "agrees with the server's"
    return f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"


def _family(works: bool, seen: str, can_send: bool) -> str:
    if works:
        return f"yes, seen as {seen}" if seen else "yes, but the server sees another machine"
    return "no answer" if can_send else "no"


def _regions(found: Netcheck) -> Iterator[list[str]]:
    for region in found.regions:
        latency = latency_text(region.latency_ms) if region.latency_ms is not None else "no answer"
        kind = "relay" if region.relay else "STUN"
        yield [f'{kind} "{region.code}"', latency, "home" if region.preferred else ""]


def _warnings(found: Netcheck) -> list[str]:
    return ["", *(f"! {warning}" for warning in found.warnings)] if found.warnings else []
