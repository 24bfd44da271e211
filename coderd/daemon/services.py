"""What a workspace serves to its users inside the tunnel: the speed test on port 3, the node API on port 4, with terminals."""

import errno
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from ipaddress import IPv6Address

import trio

from coderd.control.messages import PathWish
from coderd.engine.io.node_api import FactsOf, ServeTerminal, serve_node_api
from coderd.metrics import Counters
from coderd.model.addresses import PORT_NODE_API, PORT_SPEEDTEST
from coderd.model.errors import UserError
from coderd.model.netmap import Peer
from coderd.speedtest.io.server import serve_speedtest
from coderd.terminal.account import Login
from coderd.terminal.io.service import TerminalService

_BACKLOG = 128


async def serve_peers(
    address: IPv6Address,
    interface: str,
    authorise: Callable[[str], Peer | None],
    pin: Callable[[Peer, PathWish], AbstractContextManager[None]],
    facts: FactsOf,
    login: Login | None,
    may_come: Callable[[str], bool],
    counters: Counters,
    *,
    task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until cancelled.

    Args:
        address: this node's tailnet address, already on the interface.
        interface: packets of any other are not taken, whatever their address.
        authorise: the user's device with a source address, None for anybody else.
        pin: keeps our sending to a peer to one kind of path meanwhile.
        facts: what a peer that asks is told of this node's network.
        login: where the shells of terminals come from; None: there are none.
        may_come: whether the peer with this id may still reach this node, be it connected or not.
        counters: ``speedtest.*``, ``node_api.*`` and ``terminal.*``.
        task_status: told the scope that ends the services, once peers can connect.

    Raises:
        UserError: a port cannot be listened at.
    """
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            speedtest = await _listen(address, PORT_SPEEDTEST, interface)
            nursery.start_soon(lambda: serve_speedtest([speedtest], authorise, pin, counters=counters))
            node_api = await _listen(address, PORT_NODE_API, interface)
            terminal = await _start_terminals(nursery, login, may_come, counters)
            serve = partial(serve_node_api, facts=facts, terminal=terminal, counters=counters)
            nursery.start_soon(serve, [node_api], authorise)
            task_status.started(scope)


async def _start_terminals(
    nursery: trio.Nursery,
    login: Login | None,
    may_come: Callable[[str], bool],
    counters: Counters,
) -> ServeTerminal | None:
    """Serves terminals where there is a login for them; a session is its device's, whatever that one's address."""
    if login is None:
        return None
    service = TerminalService(login, counters, may_come)
    await nursery.start(service.run)

    async def serve(stream: trio.SocketStream, rest: bytes, caller: object, grace: float) -> None:
        assert isinstance(caller, Peer)
        await service.serve(stream, rest, str(caller.node_id), grace)

    return serve


async def _listen(address: IPv6Address, port: int, interface: str) -> trio.SocketListener:
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
