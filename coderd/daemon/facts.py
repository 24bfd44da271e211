"""This node's own network in the words that it tells its peers, and itself, when somebody asks why."""

import socket

from coderd.daemon.survey import Survey, has_stun
from coderd.daemon.tunnel import Tunnel
from coderd.magicsock.io.relays import RelayInfo
from coderd.model.addresses import is_ipv6
from coderd.model.derpmap import DerpMap
from coderd.model.netmap import PathPolicy, Peer
from coderd.netcheck import Facts, mapping_of
from coderd.netcheck.nat import has_nat

CHECK_TIMEOUT = 5.0
"""Seconds that a netcheck may take while somebody waits for facts."""

_WIREGUARD_OVERHEAD, _UDP_HEADER, _IPV4_HEADER, _IPV6_HEADER = 32, 8, 20, 40
_IP_MTU, _IPV6_MTU = 14, 24
_SOME_PORT = 9


def own_facts(survey: Survey, tunnel: Tunnel, derp_map: DerpMap, tunnel_mtu: int, peer: Peer | None) -> Facts:
    """How this end's network is; ``peer`` is whom the facts are about to be told or compared to."""
    offers_stun = has_stun(derp_map)
    report, own = survey.report, tunnel.here.addresses
    mtu = relay_mtu(tunnel, tunnel_mtu)
    return Facts(
        udp=report.udp if report is not None and offers_stun else None,
        stun=offers_stun,
        nat=has_nat(report, own) if report is not None else None,
        mapping=mapping_of(report, own).value if report is not None else "unknown",
        filtering=survey.examination.filtering.value,
        varies=report.mapping_varies_by_dest if report is not None else None,
        ports=tunnel.port_order.value,
        endpoints=len(tunnel.endpoints),
        home=derp_map.code(tunnel.home_region) if tunnel.home_region else "",
        relay=tunnel.is_relay_connected,
        websocket=_clause(next((info.why_websocket for info in home_relay(tunnel)), "")),
        blocked=peer is not None and peer.path_policy is PathPolicy.RELAY_ONLY,
        mtu=mtu[0] if mtu is not None else None,
        mtu_needed=mtu[1] if mtu is not None else None,
        carries_full=survey.examination.carries_full,
        narrow=peer is not None and tunnel.is_narrow(peer.node_key),
        server=survey.standing.value,
    )


def home_relay(tunnel: Tunnel) -> tuple[RelayInfo, ...]:
    """The link to the home relay, if it is up."""
    return tuple(info for info in tunnel.relays if info.region_id == tunnel.home_region and info.is_connected)


def _clause(text: str) -> str:
    """What a far end wrote, as a peer takes it."""
    return "".join(character for character in text if character.isprintable())[:256]


def relay_mtu(tunnel: Tunnel, tunnel_mtu: int) -> tuple[int, int] | None:
    """MTU of the way to a relay as the kernel knows it, and what a direct path of that family needs; None: no way."""
    for ip in sorted({ip for found in tunnel.resolved.values() for ip in found}):
        if (mtu := route_mtu(ip)) is not None:
            header = _IPV6_HEADER if is_ipv6((ip, 0)) else _IPV4_HEADER
            return mtu, tunnel_mtu + _WIREGUARD_OVERHEAD + _UDP_HEADER + header
    return None


def route_mtu(ip: str) -> int | None:
    """The kernel's MTU towards an address; None where there is no way. Sends nothing."""
    is_six = is_ipv6((ip, 0))
    try:
        with socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((ip, _SOME_PORT))
            if is_six:
                return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
            return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
    except OSError:
        return None
