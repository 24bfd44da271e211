"""UDP sockets opened, bound and given their options, as ``UdpSockets`` wants them."""

import errno
import socket
from contextlib import suppress

from coderd.magicsock.io.ancillary import IP_RECVTOS, SO_RXQ_OVFL, SOL_UDP, UDP_GRO, UDP_SEGMENT

SOCKET_BUFFER_SIZE = 7 << 20
"""Bytes that a socket may hold each way (Tailscale's ``socketBufferSize``)."""

_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_PROBE = 3
"""Don't fragment, and do not believe ICMP's word on the path MTU: our own padded pings find it out."""
_PMTUDISC_DONT = 0
"""Fragment where need be, as the kernel's WireGuard does: the path's MTU is not probed."""
_PORT_RETRIES = 100


def bind_pair(port: int, *, is_strict: bool) -> tuple[socket.socket | None, socket.socket | None]:
    """Binds IPv4, then IPv6 on the same port; a port that one family lacks is given up for another.

    Args:
        port: to try first; 0 for any.
        is_strict: whether no other port will do.

    Raises:
        OSError: neither family can be bound.
    """
    refusal: OSError | None = None
    for attempt in range(1 if is_strict and port else _PORT_RETRIES):
        wished = port if attempt == 0 else 0
        try:
            v4 = bind(socket.AF_INET, wished)
        except OSError as error:
            refusal = error
            continue
        try:
            return _pair(v4, bind(socket.AF_INET6, port_of(v4) or wished))
        except OSError as error:
            refusal = error
            if v4 is not None:
                v4.close()
    raise refusal or OSError(errno.EADDRINUSE, "no free UDP port")


def bind(family: socket.AddressFamily, port: int) -> socket.socket | None:
    """Returns a bound, non-blocking socket; None where the host lacks the family."""
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", port))
    except OSError as error:
        sock.close()
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        raise
    return sock


def set_options(sock: socket.socket, *, gro: bool, df: bool) -> None:
    """Sets what the kernel grants of the options: without one things are slower, not wrong.

    Args:
        sock: to set them on.
        gro: whether it merges what it receives.
        df: whether its datagrams are never fragmented.
    """
    is_v6 = sock.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if is_v6 else socket.IPPROTO_IP
    mtu_option = _IPV6_MTU_DISCOVER if is_v6 else _IP_MTU_DISCOVER
    wishes = [
        (socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_SIZE),
        (socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_SIZE),
        (socket.SOL_SOCKET, _SO_RCVBUFFORCE, SOCKET_BUFFER_SIZE),
        (socket.SOL_SOCKET, _SO_SNDBUFFORCE, SOCKET_BUFFER_SIZE),
        (level, mtu_option, _PMTUDISC_PROBE if df else _PMTUDISC_DONT),
        (SOL_UDP, UDP_GRO, int(gro)),
        (level, socket.IPV6_RECVTCLASS if is_v6 else IP_RECVTOS, 1),
        (socket.SOL_SOCKET, SO_RXQ_OVFL, 1),
    ]
    for option in wishes:
        with suppress(OSError):
            sock.setsockopt(*option)


def knows_gso(sock: socket.socket) -> bool:
    """Returns whether the kernel can cut one send into datagrams (UDP_SEGMENT)."""
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True


def port_of(sock: socket.socket | None) -> int | None:
    """Returns a socket's bound port; None without a socket."""
    return int(sock.getsockname()[1]) if sock is not None else None


def _pair(
    v4: socket.socket | None, v6: socket.socket | None
) -> tuple[socket.socket | None, socket.socket | None]:
    if v4 is None and v6 is None:
        raise OSError(errno.EAFNOSUPPORT, "neither IPv4 nor IPv6 is available")
    return v4, v6
