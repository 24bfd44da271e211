"""Pings and speed-tests one peer over one session, and emits each result to the caller."""

from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeAlias

import trio

from coderd.control.messages import (
    Message,
    PathBytes,
    PingParams,
    PingResult,
    Ready,
    SpeedtestParams,
    Waiting,
)
from coderd.control.messages import Pong as PongEvent
from coderd.daemon.session import Session
from coderd.daemon.status import via
from coderd.engine.io.answers import Pong
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import NodeKind, Peer
from coderd.model.paths import PathKind, Pin

Emit: TypeAlias = Callable[[Message], Awaitable[None]]
"""Function that sends the caller an event."""

DIRECT_GRACE = 2.0
"""Seconds that a speed test waits for a direct path before it takes the relayed one."""
DIRECT_TIMEOUT = 30.0
"""Seconds that ``--direct`` waits for a direct path."""
REACH_TIMEOUT = 6.0
"""Seconds without any pong after which a speed test takes a peer as unreachable."""
PING_TIMEOUT = 1.0
"""Seconds that one ping waits for its pong."""
REPORT_INTERVAL = 0.25
"""Seconds between two reports of a path's byte counters."""


async def ping(session: Session, peer: Peer, params: PingParams, emit: Emit) -> PingResult:
    """Pings a peer ``params.count`` times (0: without end), or until the first direct pong if so asked."""
    sent = received = 0
    direct_after: float | None = None
    started_at = next_at = trio.current_time()
    while (params.count == 0 or sent < params.count) and not (
        direct_after is not None and params.until_direct
    ):
        await trio.sleep_until(next_at)
        next_at = trio.current_time() + params.interval_s
        sent += 1
        pong = await session.tunnel.ping(peer.node_key, params.timeout_s)
        received += pong is not None
        news: float | None = None
        if direct_after is None and pong is not None and pong.path.kind is PathKind.DIRECT:
            direct_after = max(0.0, _direct_since(session, peer) - started_at)
            news = direct_after or None
        await emit(_pong_event(session, sent, pong, news))
    return PingResult(
        sent=sent, received=received, direct=direct_after is not None, direct_after_s=direct_after
    )


def _direct_since(session: Session, peer: Peer) -> float:
    """Returns when the path became direct, possibly long before a ping showed it; now, if it no longer is."""
    path = session.tunnel.path(peer.node_key)
    return path.since if path.kind is PathKind.DIRECT else trio.current_time()


def _pong_event(session: Session, seq: int, pong: Pong | None, direct_after: float | None) -> PongEvent:
    if pong is None:
        return PongEvent(seq=seq, timeout=True)
    return PongEvent(
        seq=seq,
        path=pong.path.kind,
        via=via(session, pong.path),
        latency_ms=pong.latency * 1000,
        direct_after_s=direct_after,
    )


async def speedtest(session: Session, peer: Peer, params: SpeedtestParams, emit: Emit) -> NoReturn:
    """Keeps the path to the requested kind and emits its byte counters until cancelled.

    The control socket's server cancels this when the caller disconnects.

    Raises:
        UserError: the peer is no workspace, does not answer, or is not reached directly where that is
            requested.
    """
    if peer.kind is not NodeKind.WORKSPACE:
        raise UserError(f"{peer.name} is not a workspace, and only workspaces serve the speed test")
    # A wait for the direct path is not pinned to it: only pongs by the relay tell it from no path at all.
    with session.tunnel.pinned(peer.node_key, Pin.RELAY if params.path is Pin.RELAY else Pin.ANY):
        pong = await _reach(session, peer, params.path, emit)
    with session.tunnel.pinned(peer.node_key, params.path):
        await emit(
            Ready(
                name=peer.name,
                address=str(peer.address),
                path=pong.path.kind,
                via=via(session, pong.path),
                latency_ms=pong.latency * 1000,
                secret=session.tunnel.secret_for(peer.node_key),
            )
        )
        while True:
            await emit(_path_bytes(session, peer))
            await trio.sleep(REPORT_INTERVAL)


def _path_bytes(session: Session, peer: Peer) -> PathBytes:
    path = session.tunnel.path(peer.node_key)
    return PathBytes(
        tx_direct_bytes=path.tx_direct,
        tx_relay_bytes=path.tx_relay,
        rx_direct_bytes=path.rx_direct,
        rx_relay_bytes=path.rx_relay,
    )


async def _reach(session: Session, peer: Peer, wish: Pin, emit: Emit) -> Pong:
    """Returns the first pong by the requested kind of path, or the last by any once the wait is over.

    Raises:
        UserError: the peer does not answer, or is not reached directly where that is requested.
    """
    started = trio.current_time()
    patience = {Pin.ANY: DIRECT_GRACE, Pin.RELAY: 0.0, Pin.DIRECT: DIRECT_TIMEOUT}[wish]
    last: Pong | None = None
    while True:
        pong = await session.tunnel.ping(peer.node_key, PING_TIMEOUT)
        last = pong or last
        waited = trio.current_time() - started
        if pong is not None and (wish is Pin.RELAY or pong.path.kind is PathKind.DIRECT):
            return pong
        if last is None:
            if waited >= max(REACH_TIMEOUT, patience):
                raise _unreachable(peer)
        elif waited >= patience:
            if wish is Pin.DIRECT:
                raise _only_relayed(peer)
            return last
        elif wish is Pin.DIRECT:
            await emit(_waiting(session, last))
        await trio.sleep(1.0 if wish is Pin.DIRECT else 0.1)


def _waiting(session: Session, pong: Pong) -> Waiting:
    return Waiting(path=pong.path.kind, via=via(session, pong.path), latency_ms=pong.latency * 1000)


def _only_relayed(peer: Peer) -> UserError:
    return UserError(
        f"no direct path to {peer.name} could be opened within {DIRECT_TIMEOUT:.0f} seconds",
        exit_code=Exit.ONLY_RELAYED,
        hint="run the test without --direct to measure the relayed path",
        code="only_relayed",
    )


def _unreachable(peer: Peer) -> UserError:
    if not peer.online:
        return offline(peer.name)
    return UserError(
        f"{peer.name} does not answer by any path",
        exit_code=Exit.NO_PATH,
        hint="see coderctl status for what this machine knows",
        code="no_path",
    )


def offline(name: str) -> UserError:
    """Returns the error for a peer that is not connected."""
    return UserError(
        f"{name} is offline",
        exit_code=Exit.NO_PATH,
        hint="start its daemon, then see coderctl status",
        code="offline",
    )
