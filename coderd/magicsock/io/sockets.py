"""The UDP sockets, one per address family on the same port.

Batches out by UDP_SEGMENT, batches in by UDP_GRO.

Beside them there may be spare ones, for IPv4 alone, on any port: a NAT that gives each flow a port of its own
may open by one of them. They go by numbers, and what comes to them is told with theirs.

All carry WireGuard, disco and STUN, are never connected (a connected socket would report ICMP errors of one
peer as its own), stay bound to the wildcard whatever happens to interfaces, and never wait.
"""

import errno
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from coderd.metrics import Counters
from coderd.model.addresses import AddrPort, canonical_ip, is_ipv6
from coderd.model.transport import MAIN_SOCKET, LocalAddress, SocketId, UdpSource, UdpTransmit

DEFAULT_PORT = 41641
SOCKET_BUFFER_SIZE = 7 << 20

_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_PROBE = 3
"""Don't fragment, and do not believe ICMP's word on the path MTU: our own padded pings find it out."""
_PMTUDISC_DONT = 0
"""Fragment where need be, as the kernel's WireGuard does: nobody measures the path."""
_IP_PKTINFO = 8
_IP_RECVTOS = 13
_SO_RXQ_OVFL = 40
_SO_MARK = 36
_CE = 3
"""ECN bits of the service byte that say that a router on the path was congested (RFC 3168 §5)."""
_IPPROTO_IP, _IPPROTO_IPV6, _SOL_SOCKET = 0, 41, 1
_IP_TOS, _IPV6_TCLASS = 1, 67
"""Plain numbers all: an enum costs at every look."""
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SEGMENT = struct.Struct("=H")
_INT = struct.Struct("=i")
_IN_PKTINFO = struct.Struct("=i4s4s")
_IN6_PKTINFO = struct.Struct("=16sI")
_ANCILLARY_SIZE = 3 * socket.CMSG_SPACE(_INT.size) + socket.CMSG_SPACE(_IN6_PKTINFO.size)
_LOST = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
"""What recvmsg flags when data or the segment size did not fit.

A plain number, as an ``enum.Flag`` costs microseconds.
"""
_PORT_RETRIES = 100
_MAPPED_PREFIX = "::ffff:"

_GSO_REFUSED = frozenset({errno.EIO, errno.EINVAL})
"""The device or kernel cannot segment: send one by one from now on."""

log = structlog.get_logger()


class Message(NamedTuple):
    """One read: the sender as the kernel names it, its datagrams, and what came beside them."""

    sender: Any
    datagrams: list[memoryview]
    ancillary: list[tuple[int, int, bytes]]
    is_congested: bool


class UdpSockets:
    """Up to two bound, non-blocking sockets.

    Args:
        v4: the IPv4 socket, None where the host has no IPv4.
        v6: the IPv6 socket, likewise.
        counters: ``udp.*`` are counted here.
        gro: whether the sockets merge what they receive.
        df: whether datagrams are never fragmented on their way.
    """

    def __init__(
        self,
        v4: socket.socket | None,
        v6: socket.socket | None,
        counters: Counters,
        *,
        gro: bool = True,
        df: bool = True,
    ) -> None:
        self._v4 = v4
        self._v6 = v6
        self._counters = counters
        self._with_gso = {sock for sock in (v4, v6) if sock is not None and _knows_gso(sock)}
        self._marks = (0, 0)
        self._spare: dict[SocketId, socket.socket] = {}
        self._number_of: dict[socket.socket, SocketId] = {}
        self._gro, self._df = gro, df
        self._n_overflowed: dict[socket.socket, int] = {}
        """Datagrams for which a socket's buffer had no room, as last told."""
        for sock in self.sockets:
            _set_options(sock, gro=gro, df=df)

    @classmethod
    def open(
        cls,
        listen_port: int | None,
        counters: Counters | None = None,
        *,
        gro: bool = True,
        df: bool = True,
        is_strict: bool = False,
    ) -> "UdpSockets":
        """Binds both families to one port: the wished one if it is free, else any.

        Args:
            listen_port: the port to try first; 0 for any, None for 41641.
            counters: told what is sent and received.
            gro: whether to take whole batches from it.
            df: whether datagrams are never fragmented on their way.
            is_strict: whether the wished port is the only one that will do.

        Raises:
            OSError: neither family can be bound.
        """
        v4, v6 = _bind_pair(DEFAULT_PORT if listen_port is None else listen_port, is_strict=is_strict)
        return cls(v4, v6, counters if counters is not None else Counters(), gro=gro, df=df)

    def mark(self, marks: tuple[int, int]) -> None:
        """Has all that is sent over IPv4 and over IPv6 bear these marks, for routing's rules to see.

        0 is no mark.
        """
        self._marks = marks
        for sock in (*self.sockets, *self._spare.values()):
            self._apply_mark(sock)

    def _apply_mark(self, sock: socket.socket) -> None:
        """A wish too: without the privilege the rules are for everybody."""
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._marks[sock.family == socket.AF_INET6])

    def open_spare(self, number: SocketId) -> socket.socket | None:
        """Binds one more socket for IPv4, to be read like the usual ones; None where the host has none to give."""
        try:
            sock = _bind(socket.AF_INET, 0)
        except OSError as error:
            self._counters[f"udp.spare_refused.{_name(error.errno)}"] += 1
            return None
        if sock is None:
            return None
        _set_options(sock, gro=self._gro, df=self._df)
        self._apply_mark(sock)
        if self._v4 in self._with_gso:
            self._with_gso.add(sock)
        self._spare[number], self._number_of[sock] = sock, number
        return sock

    def spare(self, number: SocketId) -> socket.socket | None:
        """Returns a spare socket by its number; None if there is none."""
        return self._spare.get(number)

    def close_spare(self, number: SocketId) -> None:
        """Closes a spare socket; no task may wait on it any more."""
        if (sock := self._spare.pop(number, None)) is None:
            return
        del self._number_of[sock]
        self._with_gso.discard(sock)
        self._n_overflowed.pop(sock, None)
        sock.close()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The usual ones that are bound, to wait on and read from."""
        return tuple(sock for sock in (self._v4, self._v6) if sock is not None)

    @property
    def v4_port(self) -> int | None:
        """Returns the IPv4 socket's port; None without one."""
        return _port(self._v4)

    @property
    def v6_port(self) -> int | None:
        """Returns the IPv6 socket's port; None without one."""
        return _port(self._v6)

    def receive(
        self, sock: socket.socket, buffer: bytearray | memoryview
    ) -> tuple[UdpSource, list[memoryview], bool] | None:
        """Reads one batch into ``buffer`` (64 KiB).

        It is given as its sender, its datagrams as slices of the buffer, and its fate.

        Returns: None when there is nothing to read now. The slices are good until the buffer's next use.
            Last comes whether the network marked the batch as having met congestion. The sender at a spare
            socket comes with that one's number.
        """
        message = self.receive_message(sock, buffer)
        if message is None:
            return None
        source = UdpSource(addr_port(message.sender), self._number_of.get(sock, MAIN_SOCKET))
        return source, message.datagrams, message.is_congested

    def receive_message(self, sock: socket.socket, buffer: bytearray | memoryview) -> Message | None:
        """Reads one batch into ``buffer``, with the sender and the ancillary data as the kernel gives them; None if there is none now."""
        try:
            n_bytes, ancillary, flags, sender = sock.recvmsg_into([buffer], _ANCILLARY_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            self._counters[f"udp.receive_error.{_name(error.errno)}"] += 1
            return None
        self._counters["udp.recvmsg"] += 1
        size, is_congested, n_overflowed = _describe(ancillary, n_bytes)
        if n_overflowed:
            self._count_overflow(sock, n_overflowed)
        if size is None or flags & _LOST:
            self._counters["udp.drop.truncated"] += 1
            return Message(sender, [], ancillary, is_congested)
        view = memoryview(buffer)
        datagrams = [view[at : min(at + size, n_bytes)] for at in range(0, n_bytes, size)]
        self._counters["udp.received_datagrams"] += len(datagrams)
        return Message(sender, datagrams, ancillary, is_congested)

    def send_nowait(self, transmit: UdpTransmit) -> int:
        """Sends one batch by one ``sendmsg`` where the kernel can segment.

        Returns: 0 when the kernel took it, else the errno that says why not: EAGAIN for a full buffer,
            EAFNOSUPPORT for a family without a socket, EBADF for a spare one that is closed. What was not
            taken is the caller's to count as dropped.
        """
        if transmit.socket:
            sock = self._spare.get(transmit.socket)
            if sock is None:
                return errno.EBADF
        else:
            sock = self._v6 if is_ipv6(transmit.addr) else self._v4
        if sock is None:
            return errno.EAFNOSUPPORT
        datagrams = transmit.datagrams
        if len(datagrams) == 1:
            return self._send_one(sock, datagrams[0], transmit)
        if sock not in self._with_gso:
            return self._send_singly(sock, transmit)
        try:
            ancillary = [(_SOL_UDP, _UDP_SEGMENT, _SEGMENT.pack(transmit.segment_size))]
            if transmit.local is not None or transmit.tos:
                ancillary += _beside(transmit)
            sock.sendmsg(datagrams, ancillary, 0, _destination(transmit.addr))
        except OSError as error:
            return self._recover(sock, transmit, error.errno or errno.EIO)
        self._counters["udp.sendmsg"] += 1
        self._counters["udp.sent_datagrams"] += len(datagrams)
        return 0

    def close(self) -> None:
        """Closes the main sockets and all spare ones."""
        for number in list(self._spare):
            self.close_spare(number)
        for sock in self.sockets:
            sock.close()

    def _count_overflow(self, sock: socket.socket, n_overflowed: int) -> None:
        """The kernel counts for as long as the socket lives, in 32 bits, and tells only once there is something to tell."""
        n_new = (n_overflowed - self._n_overflowed.get(sock, 0)) & 0xFFFFFFFF
        if n_new:
            self._n_overflowed[sock] = n_overflowed
            self._counters["udp.drop.kernel"] += n_new

    def _recover(self, sock: socket.socket, transmit: UdpTransmit, error: int) -> int:
        """Nothing of a refused batch was sent. No segmentation there: never ask again.

        Too long: maybe only in one.
        """
        if error == errno.EINVAL and transmit.local is not None:
            return error  # more likely an address that is no longer ours
        if error in _GSO_REFUSED:
            self._with_gso.discard(sock)
            self._counters["udp.gso_refused"] += 1
            log.info(
                "the kernel cannot segment UDP on this path, sending datagrams one by one", errno=_name(error)
            )
        elif error != errno.EMSGSIZE:
            return error
        return self._send_singly(sock, transmit)

    def _send_singly(self, sock: socket.socket, transmit: UdpTransmit) -> int:
        for datagram in transmit.datagrams:
            if error := self._send_one(sock, datagram, transmit):
                return error
        return 0

    def _send_one(self, sock: socket.socket, datagram: bytes, transmit: UdpTransmit) -> int:
        try:
            if transmit.local is None and not transmit.tos:
                sock.sendto(datagram, _destination(transmit.addr))
            else:
                sock.sendmsg([datagram], _beside(transmit), 0, _destination(transmit.addr))
        except OSError as error:
            return error.errno or errno.EIO
        self._counters["udp.sendmsg"] += 1
        self._counters["udp.sent_datagrams"] += 1
        return 0


def addr_port(sender: Any) -> AddrPort:
    """Converts a sender as the kernel names it: canonical text already, a scope, if any, as a number."""
    ip: str = sender[0]
    if ip.startswith(_MAPPED_PREFIX):
        return (canonical_ip(ip), sender[1])
    if len(sender) == 4 and sender[3]:
        return (f"{ip.partition('%')[0]}%{sender[3]}", sender[1])
    return (ip, sender[1])


def local_address(ancillary: list[tuple[int, int, bytes]]) -> LocalAddress | None:
    """Returns which of our addresses a message was sent to, if the socket was told to ask (``ask_local_address``).

    An interface is named only where the address says nothing without it: routing may choose another tomorrow.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) == _IN_PKTINFO.size:
            return LocalAddress(_IN_PKTINFO.unpack(data)[1])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) == _IN6_PKTINFO.size:
            ip, interface = _IN6_PKTINFO.unpack(data)
            if ip[0] == 0xFF:
                return None
            is_link_local = ip[0] == 0xFE and ip[1] & 0xC0 == 0x80
            return LocalAddress(ip, interface if is_link_local else 0)
    return None


def ask_local_address(sock: socket.socket) -> None:
    """Has the kernel say with each message which of our addresses it was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _bind_pair(port: int, *, is_strict: bool) -> tuple[socket.socket | None, socket.socket | None]:
    """IPv4 first, then IPv6 on the same port; a port that one family lacks is given up for another."""
    refusal: OSError | None = None
    for attempt in range(1 if is_strict and port else _PORT_RETRIES):
        wished = port if attempt == 0 else 0
        try:
            v4 = _bind(socket.AF_INET, wished)
        except OSError as error:
            refusal = error
            continue
        try:
            return _pair(v4, _bind(socket.AF_INET6, _port(v4) or wished))
        except OSError as error:
            refusal = error
            if v4 is not None:
                v4.close()
    raise refusal or OSError(errno.EADDRINUSE, "no free UDP port")


def _pair(
    v4: socket.socket | None, v6: socket.socket | None
) -> tuple[socket.socket | None, socket.socket | None]:
    if v4 is None and v6 is None:
        raise OSError(errno.EAFNOSUPPORT, "neither IPv4 nor IPv6 is available")
    return v4, v6


def _bind(family: socket.AddressFamily, port: int) -> socket.socket | None:
    """A bound socket; None where the host lacks the family."""
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


def _set_options(sock: socket.socket, *, gro: bool, df: bool) -> None:
    """Each is a wish: without it things are slower, not wrong."""
    is_v6 = sock.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if is_v6 else socket.IPPROTO_IP
    mtu_option = _IPV6_MTU_DISCOVER if is_v6 else _IP_MTU_DISCOVER
    wishes = [
        (socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_SIZE),
        (socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_SIZE),
        (socket.SOL_SOCKET, _SO_RCVBUFFORCE, SOCKET_BUFFER_SIZE),
        (socket.SOL_SOCKET, _SO_SNDBUFFORCE, SOCKET_BUFFER_SIZE),
        (level, mtu_option, _PMTUDISC_PROBE if df else _PMTUDISC_DONT),
        (_SOL_UDP, _UDP_GRO, int(gro)),
        (level, socket.IPV6_RECVTCLASS if is_v6 else _IP_RECVTOS, 1),
        (socket.SOL_SOCKET, _SO_RXQ_OVFL, 1),
    ]
    for option in wishes:
        with suppress(OSError):
            sock.setsockopt(*option)


def _knows_gso(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(_SOL_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def _describe(ancillary: list[tuple[int, int, bytes]], n_bytes: int) -> tuple[int | None, bool, int]:
    """What the kernel says of a batch.

    Its datagrams' size, whether it met congestion, how many the buffer had no room for.

    Without its word on the size there is one datagram; None is for a word that is wrong.
    """
    size: int | None = max(n_bytes, 1)
    is_congested, n_overflowed = False, 0
    for level, kind, data in ancillary:
        if level == _SOL_UDP and kind == _UDP_GRO:
            said = _INT.unpack(data)[0] if len(data) == _INT.size else 0
            size = said if 0 < said <= n_bytes else None
        elif (level == _IPPROTO_IP and kind == _IP_TOS) or (level == _IPPROTO_IPV6 and kind == _IPV6_TCLASS):
            is_congested = int.from_bytes(data, sys.byteorder) & _CE == _CE
        elif level == _SOL_SOCKET and kind == _SO_RXQ_OVFL:
            n_overflowed = int.from_bytes(data, sys.byteorder)
    return size, is_congested, n_overflowed


def _destination(addr: AddrPort) -> tuple[str, int] | tuple[str, int, int, int]:
    """An address as ``sendmsg`` wants it: a scope has a place of its own, and is ignored within the text."""
    ip, percent, scope = addr[0].partition("%")
    return (ip, addr[1], 0, int(scope)) if percent and scope.isascii() and scope.isdigit() else addr


def _beside(transmit: UdpTransmit) -> list[tuple[int, int, bytes]]:
    """The ancillary messages for what a batch asks of its IP header."""
    beside = [_from(transmit.local)] if transmit.local is not None else []
    if transmit.tos:
        is_v6 = is_ipv6(transmit.addr)
        level, kind = (_IPPROTO_IPV6, _IPV6_TCLASS) if is_v6 else (_IPPROTO_IP, _IP_TOS)
        beside.append((level, kind, _INT.pack(transmit.tos)))
    return beside


def _from(local: LocalAddress) -> tuple[int, int, bytes]:
    """The ancillary message that chooses a source address."""
    if len(local.ip) == 4:
        return (socket.IPPROTO_IP, _IP_PKTINFO, _IN_PKTINFO.pack(local.interface, local.ip, bytes(4)))
    return (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(local.ip, local.interface))


def _port(sock: socket.socket | None) -> int | None:
    return int(sock.getsockname()[1]) if sock is not None else None


def _name(error: int | None) -> str:
    return errno.errorcode.get(error or 0, "other").lower()
