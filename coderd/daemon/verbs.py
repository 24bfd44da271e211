"""The verbs of the control socket: what a person may ask of this node. Who may ask is decided before they get here."""

import re
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from coderd.api.io.client import enrol_device, remove_device
from coderd.control.messages import (
    DebugParams,
    DebugResult,
    DialParams,
    DialTarget,
    Done,
    DownParams,
    LogoutParams,
    Message,
    PathBytes,
    PathWish,
    PingParams,
    PingResult,
    Progress,
    Ready,
    SpeedtestParams,
    Status,
    StatusParams,
    UpParams,
    UpResult,
    Waiting,
)
from coderd.control.messages import Pong as PongEvent
from coderd.daemon.node import Node
from coderd.daemon.session import Session
from coderd.daemon.status import node_status, via
from coderd.daemon.tunnel import Pong
from coderd.magicsock import PathKind
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import NodeKind, Peer

Emit: TypeAlias = Callable[[Message], Awaitable[None]]

JOIN_TIMEOUT = 30.0
"""Seconds that ``up`` waits for the server's first word."""
DIRECT_GRACE = 2.0
"""Seconds that a speed test gives the path to become direct before it takes the relay."""
DIRECT_TIMEOUT = 30.0
"""Seconds that ``--direct`` waits for a direct path."""
REACH_TIMEOUT = 6.0
"""Seconds without any pong after which a peer counts as unreachable."""
PING_TIMEOUT = 1.0
REPORT_INTERVAL = 0.25


class Verbs:
    """Answers requests for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def handle(self, method: str, params: Message, emit: Emit) -> Message:
        """Answers one request. Raises UserError for whatever the caller should read."""
        match params:
            case StatusParams():
                return await self._status()
            case PingParams():
                return await self._ping(params, emit)
            case SpeedtestParams():
                return await self._speedtest(params, emit)
            case DialParams():
                return self._dial(params)
            case UpParams():
                return await self._up(params, emit)
            case DownParams():
                return await self._down()
            case LogoutParams():
                return await self._logout(emit)
            case DebugParams():
                return await self._debug(params)
            case _:
                raise UserError(f"the daemon knows no method {method}", code="unknown_method")

    async def _status(self) -> Status:
        return node_status(self._node)

    async def _ping(self, params: PingParams, emit: Emit) -> PingResult:
        session, peer = self._find(params.peer)
        sent = received = 0
        direct = False
        while (params.count == 0 or sent < params.count) and not (direct and params.until_direct):
            sent += 1
            started = trio.current_time()
            pong = await session.tunnel.ping(peer.node_key, params.timeout_s)
            received += pong is not None
            direct = direct or (pong is not None and pong.path.kind is PathKind.DIRECT)
            await emit(_pong_event(session, sent, pong))
            if sent != params.count and not (direct and params.until_direct):
                await trio.sleep_until(started + params.interval_s)
        return PingResult(sent=sent, received=received, direct=direct)

    async def _speedtest(self, params: SpeedtestParams, emit: Emit) -> Done:
        session, peer = self._find(params.peer)
        if peer.kind is not NodeKind.WORKSPACE:
            raise UserError(f"{peer.name} is no workspace, and only workspaces serve the speed test")
        # A wait for the direct path is not pinned to it: only pongs by the relay tell it from no path at all.
        with session.tunnel.pinned(peer.node_key, "relay" if params.path == "relay" else "any"):
            pong = await self._reach(session, peer, params.path, emit)
        with session.tunnel.pinned(peer.node_key, params.path):
            await emit(
                Ready(
                    name=peer.name,
                    address=str(peer.address),
                    path=pong.path.kind.value,
                    via=via(session, pong.path),
                    latency_ms=pong.latency * 1000,
                )
            )
            while True:
                path = session.tunnel.path(peer.node_key)
                await emit(
                    PathBytes(
                        tx_direct_bytes=path.tx_direct,
                        tx_relay_bytes=path.tx_relay,
                        rx_direct_bytes=path.rx_direct,
                        rx_relay_bytes=path.rx_relay,
                    )
                )
                await trio.sleep(REPORT_INTERVAL)

    async def _reach(self, session: Session, peer: Peer, wish: PathWish, emit: Emit) -> Pong:
        """Pings until the wished path answers, or the time for it is over."""
        started = trio.current_time()
        patience = {"any": DIRECT_GRACE, "relay": 0.0, "direct": DIRECT_TIMEOUT}[wish]
        last: Pong | None = None
        while True:
            pong = await session.tunnel.ping(peer.node_key, PING_TIMEOUT)
            last = pong or last
            waited = trio.current_time() - started
            if pong is not None and (wish == "relay" or pong.path.kind is PathKind.DIRECT):
                return pong
            if last is not None and wish != "direct" and waited >= patience:
                return last
            if last is None and waited >= max(REACH_TIMEOUT, patience):
                raise _unreachable(peer)
            if wish == "direct" and waited >= patience:
                raise UserError(
                    f"no direct path to {peer.name} could be opened within {DIRECT_TIMEOUT:.0f} seconds",
                    exit_code=Exit.ONLY_RELAYED,
                    hint="run the test without --direct to measure the relayed path",
                    code="only_relayed",
                )
            if wish == "direct" and last is not None:
                await emit(
                    Waiting(
                        path=last.path.kind.value, via=via(session, last.path), latency_ms=last.latency * 1000
                    )
                )
            await trio.sleep(1.0 if wish == "direct" else 0.1)

    def _dial(self, params: DialParams) -> DialTarget:
        _, peer = self._find(params.peer)
        if peer.kind is not NodeKind.WORKSPACE:
            raise UserError(f"{peer.name} is no workspace, and only workspaces open their services")
        return DialTarget(name=peer.name, address=str(peer.address))

    async def _up(self, params: UpParams, emit: Emit) -> UpResult:
        node = self._node
        if node.is_unattended:
            raise UserError(
                "this daemon joins with the token it was started with, so it cannot be signed in",
                hint="remove --token-file from its command line to use coderctl up",
                code="unattended",
            )
        if params.url is not None:
            await self._enrol(params, emit)
        elif not node.store.current.device_token:
            raise UserError(
                "this machine is not signed in",
                exit_code=Exit.REFUSED,
                hint="name the server: coderctl up http://SERVER:3000",
                code="logged_out",
            )
        node.store.update(is_up=True)
        session = await node.restart()
        await emit(Progress(text="Joining"))
        await self._wait_joined(session)
        assert session is not None
        assert session.netmap is not None
        me = session.netmap.self_node
        return UpResult(name=me.name, address=str(me.address), url=node.store.current.url)

    async def _enrol(self, params: UpParams, emit: Emit) -> None:
        if not params.token or params.url is None:
            raise UserError("a token is needed to sign in", exit_code=Exit.REFUSED, code="no_token")
        store = self._node.store
        name = params.name or device_name(socket.gethostname())
        await emit(Progress(text=f"Signing in to {params.url}"))
        key = store.current.private_key().public()
        device = await enrol_device(params.url, params.token, name=name, node_key=key)
        store.update(
            url=params.url,
            device_id=str(device.id),
            device_token=device.token,
            resume_token="",
        )

    async def _wait_joined(self, session: Session | None) -> None:
        """Waits for the first map, or for what ended the session."""
        with trio.move_on_after(JOIN_TIMEOUT):
            while session is not None and self._node.session is session and not session.joined.is_set():
                with trio.move_on_after(0.1):
                    await session.joined.wait()
            if session is not None and session.joined.is_set():
                return
            raise self._node.error or UserError("the daemon stopped joining", code="not_joined")
        raise UserError(
            f"the server has not answered within {JOIN_TIMEOUT:.0f} seconds",
            exit_code=Exit.UNREACHABLE,
            hint="check the address; the daemon keeps trying, see coderctl status",
            code="server_unreachable",
        )

    async def _down(self) -> Done:
        if self._node.is_unattended:
            raise UserError(
                "this daemon joins with the token it was started with",
                hint="stop the daemon itself: systemctl stop coderd",
                code="unattended",
            )
        self._node.store.update(is_up=False)
        await self._node.restart()
        return Done()

    async def _logout(self, emit: Emit) -> Done:
        node = self._node
        state = node.store.current
        if node.is_unattended or not state.device_token:
            raise UserError("this machine is not signed in", code="logged_out")
        await self._down()
        await emit(Progress(text=f"Removing this device from {state.url}"))
        try:
            await remove_device(state.url, state.device_token, state.device_id)
        except UserError as error:
            await emit(Progress(text=f"The server keeps the device for now: {error.message}"))
        node.forget()
        return Done()

    async def _debug(self, params: DebugParams) -> DebugResult:
        session = self._session()
        match params.action:
            case "rebind":
                session.tunnel.rebind()
                return DebugResult(text="forgot all trust in paths, pings and measures anew")
            case "netcheck":
                session.tunnel.check()
                return DebugResult(text="measures the network anew")
            case "break-relay":
                session.tunnel.break_relays()
                return DebugResult(text="broke all relay links")
            case "break-server":
                session.break_server()
                return DebugResult(text="broke the connection to the server")

    def _session(self) -> Session:
        if self._node.session is not None:
            return self._node.session
        if self._node.error is not None:
            raise self._node.error
        is_enrolled = bool(self._node.store.current.device_token)
        raise UserError(
            "this machine has left its network" if is_enrolled else "this machine is not signed in",
            exit_code=Exit.NO_PATH if is_enrolled else Exit.REFUSED,
            hint="sudo coderctl up" if is_enrolled else "sudo coderctl up http://SERVER:3000",
            code="down" if is_enrolled else "logged_out",
        )

    def _find(self, name: str) -> tuple[Session, Peer]:
        session = self._session()
        found = session.find(name)
        if not found and session.is_absent(name):
            raise _offline(name)
        if not found:
            raise UserError(
                f"there is no workspace {name} that this machine may reach",
                exit_code=Exit.NO_SUCH_WORKSPACE,
                hint="coderctl status lists those that it may",
                code="no_such_workspace",
            )
        if len(found) > 1:
            names = " or ".join(sorted(peer.name for peer in found))
            raise UserError(
                f"{name} may mean {names}",
                exit_code=Exit.USAGE,
                hint="name it with its owner",
                code="ambiguous",
            )
        return session, found[0]


def _offline(name: str) -> UserError:
    return UserError(
        f"{name} is offline",
        exit_code=Exit.NO_PATH,
        hint="start its daemon, then see coderctl status",
        code="offline",
    )


def device_name(host_name: str) -> str:
    """A host's name as a DNS label: ``Ann's_laptop.example.com`` becomes ``ann-s-laptop``."""
    label = re.sub("[^a-z0-9]+", "-", host_name.partition(".")[0].lower())[:63].strip("-")
    return label or "device"


def _pong_event(session: Session, seq: int, pong: Pong | None) -> PongEvent:
    if pong is None:
        return PongEvent(seq=seq, timeout=True)
    return PongEvent(
        seq=seq, path=pong.path.kind.value, via=via(session, pong.path), latency_ms=pong.latency * 1000
    )


def _unreachable(peer: Peer) -> UserError:
    if not peer.online:
        return _offline(peer.name)
    return UserError(
        f"{peer.name} does not answer by any path",
        exit_code=Exit.NO_PATH,
        hint="see coderctl status for what this machine knows",
        code="no_path",
    )
