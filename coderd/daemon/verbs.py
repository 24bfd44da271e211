"""Methods of the control socket: what a local user may ask of this node.

The control socket's server has authorised the caller before a request gets here.
"""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from coderd.api.io.machine import enrol_device, remove_device
from coderd.config.url import check_secrecy, parse_server_url
from coderd.control.messages import (
    DebugParams,
    DebugResult,
    DerpMapInfo,
    DerpMapParams,
    DialParams,
    DialTarget,
    Done,
    DownParams,
    LogoutParams,
    Message,
    NetcheckParams,
    PingParams,
    Progress,
    SpeedtestParams,
    StatusParams,
    UpParams,
    UpResult,
    WhyParams,
)
from coderd.coordination.io.link_end import AWAITS_APPROVAL
from coderd.daemon.diagnosis.ask import absent, netcheck, why
from coderd.daemon.diagnosis.measure import Emit, offline, ping, speedtest
from coderd.daemon.diagnosis.relay_check import derp_map
from coderd.daemon.kind import check_token
from coderd.daemon.node import Node
from coderd.daemon.session import Session, SessionOver
from coderd.daemon.state import StateChanges
from coderd.daemon.status import node_status
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import NodeKind, Peer
from coderd.model.ports import NO_PORTS, PortSet, parse_ports

MAX_NAMED = 5
"""Workspaces of other owners that the error for an unknown name suggests, at most."""
JOIN_TIMEOUT = 30.0
"""Seconds that ``up`` waits for the session to join."""


LOOK_INTERVAL = 0.25
"""Seconds between two checks of whether the server waits for an approval."""


class Verbs:
    """Handler of the control socket's requests to one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def handle(self, method: str, params: Message, emit: Emit) -> Message:
        """Answers one request of the control socket.

        Args:
            method: the request's method, for the error where it is unknown.
            params: the decoded request, whose type decides.
            emit: sends the caller an event before the answer.

        Raises:
            UserError: the request cannot be answered; the message and its hint are for the caller.
        """
        match params:
            case StatusParams():
                return node_status(self._node)
            case PingParams():
                session, peer = self._find(params.peer)
                async with self._during(session):
                    return await ping(session, peer, params, emit)
            case NetcheckParams():
                session = self._session()
                async with self._during(session):
                    return await netcheck(session)
            case DerpMapParams():
                return await self._derp_map(params)
            case WhyParams():
                return await self._why(params)
            case SpeedtestParams():
                session, peer = self._find(params.peer)
                async with self._during(session):
                    await speedtest(session, peer, params, emit)
            case DialParams():
                return self._dial(params)
            case UpParams():
                return await self._up(params, emit)
            case DownParams():
                return await self._down()
            case LogoutParams():
                return await self._logout(emit)
            case DebugParams():
                return self._debug(params)
        raise UserError(f"the daemon knows no method {method}", code="unknown_method")

    async def _why(self, params: WhyParams) -> Message:
        session = self._session()
        async with self._during(session):
            if not session.find(params.peer) and session.is_absent(params.peer):
                return await absent(session, params.peer)
            _, peer = self._find(params.peer)
            return await why(session, peer)

    async def _derp_map(self, params: DerpMapParams) -> DerpMapInfo:
        session = self._session()
        async with self._during(session):
            return await derp_map(session, check=params.check)

    def _dial(self, params: DialParams) -> DialTarget:
        session, peer = self._find(params.peer)
        if peer.kind is not NodeKind.WORKSPACE:
            raise UserError(f"{peer.name} is not a workspace, and only workspaces open their services")
        secret = session.tunnel.secret_for(peer.node_key)
        return DialTarget(name=peer.name, address=str(peer.address), secret=secret)

    # Joining and leaving

    async def _up(self, params: UpParams, emit: Emit) -> UpResult:
        node = self._node
        if node.is_unattended:
            raise UserError(
                "this daemon joins with the token it was started with, so it cannot be signed in",
                hint="remove --token-file from its command line to use coderctl up",
                code="unattended",
            )
        ports = None if params.accept_inbound is None else read_ports(params.accept_inbound)
        if params.url is not None:
            accepted = str(
                ports if ports is not None else NO_PORTS
            )  # what another identity accepted does not carry over
            changes = await self._enrol(params, emit)
            changes["is_up"], changes["accept_inbound"] = True, accepted
            session = await node.change(**changes)
        elif not node.store.current.device_token:
            raise UserError(
                "this machine is not signed in",
                exit_code=Exit.REFUSED,
                hint="name the server: coderctl up https://SERVER:3000",
                code="logged_out",
            )
        else:  # an active session goes on
            if ports is not None:
                node.accept_inbound(ports)
            session = node.session or await node.change(is_up=True)
        await emit(Progress(text="Joining"))
        return await self._wait_joined(session)

    async def _enrol(self, params: UpParams, emit: Emit) -> StateChanges:
        """Enrols this machine as a device, and returns the changes of the state that make it the identity.

        The changes clear the resume token and the NetMap of an earlier identity.

        Raises:
            UserError: there is no token, the URL is unsuitable, or the server refuses.
        """
        if not params.token or params.url is None:
            raise UserError("a token is needed to sign in", exit_code=Exit.REFUSED, code="no_token")
        name = params.name or device_name(socket.gethostname())
        server = parse_server_url(params.url)
        check_secrecy(server)
        await emit(Progress(text=f"Signing in to {server}"))
        key = self._node.store.current.private_key().public()
        state = self._node.store.current
        own_token = state.device_token if parse_server_url(state.url or params.url) == server else ""
        device = await enrol_device(params.url, params.token, name=name, node_key=key, own_token=own_token)
        check_token(device.token, NodeKind.DEVICE)
        return {
            "url": params.url,
            "device_id": str(device.id),
            "device_token": device.token,
            "resume_token": "",
            "netmap": msgspec.Raw(b"null"),
        }

    async def _wait_joined(self, session: Session | None) -> UpResult:
        """Waits until the session has joined, for up to ``JOIN_TIMEOUT`` seconds.

        Raises:
            UserError: there is no session, it ends, it awaits approval, or the server does not answer in
                time.
        """
        if session is None:
            raise self._not_joined()
        with trio.move_on_after(JOIN_TIMEOUT):
            async with self._during(session):
                await self._settled(session)
        if session.server_state.reason == AWAITS_APPROVAL:
            raise UserError(AWAITS_APPROVAL, exit_code=Exit.REFUSED, code="awaits_approval")
        if session.netmap is None or not session.joined.is_set():
            raise UserError(
                f"the server has not answered within {JOIN_TIMEOUT:.0f} seconds",
                exit_code=Exit.UNREACHABLE,
                hint="check the address; the daemon keeps trying, see coderctl status",
                code="server_unreachable",
            )
        me = session.netmap.self_node
        return UpResult(name=me.name, address=str(me.address), url=session.identity.origin)

    async def _settled(self, session: Session) -> None:
        """Waits until the session has joined, or the server says that the device awaits approval."""
        while not session.joined.is_set() and session.server_state.reason != AWAITS_APPROVAL:
            with trio.move_on_after(LOOK_INTERVAL):
                await session.joined.wait()

    async def _down(self) -> Done:
        if self._node.is_unattended:
            raise UserError(
                "this daemon joins with the token it was started with",
                hint="stop the daemon itself: systemctl stop coderd",
                code="unattended",
            )
        await self._node.change(is_up=False)
        return Done()

    async def _logout(self, emit: Emit) -> Done:
        """Forgets the identity, then asks the server to remove the device.

        Forgetting comes first because an unreachable server must not keep the machine signed in; a server
        that does not remove the device is reported to the caller and is no error.

        Raises:
            UserError: this machine is not signed in.
        """
        if self._node.is_unattended or not self._node.store.current.device_token:
            raise UserError("this machine is not signed in", code="logged_out")
        known = await self._node.forget()
        await emit(Progress(text=f"Removing this device from {parse_server_url(known.url)}"))
        try:
            await remove_device(known.url, known.device_token, known.device_id)
        except UserError as error:
            await emit(Progress(text=f"The server keeps the device for now ({error.message})"))
        return Done()

    # Faults on purpose

    def _debug(self, params: DebugParams) -> DebugResult:
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

    # The session and the peer of a request

    def _session(self) -> Session:
        if self._node.session is None:
            raise self._not_joined()
        return self._node.session

    def _not_joined(self) -> UserError:
        """Returns the error that says why there is no session."""
        if self._node.error is not None:
            return self._node.error
        if self._node.store.current.device_token:
            return UserError(
                "this machine has left its network",
                exit_code=Exit.NO_PATH,
                hint="sudo coderctl up",
                code="down",
            )
        return UserError(
            "this machine is not signed in",
            exit_code=Exit.REFUSED,
            hint="sudo coderctl up https://SERVER:3000",
            code="logged_out",
        )

    @asynccontextmanager
    async def _during(self, session: Session) -> AsyncIterator[None]:
        """Runs the body of the ``with`` statement for as long as the session lives.

        Raises:
            UserError: the session has ended first; the message says why.
        """
        try:
            with session.lifetime():
                yield
            return
        except SessionOver:
            await self._node.settled()
        if self._node.session is None:
            raise self._not_joined()
        raise UserError("this machine has joined anew meanwhile", hint="Try again.", code="joined_anew")

    def _find(self, name: str) -> tuple[Session, Peer]:
        """Returns the session and its one peer with this name.

        Raises:
            UserError: there is no session, or not exactly one such peer.
        """
        session = self._session()
        found = session.find(name)
        if not found and session.is_absent(name):
            raise offline(name)
        if not found:
            raise _unknown(name, session.of_others(name))
        if len(found) > 1:
            raise UserError(f"the server names more than one {name}", exit_code=Exit.USAGE, code="ambiguous")
        return session, found[0]


def read_ports(text: str) -> PortSet:
    """Parses the ports of ``--accept-inbound``.

    Raises:
        UserError: the text names no ports.
    """
    try:
        return parse_ports(text)
    except ValueError as error:
        raise UserError(
            f"--accept-inbound: {error}",
            exit_code=Exit.USAGE,
            hint="name ports and ranges with commas between them, as 22,8000-8999; or say all, or none",
        ) from None


def _unknown(name: str, others: list[str]) -> UserError:
    """Returns the error for a name of no reachable workspace, with ``others`` as suggestions."""
    if not others:
        return UserError(
            f"there is no workspace {name} that this machine may reach",
            exit_code=Exit.NO_SUCH_WORKSPACE,
            hint="coderctl status lists those that it may",
            code="no_such_workspace",
        )
    more = f" or {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
    return UserError(
        f"you have no workspace {name}",
        exit_code=Exit.NO_SUCH_WORKSPACE,
        hint=f"name another's with its owner: {' or '.join(others[:MAX_NAMED])}{more}",
        code="no_such_workspace",
    )


def device_name(host_name: str) -> str:
    """Returns a host's name as a DNS label: ``Ann's_laptop.example.com`` becomes ``ann-s-laptop``.

    Has at most 63 characters (RFC 1035 §2.3.4); ``device`` where no letter or digit is left.
    """
    label = re.sub("[^a-z0-9]+", "-", host_name.partition(".")[0].lower())[:63].strip("-")
    return label or "device"
