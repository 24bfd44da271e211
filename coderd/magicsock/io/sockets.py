"""The UDP sockets, one per address family on one port. Batches leave by UDP_SEGMENT, and arrive by UDP_GRO.

Beside them there may be spare ones, for IPv4 alone, on any port: a NAT that gives each flow a port of its own
may open by one of them. They go by numbers, and what comes to them is reported with theirs.

All carry WireGuard, disco and STUN, are never connected (a connected socket would report ICMP errors of one
peer as its own), stay bound to the wildcard whatever happens to interfaces, and never wait.
"""

import errno
import socket
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from coderd.magicsock.io.ancillary import (
    ANCILLARY_SIZE,
    SEGMENT,
    SOL_UDP,
    UDP_SEGMENT,
    addr_port,
    beside,
    describe,
    destination,
)
from coderd.magicsock.io.binding import bind, bind_pair, knows_gso, port_of, set_options
from coderd.metrics import Counters
from coderd.model.addresses import is_ipv6
from coderd.model.transport import MAIN_SOCKET, SocketId, UdpSource, UdpTransmit

DEFAULT_PORT = 41641

_LOST = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
"""What recvmsg flags when data or the segment size did not fit.

A plain number, as an ``enum.Flag`` costs microseconds.
"""
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
        v6: the IPv6 socket, None where the host has no IPv6.
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
        self._with_gso = {sock for sock in (v4, v6) if sock is not None and knows_gso(sock)}
        self._marks = (0, 0)
        self._spare: dict[SocketId, socket.socket] = {}
        self._number_of: dict[socket.socket, SocketId] = {}
        self._gro, self._df = gro, df
        self._n_overflowed: dict[socket.socket, int] = {}
        """Datagrams for which a socket's buffer had no room, as last told."""
        for sock in self.sockets:
            set_options(sock, gro=gro, df=df)

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
            counters: count what is sent and received.
            gro: whether to take whole batches from it.
            df: whether datagrams are never fragmented on their way.
            is_strict: whether the wished port is the only one that will do.

        Raises:
            OSError: neither family can be bound.
        """
        v4, v6 = bind_pair(DEFAULT_PORT if listen_port is None else listen_port, is_strict=is_strict)
        return cls(v4, v6, counters if counters is not None else Counters(), gro=gro, df=df)

    def mark(self, marks: tuple[int, int]) -> None:
        """Has all that is sent over IPv4 and over IPv6 bear these marks, for routing's rules to see.

        0 is no mark.
        """
        self._marks = marks
        for sock in (*self.sockets, *self._spare.values()):
            self._apply_mark(sock)

    def _apply_mark(self, sock: socket.socket) -> None:
        """Sets the family's mark; without the privilege for it, default routing applies."""
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._marks[sock.family == socket.AF_INET6])

    def open_spare(self, number: SocketId) -> socket.socket | None:
        """Binds one more socket for IPv4, read like the main ones; None if the host has none to give."""
        try:
            sock = bind(socket.AF_INET, 0)
        except OSError as error:
            self._counters[f"udp.spare_refused.{_name(error.errno)}"] += 1
            return None
        if sock is None:
            return None
        set_options(sock, gro=self._gro, df=self._df)
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
        """Returns the main sockets that are bound, to wait on and read from."""
        return tuple(sock for sock in (self._v4, self._v6) if sock is not None)

    @property
    def v4_port(self) -> int | None:
        """Returns the IPv4 socket's port; None without one."""
        return port_of(self._v4)

    @property
    def v6_port(self) -> int | None:
        """Returns the IPv6 socket's port; None without one."""
        return port_of(self._v6)

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
        """Reads one batch into ``buffer``. Returns sender and ancillary data; None if there is none."""
        try:
            n_bytes, ancillary, flags, sender = sock.recvmsg_into([buffer], ANCILLARY_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            self._counters[f"udp.receive_error.{_name(error.errno)}"] += 1
            return None
        self._counters["udp.recvmsg"] += 1
        size, is_congested, n_overflowed = describe(ancillary, n_bytes)
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
            ancillary = [(SOL_UDP, UDP_SEGMENT, SEGMENT.pack(transmit.segment_size))]
            if transmit.local is not None or transmit.tos:
                ancillary += beside(transmit)
            sock.sendmsg(datagrams, ancillary, 0, destination(transmit.addr))
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
        """Counts what is new: the kernel counts for as long as the socket lives, in 32 bits."""
        n_new = (n_overflowed - self._n_overflowed.get(sock, 0)) & 0xFFFFFFFF
        if n_new:
            self._n_overflowed[sock] = n_overflowed
            self._counters["udp.drop.kernel"] += n_new

    def _recover(self, sock: socket.socket, transmit: UdpTransmit, error: int) -> int:
        """Sends a refused batch one by one, if that may help: nothing of it was sent.

        Where there is no segmentation, it is not asked for again; what is too long may be so only in one
        piece.
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
                sock.sendto(datagram, destination(transmit.addr))
            else:
                sock.sendmsg([datagram], beside(transmit), 0, destination(transmit.addr))
        except OSError as error:
            return error.errno or errno.EIO
        self._counters["udp.sendmsg"] += 1
        self._counters["udp.sent_datagrams"] += 1
        return 0


def _name(error: int | None) -> str:
    return errno.errorcode.get(error or 0, "other").lower()
