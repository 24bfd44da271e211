"""Measures all of this node's own network at once, for ``netcheck`` and ``why``.

A netcheck, the server's account of a request and a test for a captive portal run concurrently; the
examination of the NAT follows, with a STUN server that has just answered. A result can be reused for
``MAX_AGE`` seconds, so that a peer that asks repeatedly does not keep this node measuring.
"""

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import trio

from coderd.api.io.machine import ask_reflection
from coderd.api.messages import Reflection
from coderd.daemon.diagnosis.nat_behavior import examine
from coderd.engine.io.tunnel import Tunnel
from coderd.magicsock.io.relays import RelayInfo
from coderd.model.addresses import AddrPort, is_ipv6
from coderd.model.derpmap import DerpMap
from coderd.model.errors import UserError
from coderd.model.netmap import Peer
from coderd.model.paths import PathPolicy
from coderd.netcheck import Facts, Family, Report, mapping_of, stun_target
from coderd.netcheck.nat import has_nat
from coderd.netcheck.nat_behavior import UNKNOWN_BEHAVIOR, NatBehavior
from coderd.netcheck.server_reachability import ServerReachability, ServerView, server_reachability
from coderd.wireguard.message import DATA_OVERHEAD

MAX_AGE = 1.0
"""Seconds for which the facts for a peer or a person reuse a survey."""
HTTP_TIMEOUT = 3.0
"""Seconds that the server gets to answer a request."""

FACTS_TIMEOUT = 5.0
"""Seconds that a netcheck may take while a peer or a person waits for facts."""

_UDP_HEADER, _IPV4_HEADER, _IPV6_HEADER = 8, 20, 40
_IP_MTU, _IPV6_MTU = 14, 24
_SOME_PORT = 9
_CHALLENGE, _RESPONSE = "X-Tailscale-Challenge", "X-Tailscale-Response"


@dataclass(frozen=True, slots=True)
class Survey:
    """Results of one survey; None where something could not be measured."""

    report: Report | None
    nat_behavior: NatBehavior = UNKNOWN_BEHAVIOR
    server_reachability: ServerReachability = ServerReachability.UNKNOWN
    clock_skew: float | None = None
    """This machine's clock less the server's, in seconds."""
    is_captive: bool | None = None
    """Whether something other than the server answers in its place."""


class Surveyor:
    """Measurer of one session's network, with its last survey.

    Args:
        tunnel: the session's tunnel, with its sockets and relay links.
        url: the server's URL.
        token: the node's token, for that server only.
        mtu: the tunnel's MTU, in bytes.
    """

    def __init__(self, tunnel: Tunnel, url: str, token: str, mtu: int) -> None:
        self._tunnel = tunnel
        self._url = url
        self._token = token
        self._size = mtu + DATA_OVERHEAD
        self._last: tuple[float, Survey] | None = None

    async def survey(self, derp_map: DerpMap, timeout: float, *, max_age: float = 0.0) -> Survey:
        """Returns the last survey if it was begun at most ``max_age`` seconds ago, else measures anew.

        Args:
            derp_map: the relay map in force.
            timeout: seconds that the netcheck may take.
            max_age: seconds for which an earlier survey is reused.
        """
        asked_at = trio.current_time()
        if self._last is not None and self._last[0] >= asked_at - max_age:
            return self._last[1]
        look = _Look()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reflect, look)
            nursery.start_soon(self._look_for_portal, look)
            look.report = await self._tunnel.netcheck(timeout, max_age=max_age)
            if (server := self._stun_server(look.report, derp_map)) is not None:
                look.nat_behavior = await examine(server, self._tunnel.here, self._size)
        if look.reflection is not None:  # only the server can answer for the token's owner
            look.is_captive = False
        survey = Survey(
            look.report,
            look.nat_behavior,
            self._server_reachability(look, derp_map),
            look.clock_skew,
            look.is_captive,
        )
        self._last = (asked_at, survey)
        return survey

    def _server_reachability(self, look: "_Look", derp_map: DerpMap) -> ServerReachability:
        said = look.reflection
        view = ServerView(said.arrived_at, said.n_stun_answered) if said is not None else None
        return server_reachability(
            look.report, self._tunnel.here, self._server_addresses(), view, has_stun=has_stun(derp_map)
        )

    def _server_addresses(self) -> tuple[str, ...]:
        return tuple(self._tunnel.resolved.get(urlsplit(self._url).hostname or "", ()))

    def _stun_server(self, report: Report | None, derp_map: DerpMap) -> AddrPort | None:
        """Returns a STUN server that has just answered, preferably this node's own, or None."""
        if report is None or not report.udp:
            return None
        own = self._server_addresses()
        answered = [*report.v4_mappings, *report.foreign_mappings]
        if not answered and report.region_v6_latency:
            answered = list(_targets(derp_map, report.region_v6_latency, Family.V6, self._tunnel))
        return min(answered, key=lambda addr: addr[0] not in own, default=None)

    async def _reflect(self, look: "_Look") -> None:
        with trio.move_on_after(HTTP_TIMEOUT):
            look.reflection, look.clock_skew = await reflect(self._url, self._token)

    async def _look_for_portal(self, look: "_Look") -> None:
        with trio.move_on_after(HTTP_TIMEOUT):
            look.is_captive = await is_captive(self._url)


class _Look:
    """Results of the measurements that one survey makes concurrently."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self.nat_behavior = UNKNOWN_BEHAVIOR
        self.reflection: Reflection | None = None
        self.clock_skew: float | None = None
        self.is_captive: bool | None = None


def has_stun(derp_map: DerpMap) -> bool:
    """Returns whether any node of a relay map offers STUN."""
    return any(node.stun_port >= 0 for region in derp_map.regions.values() for node in region.nodes)


async def reflect(url: str, token: str) -> tuple[Reflection | None, float | None]:
    """Returns the server's account of a request, and this machine's clock less the server's, in seconds.

    The difference is accurate to half a round trip. Both are None where the server does not answer.
    """
    asked_at = time.time()
    try:
        said = await ask_reflection(url, token)
    except UserError:
        return None, None
    return said, round((asked_at + time.time()) / 2 - said.unix_time, 3)


async def is_captive(url: str) -> bool | None:
    """Returns whether a captive portal answers in the server's place; None where no answer comes.

    Only ``http`` is tested; for ``https``, where a portal has no certificate for the server, the result is
    None.
    """
    if not url.startswith("http://"):
        return None
    challenge = f"ts_{os.urandom(8).hex()}"
    try:
        async with httpx.AsyncClient(timeout=HTTP_TIMEOUT) as client:
            answer = await client.get(f"{url}/generate_204", headers={_CHALLENGE: challenge})
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return answer.status_code != 204 or answer.headers.get(_RESPONSE) != f"response {challenge}"


def _targets(derp_map: DerpMap, regions: Iterable[int], family: Family, tunnel: Tunnel) -> Iterable[AddrPort]:
    for region_id in regions:
        region = derp_map.regions.get(region_id)
        for node in region.nodes if region is not None else ():
            if (target := stun_target(node, family, tunnel.resolved)) is not None:
                yield target


def own_facts(survey: Survey, tunnel: Tunnel, derp_map: DerpMap, tunnel_mtu: int, peer: Peer | None) -> Facts:
    """Returns this node's network as facts, including those that depend on ``peer`` if one is given."""
    offers_stun = has_stun(derp_map)
    report, own = survey.report, tunnel.here.addresses
    mtu = relay_mtu(tunnel, tunnel_mtu)
    return Facts(
        udp=report.udp if report is not None and offers_stun else None,
        stun=offers_stun,
        nat=has_nat(report, own) if report is not None else None,
        mapping=mapping_of(report, own).value if report is not None else "unknown",
        filtering=survey.nat_behavior.filtering.value,
        varies=report.mapping_varies_by_dest if report is not None else None,
        ports=tunnel.port_order.value,
        endpoints=len(tunnel.endpoints),
        home=derp_map.code(tunnel.home_region) if tunnel.home_region else "",
        relay=tunnel.is_relay_connected,
        websocket=_clause(next((info.why_websocket for info in home_relay(tunnel)), "")),
        blocked=peer is not None and peer.path_policy is PathPolicy.RELAY_ONLY,
        mtu=mtu[0] if mtu is not None else None,
        mtu_needed=mtu[1] if mtu is not None else None,
        carries_full=survey.nat_behavior.carries_full,
        narrow=peer is not None and tunnel.is_narrow(peer.node_key),
        server=survey.server_reachability.value,
    )


def home_relay(tunnel: Tunnel) -> tuple[RelayInfo, ...]:
    """Returns the link to the home relay, or an empty tuple if it is down."""
    return tuple(info for info in tunnel.relays if info.region_id == tunnel.home_region and info.is_connected)


def _clause(text: str) -> str:
    """Returns text from a remote end as peers accept it: printable, at most 256 characters."""
    return "".join(character for character in text if character.isprintable())[:256]


def relay_mtu(tunnel: Tunnel, tunnel_mtu: int) -> tuple[int, int] | None:
    """Returns the MTU of the route to a relay, and the MTU that a direct path of its family needs, in bytes.

    None where there is no route to any relay. The first is what the kernel knows.
    """
    for ip in sorted({ip for found in tunnel.resolved.values() for ip in found}):
        if (mtu := route_mtu(ip)) is not None:
            header = _IPV6_HEADER if is_ipv6((ip, 0)) else _IPV4_HEADER
            return mtu, tunnel_mtu + DATA_OVERHEAD + _UDP_HEADER + header
    return None


def route_mtu(ip: str) -> int | None:
    """Returns the kernel's MTU towards an address, in bytes; None without a route. Sends nothing."""
    is_six = is_ipv6((ip, 0))
    try:
        with socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((ip, _SOME_PORT))
            if is_six:
                return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
            return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
    except OSError:
        return None
