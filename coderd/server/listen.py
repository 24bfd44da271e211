"""Listening sockets: one for both address families where the host has both."""

import errno
import socket

import trio

from coderd.model.addresses import AddrPort, canonical_ip, format_addr_port, is_ipv6
from coderd.model.errors import UserError

BACKLOG = 1024
"""Connections that the kernel queues until they are accepted."""
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def open_listener(address: AddrPort) -> trio.SocketListener:
    """Listens at an address. Raises UserError.

    ``::`` takes IPv4 too, and falls back to ``0.0.0.0`` on a host without IPv6.
    """
    try:
        return _listen(address)
    except OSError as error:
        if address[0] == "::" and error.errno in _NO_IPV6:
            return open_listener(("0.0.0.0", address[1]))
        raise _refusal(address, error) from None


def bound_address(listener: trio.SocketListener) -> AddrPort:
    """Returns the address that a listener is bound to, with the port that the kernel chose for port 0."""
    ip, port = listener.socket.getsockname()[:2]
    return (canonical_ip(ip), port)


def _listen(address: AddrPort) -> trio.SocketListener:
    family = socket.AF_INET6 if is_ipv6(address) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _refusal(address: AddrPort, error: OSError) -> UserError:
    match error.errno:
        case errno.EADDRINUSE:
            why, hint = "another program uses that port", "Stop it, or choose another --http-address."
        case errno.EACCES:
            why, hint = "ports below 1024 need root", "Choose another --http-address."
        case errno.EADDRNOTAVAIL:
            why, hint = "this machine has no such address", "Choose another --http-address."
        case _:
            why, hint = error.strerror or str(error), "Choose another --http-address."
    return UserError(
        f"the server cannot listen at {format_addr_port(address)}: {why}", hint=hint, code="http_address"
    )
