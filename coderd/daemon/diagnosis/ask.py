"""Answers ``coderctl netcheck`` and ``coderctl why``: this node's network, and both ends' facts compared."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import trio

from coderd.control.messages import Netcheck, PeerPath, RegionDistance, Why
from coderd.daemon.diagnosis.causes import SERVER_FIX, explain
from coderd.daemon.diagnosis.measure import PING_TIMEOUT
from coderd.daemon.diagnosis.survey import Survey, has_stun, home_relay, relay_mtu
from coderd.daemon.session import Session
from coderd.daemon.status import via
from coderd.engine.io.answers import Pong
from coderd.http.dialer import proxy_for
from coderd.model.addresses import PORT_NODE_API, AddrPort, format_addr_port
from coderd.model.errors import Exit, MalformedPacket, UserError, sentence_of
from coderd.model.netmap import NodeKind, Peer
from coderd.model.paths import PathKind
from coderd.netcheck import Facts, Report, mapping_of
from coderd.netcheck.nat import has_nat
from coderd.netcheck.server_reachability import HIDES_MAPPINGS
from coderd.peerapi.io.client import ask_facts

CHECK_TIMEOUT = 12.0
"""Seconds for a netcheck; one that is already under way has to end first."""
WHY_TIMEOUT = 7.5
"""Seconds for all measurements of ``why`` together."""
DIRECT_PATIENCE = 2.0
"""Seconds that ``why`` waits for a direct path before it reports the relayed one."""
SKEW_WORTH_TELLING = 5.0
"""Seconds of difference between the clocks of this machine and the server from which on ``netcheck`` warns.
"""


async def netcheck(session: Session) -> Netcheck:
    """Measures all of this node's network now.

    Raises:
        UserError: the measurement gave no report, as where no relay is known yet.
    """
    survey = await session.survey(CHECK_TIMEOUT)
    if survey.report is None:
        raise UserError(
            "the network could not be measured: no relay is known yet",
            exit_code=Exit.TIMED_OUT,
            hint="see coderctl status for whether the server is connected",
            code="no_netcheck",
        )
    return _message(session, survey, survey.report)


def _message(session: Session, survey: Survey, report: Report) -> Netcheck:
    tunnel, nat_behavior = session.tunnel, survey.nat_behavior
    mtu, needed = relay_mtu(tunnel, session.mtu) or (None, None)
    proxy, proxy_problem = proxy_to(session.identity.url)
    return Netcheck(
        udp=report.udp,
        ipv4=report.ipv4,
        ipv6=report.ipv6,
        ipv4_can_send=report.ipv4_can_send,
        ipv6_can_send=report.ipv6_can_send,
        os_has_ipv6=tunnel.has_ipv6_socket,
        mapping_varies=report.mapping_varies_by_dest,
        preferred_derp=report.preferred_derp,
        region_latency=_nanoseconds(report.region_latency),
        region_v4_latency=_nanoseconds(report.region_v4_latency),
        region_v6_latency=_nanoseconds(report.region_v6_latency),
        global_v4=_text(report.global_v4),
        global_v6=_text(report.global_v6),
        global_v4_counters={_text(addr): n_seen for addr, n_seen in report.global_v4_counters.items()},
        global_v6_counters={_text(addr): n_seen for addr, n_seen in report.global_v6_counters.items()},
        nat=has_nat(report, tunnel.here.addresses),
        mapping=mapping_of(report, tunnel.here.addresses).value,
        filtering=nat_behavior.filtering.value,
        filters_by_port=nat_behavior.filters_by_port,
        hairpin=nat_behavior.hairpin,
        captive_portal=survey.is_captive,
        server=survey.server_reachability.value,
        proxy=proxy,
        mtu=mtu,
        mtu_needed=needed,
        carries_full=nat_behavior.carries_full,
        clock_skew_s=survey.clock_skew,
        regions=_regions(session, report),
        warnings=tuple(_warnings(session, survey, report, (mtu, needed), proxy_problem)),
    )


def _nanoseconds(latencies: Mapping[int, float]) -> dict[int, int]:
    return {region: round(seconds * 1e9) for region, seconds in latencies.items()}


def _text(addr: AddrPort | None) -> str:
    return format_addr_port(addr) if addr is not None else ""


def _regions(session: Session, report: Report) -> tuple[RegionDistance, ...]:
    regions = session.netmap.derp_map.regions.values() if session.netmap is not None else ()
    latency = report.region_latency
    return tuple(
        RegionDistance(
            id=region.region_id,
            code=region.code,
            name=region.name,
            latency_ms=latency[region.region_id] * 1000 if region.region_id in latency else None,
            preferred=region.region_id == report.preferred_derp,
            relay=any(not node.stun_only for node in region.nodes),
        )
        for region in sorted(
            regions, key=lambda region: (latency.get(region.region_id, float("inf")), region.region_id)
        )
    )


def _warnings(
    session: Session,
    survey: Survey,
    report: Report,
    mtu: tuple[int | None, int | None],
    proxy_problem: str,
) -> Iterator[str]:
    offers_stun = session.netmap is not None and has_stun(session.netmap.derp_map)
    if survey.is_captive:
        yield "Something else answers in place of the server: sign in to this network first, in a browser."
    if not offers_stun:
        yield "The server offers no STUN, so this machine cannot learn its public address."
    elif survey.server_reachability in HIDES_MAPPINGS:
        yield _server_warning(report)
    elif not report.udp:
        yield "No STUN server answers: UDP does not get through, and peers are reached by relay only."
    if not report.region_latency:
        yield "No relay answers."
    for relay in session.tunnel.relays:
        if relay.why_websocket:
            yield f'The relay "{relay.code}" is reached by WebSocket, because {relay.why_websocket}.'
    yield from _size_warnings(mtu, survey.nat_behavior.carries_full)
    skew = survey.clock_skew
    if skew is not None and abs(skew) >= SKEW_WORTH_TELLING:
        yield f"This machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's."
    if proxy_problem:
        yield sentence_of(proxy_problem)


def _server_warning(report: Report) -> str:
    if report.foreign_mappings:
        seen = next(iter(report.foreign_mappings.values()))
        return f"The server is behind a NAT that hides its clients' addresses: its STUN saw this machine as {seen[0]}. {SERVER_FIX}"
    return f"The server is behind a NAT or load balancer that lets no UDP through to it. {SERVER_FIX}"


def _size_warnings(mtu: tuple[int | None, int | None], carries_full: bool | None) -> Iterator[str]:
    if mtu[0] is not None and mtu[1] is not None and mtu[0] < mtu[1]:
        yield f"Packets out of this machine may have {mtu[0]} bytes, and a direct path needs {mtu[1]}."
    elif carries_full is False:
        yield f"Packets of {mtu[1]} bytes, which a direct path needs, vanish on the way to the server or back."


def proxy_to(url: str) -> tuple[str, str]:
    """Returns the proxy to the server without its credentials, and what is wrong with its setting.

    Either is empty where there is none.
    """
    parts = urlsplit(url)
    try:
        proxy = proxy_for(parts.hostname or "", is_tls=parts.scheme == "https")
    except OSError as error:
        return "", str(error)
    if proxy is None:
        return "", ""
    port = f":{proxy.port}" if proxy.port else ""
    return f"{proxy.scheme}://{proxy.hostname}{port}", ""


class _Look:
    """Results of the measurements that ``why`` makes concurrently."""

    def __init__(self) -> None:
        self.this = Facts()
        self.peer: Facts | None = None
        self.not_asked = "it did not answer in time"
        self.pong: Pong | None = None


async def why(session: Session, peer: Peer) -> Why:
    """Measures this end, asks the peer for its facts and pings it, concurrently; then explains the path."""
    look = _Look()
    with trio.move_on_after(WHY_TIMEOUT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_look_here, session, peer, look)
            nursery.start_soon(_look_there, session, peer, look)
            nursery.start_soon(_reach, session, peer, look)
    path = look.pong.path if look.pong is not None else None
    kind = path.kind if path is not None else PathKind.NONE
    return Why(
        name=peer.name,
        path=PeerPath(
            kind=kind,
            via=via(session, path) if path is not None else "",
            latency_ms=look.pong.latency * 1000 if look.pong is not None else None,
        ),
        causes=explain(peer.name, kind, look.this, look.peer, is_online=peer.online),
        this=look.this,
        peer=look.peer,
        not_asked="" if look.peer is not None else look.not_asked,
        notes=tuple(_notes(session)),
    )


def _notes(session: Session) -> Iterator[str]:
    for info in home_relay(session.tunnel):
        if info.why_websocket:
            yield f'This machine reaches relay "{info.code}" by WebSocket, because {info.why_websocket}.'
    proxy, problem = proxy_to(session.identity.url)
    if proxy or problem:
        yield (sentence_of(problem) if problem else f"The server is reached through the proxy {proxy}.")


async def absent(session: Session, name: str) -> Why:
    """Explains that a peer is not connected, with the facts of this end alone."""
    this = await session.facts()
    return Why(
        name=name,
        path=PeerPath(kind=PathKind.NONE),
        causes=explain(name, PathKind.NONE, this, None, is_online=False),
        this=this,
        not_asked="it is offline",
    )


async def _look_here(session: Session, peer: Peer, look: _Look) -> None:
    look.this = await session.facts(peer)


async def _look_there(session: Session, peer: Peer, look: _Look) -> None:
    if peer.kind is not NodeKind.WORKSPACE:
        look.not_asked = "it is a user's device, and devices answer no one"
        return
    try:
        secret = session.tunnel.secret_for(peer.node_key)
        look.peer = await ask_facts(str(peer.address), PORT_NODE_API, secret)
    except MalformedPacket:
        look.not_asked = "its daemon tells nothing of its network"
    except OSError as error:
        look.not_asked = f"it cannot be connected to ({error.strerror or error})"


async def _reach(session: Session, peer: Peer, look: _Look) -> None:
    """Pings until a direct path answers, or any path does after ``DIRECT_PATIENCE`` seconds."""
    started_at = trio.current_time()
    while True:
        look.pong = await session.tunnel.ping(peer.node_key, PING_TIMEOUT) or look.pong
        if look.pong is not None and (
            look.pong.path.kind is PathKind.DIRECT or trio.current_time() - started_at >= DIRECT_PATIENCE
        ):
            return
        await trio.sleep(0.1)
