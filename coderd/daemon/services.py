"""Services of a workspace inside the tunnel: speed test (port 3), node API with terminals (port 4)."""

import errno
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from ipaddress import IPv6Address
from uuid import UUID

import trio

from coderd.daemon.hosting import Hosting
from coderd.metrics import Counters
from coderd.model.account import Login
from coderd.model.addresses import PORT_NODE_API, PORT_SPEEDTEST
from coderd.model.errors import UserError
from coderd.model.netmap import Peer
from coderd.model.paths import Pin
from coderd.peerapi.io.node_api import NodeApi, ServeTerminal
from coderd.speedtest.io.server import serve_speedtest
from coderd.terminal.io.service import TerminalService

_BACKLOG = 128
"""Connections that may wait to be accepted at a port (listen(2))."""


class Services:
    """Services at one tailnet address, from ``run`` to ``end``.

    Args:
        address: this node's tailnet address, already on the interface.
        interface: the TUN device's name; packets from any other interface are not taken (SO_BINDTODEVICE).
        hosting: which peers are served.
        pin: keeps sending to a peer to one kind of path, as a context manager.
        login: how shells of terminals are started; None: there are no terminals.
        counters: receives ``speedtest.*``, ``node_api.*`` and ``terminal.*``.
    """

    def __init__(
        self,
        address: IPv6Address,
        interface: str,
        hosting: Hosting,
        pin: Callable[[Peer, Pin], AbstractContextManager[None]],
        login: Login | None,
        counters: Counters,
    ) -> None:
        self._address = address
        self._interface = interface
        self._hosting = hosting
        self._pin = pin
        self._counters = counters
        self._scope = trio.CancelScope()
        self._terminals = (
            TerminalService(login, counters, lambda owner: hosting.may_have_terminal(UUID(owner)))
            if login is not None
            else None
        )
        self._api = NodeApi(hosting, terminal=self._terminal(), counters=counters)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until ``end`` or until cancelled; reports that it has started once peers can connect.

        Raises:
            UserError: a port cannot be listened on.
        """
        with self._scope:
            async with trio.open_nursery() as nursery:
                speedtest = await _listen(self._address, PORT_SPEEDTEST, self._interface)
                nursery.start_soon(self._serve_speedtest, speedtest)
                node_api = await _listen(self._address, PORT_NODE_API, self._interface)
                if self._terminals is not None:
                    await nursery.start(self._terminals.run)
                nursery.start_soon(self._api.run, [node_api])
                task_status.started()

    def end(self) -> None:
        """Ends all services and their connections."""
        self._scope.cancel()

    def review(self) -> None:
        """Ends connections and shells that the newest NetMap no longer allows, attached or detached."""
        self._api.review()
        if self._terminals is not None:
            self._terminals.sweep()

    async def _serve_speedtest(self, listener: trio.SocketListener) -> None:
        await serve_speedtest(
            [listener],
            self._hosting.peer_at,
            self._pin,
            person=_person,
            proves=self._hosting.proves,
            counters=self._counters,
        )

    def _terminal(self) -> ServeTerminal | None:
        """Returns what serves a terminal's stream, or None without a login.

        A terminal's session belongs to the device's node ID, and therefore outlives a change of the device's
        address.
        """
        if (terminals := self._terminals) is None:
            return None

        async def serve(stream: trio.SocketStream, rest: bytes, caller: Peer, grace: float) -> None:
            await terminals.serve(
                stream,
                rest,
                str(caller.node_id),
                grace,
                person=caller.person,
                is_hosts=self._hosting.is_owned_by(caller),
            )

        return serve


def _person(peer: Peer) -> str:
    return peer.person


async def _listen(address: IPv6Address, port: int, interface: str) -> trio.SocketListener:
    """Returns a listener that takes connections from one interface only. Raises UserError."""
    sock = trio.socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        await sock.bind((str(address), port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, port, error) from None
    return trio.SocketListener(sock)


def _cannot_listen(address: IPv6Address, port: int, error: OSError) -> UserError:
    is_refused = error.errno in (errno.EPERM, errno.EACCES)
    return UserError(
        f"port {port} of {address} cannot be listened at: {error.strerror or error}",
        hint="Run as root, or grant CAP_NET_BIND_SERVICE as the systemd unit does." if is_refused else "",
        code="cannot_listen",
    )
