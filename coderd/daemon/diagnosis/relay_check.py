"""Probes from this machine whether every node of a relay map does what the map says.

Nodes are probed as they are used: STUN over IPv4 and IPv6; TCP, and TLS with the certificate checked by the
map's rules; a request to ``/derp/probe``; DERP, by HTTP upgrade or by WebSocket. DERP is opened with a random
key, because this node's own key would replace its connection to its home relay. A relay that proves its key
and then refuses the unknown client passes.
"""

import os
import socket
import ssl
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from coderd.control.messages import DerpMapInfo, RelayCheck
from coderd.daemon.session import Session
from coderd.derp.dial_plan import dial_plan
from coderd.derp.io.client import DerpLink
from coderd.derp.io.dial import dial_node
from coderd.derp.io.opening import NotAdmitted
from coderd.engine.io.relay_hosts import resolve_hosts
from coderd.http.dialer import read_response_head
from coderd.model.addresses import AddrPort, format_addr_port, is_ipv6
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.model.keys import NodePrivate
from coderd.netcheck.target import Family, Resolved, stun_target
from coderd.stun.io import stun_round_trip

AT_ONCE: Final = 16
"""Nodes that are probed at a time."""
TIMEOUT: Final = 20.0
"""Seconds for the probe of a whole map."""
CONNECT_TIMEOUT: Final = 4.0
"""Seconds for connecting to a node, TLS included."""
HTTP_TIMEOUT: Final = 4.0
"""Seconds for the answer to a request to ``PROBE_PATH``."""
PROBE_PATH: Final = "/derp/probe"
"""Path that a relay answers with a status of 2xx."""


async def derp_map(session: Session, *, check: bool) -> DerpMapInfo:
    """Returns a session's relay map, with the results of probing its nodes if ``check``.

    Raises:
        UserError: there is no map yet.
    """
    if session.netmap is None:
        raise UserError(
            "no relay map is known yet: the server has not answered",
            exit_code=Exit.UNREACHABLE,
            hint="see coderctl status for whether the server is connected",
            code="no_derp_map",
        )
    netmap = session.netmap
    return DerpMapInfo(
        map=derp_map_to_json(netmap.derp_map),
        home=session.tunnel.home_region,
        server_region=netmap.embedded_region if netmap.embedded_region in netmap.derp_map.regions else 0,
        checks=tuple(await check_relays(netmap.derp_map)) if check else None,
    )


async def check_relays(derp_map: DerpMap) -> list[RelayCheck]:
    """Probes every node of a map, within ``TIMEOUT`` seconds; returns the results by region ID."""
    resolved = await resolve_hosts(derp_map)
    regions = [derp_map.regions[region_id] for region_id in sorted(derp_map.regions)]
    probes = [
        _Probe(region, node, resolved, derp_map.force_websockets)
        for region in regions
        for node in region.nodes
    ]
    limiter = trio.CapacityLimiter(AT_ONCE)
    with trio.move_on_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            for probe in probes:
                nursery.start_soon(probe.run, limiter)
    return [probe.result() for probe in probes]


@dataclass
class _Probe:
    """Probe of one node of a relay map, with its results so far."""

    region: DerpRegion
    node: DerpNode
    resolved: Resolved
    forces_websocket: bool
    _times: dict[str, float] = field(default_factory=dict)
    _problems: list[str] = field(default_factory=list)
    _why_websocket: str = ""
    _is_done: bool = False

    def result(self) -> RelayCheck:
        """Returns the results so far; a probe that has not ended names that as a problem."""
        unfinished = () if self._is_done else ("it was not checked in time",)
        return RelayCheck(
            region=self.region.region_id,
            node=self.node.name,
            stun_v4_ms=self._times.get("stun_v4"),
            stun_v6_ms=self._times.get("stun_v6"),
            connect_ms=self._times.get("connect"),
            http_ms=self._times.get("http"),
            derp_ms=self._times.get("derp"),
            derp_by=self._derp_by(),
            why_websocket=self._why_websocket,
            problems=(*self._problems, *unfinished),
        )

    def _derp_by(self) -> Literal["", "upgrade", "websocket"]:
        if "derp" not in self._times:
            return ""
        return "websocket" if self._why_websocket else "upgrade"

    async def run(self, limiter: trio.CapacityLimiter) -> None:
        """Probes STUN and, unless the node is for STUN only, the relay."""
        async with limiter:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._check_stun)
                if not self.node.stun_only:
                    nursery.start_soon(self._check_relay)
            self._is_done = True

    # STUN

    async def _check_stun(self) -> None:
        if not 0 <= self.node.stun_port <= 65535:
            return
        targets = {family: stun_target(self.node, family, self.resolved) for family in Family}
        if not any(targets.values()):
            self._problems.append(f"STUN: {self.node.host_name} has no address here")
        for family, target in targets.items():
            if target is not None and can_reach(target):
                seconds = await stun_round_trip(target)
                if seconds is None:
                    self._problems.append(f"STUN: no answer from {format_addr_port(target)}")
                else:
                    self._times[f"stun_v{family.value}"] = seconds * 1000

    # The relay

    async def _check_relay(self) -> None:
        """Probes HTTP, then DERP if connecting succeeded, so that a failure is reported once."""
        if await self._check_http():
            await self._check_derp()

    async def _check_http(self) -> bool:
        plan = dial_plan(self.node)
        started_at = trio.current_time()
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                stream = await dial_node(plan)
        except (OSError, trio.TooSlowError) as error:
            self._problems.append(why_unreachable(error))
            return False
        self._times["connect"] = (trio.current_time() - started_at) * 1000
        try:
            with trio.fail_after(HTTP_TIMEOUT):
                self._times["http"] = await _ask_probe(stream, plan.host_header) * 1000
        except (OSError, trio.TooSlowError, trio.BrokenResourceError, MalformedPacket) as error:
            self._problems.append(f"HTTP: {_words(error)}")
        finally:
            await trio.aclose_forcefully(stream)
        return True

    async def _check_derp(self) -> None:
        started_at = trio.current_time()
        region = DerpRegion(self.region.region_id, self.region.code, self.region.name, (self.node,))
        try:
            link = await DerpLink.connect(
                region,
                NodePrivate.generate(os.urandom),
                is_home=False,
                rng=os.urandom,
                force_websocket=self.forces_websocket,
            )
        except NotAdmitted as stranger:
            self._why_websocket = stranger.why_websocket
        except OSError as error:
            self._problems.append(f"DERP: {_words(error)}")
            return
        else:
            self._why_websocket = link.why_websocket
            await link.aclose()
        self._times["derp"] = (trio.current_time() - started_at) * 1000


def can_reach(target: AddrPort) -> bool:
    """Returns whether this machine has a route to an address; sends nothing.

    Without a route, the silence of the other end is no sign of its failure.
    """
    family = socket.AF_INET6 if is_ipv6(target) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(target)  # sends nothing
    except OSError:
        return False
    return True


async def _ask_probe(stream: trio.abc.Stream, host_header: str) -> float:
    """Returns the seconds from a request to ``PROBE_PATH`` to the head of its answer.

    Raises:
        OSError: the answer's status is not 2xx, or the connection fails.
        MalformedPacket: the answer is not HTTP.
        trio.BrokenResourceError: the connection breaks.
    """
    request = (
        f"GET {PROBE_PATH} HTTP/1.1\r\nHost: {host_header}\r\nUser-Agent: coderd\r\nConnection: close\r\n\r\n"
    )
    asked_at = trio.current_time()
    await stream.send_all(request.encode("latin-1", errors="replace"))
    answer, _ = await read_response_head(stream)
    if not 200 <= answer.status <= 299:
        raise OSError(f"{PROBE_PATH} is answered {answer.status}, so that this may be no relay")
    return trio.current_time() - asked_at


def why_unreachable(error: Exception) -> str:
    """Returns one clause about why connecting to a relay failed: its certificate, TLS or TCP."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: its certificate is not accepted: {getattr(error, 'verify_message', '') or error}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return f"TCP: {_words(error)}"


def _words(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) and error.__cause__ else error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
