"""The UDP sockets of a plain WireGuard.

Open while its interface is up, with a port and a mark that change under way.

New sockets are bound before the old ones are given up, so that a port that is taken costs nothing but an
error message. They fragment where need be, as the kernel's WireGuard does, and tell which of our addresses
each batch was sent to.
"""

import errno
import socket
from collections.abc import Callable

from coderd.magicsock.io.ancillary import addr_port, ask_local_address, local_address
from coderd.magicsock.io.sockets import UdpSockets
from coderd.metrics import Counters
from coderd.model.transport import LocalAddress, UdpSource, UdpTransmit

_SO_MARK = 36
_NOT_FROM_THERE = frozenset({errno.EINVAL, errno.ENETUNREACH, errno.ENODEV, errno.EADDRNOTAVAIL})
"""What the kernel says of a source address that is not ours any more."""


class PlainSockets:
    """Up to two sockets on one port.

    Args:
        counters: told what is sent and received.
        on_rebound: called when the sockets have been replaced, before the old ones are closed.
        on_stale: told an address of ours that cannot be sent from any more.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        on_rebound: Callable[[], None],
        on_stale: Callable[[LocalAddress], None],
    ) -> None:
        self.port = 0
        """What was asked for, or chosen; 0 while neither."""
        self.fwmark = 0
        self._counters = counters
        self._on_rebound = on_rebound
        self._on_stale = on_stale
        self._udp = UdpSockets(None, None, counters)
        self._is_open = False
        self._is_chosen = True

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The open sockets, to wait on and read from."""
        return self._udp.sockets

    # Commands

    def open(self) -> None:
        """Binds, unless bound. Raises OSError."""
        if not self._is_open:
            udp = self._bind(self.port, self.fwmark)
            self._is_open = True
            self._replace(udp)
            self.port = _port(udp)

    def close(self) -> None:
        """Receives and sends nothing until opened again; port and mark stay."""
        self._is_open = False
        self._replace(UdpSockets(None, None, self._counters))

    def configure(self, port: int | None, fwmark: int | None) -> None:
        """Changes port (0 for any) and mark (0 for none); None leaves one as it is.

        A port is tried also while closed, so that who asks for one that is taken learns it at once.

        Raises: OSError, and nothing has changed.
        """
        fwmark = self.fwmark if fwmark is None else fwmark
        if port is None or port == self.port or (port == 0 and self._is_chosen):
            self._mark(fwmark)
        else:
            udp = self._bind(port, fwmark)
            self._is_chosen = port == 0
            self.port = _port(udp) if self._is_open else port
            if self._is_open:
                self._replace(udp)
            else:
                udp.close()
        self.fwmark = fwmark

    # Datagrams

    def receive(
        self, sock: socket.socket, buffer: bytearray | memoryview
    ) -> tuple[UdpSource, list[memoryview], bool] | None:
        """Reads one batch into ``buffer`` (64 KiB), and whether it met congestion.

        Returns None when there is nothing to read.
        """
        message = self._udp.receive_message(sock, buffer)
        if message is None:
            return None
        source = UdpSource(addr_port(message.sender), local=local_address(message.ancillary))
        return source, message.datagrams, message.is_congested

    def send_nowait(self, transmit: UdpTransmit) -> int:
        """Sends one batch; where its source address is not ours any more, from any.

        Returns an errno, 0 for success.
        """
        error = self._udp.send_nowait(transmit)
        if error in _NOT_FROM_THERE and transmit.local is not None:
            self._on_stale(transmit.local)
            error = self._udp.send_nowait(transmit._replace(local=None))
        return error

    def _bind(self, port: int, fwmark: int) -> UdpSockets:
        udp = UdpSockets.open(port, self._counters, df=False, is_strict=True)
        try:
            for sock in udp.sockets:
                ask_local_address(sock)
                if fwmark:
                    sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, fwmark)
        except OSError:
            udp.close()
            raise
        return udp

    def _mark(self, fwmark: int) -> None:
        """Marks the sockets as they are: both or none."""
        marked: list[socket.socket] = []
        try:
            for sock in self.sockets:
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, fwmark)
                marked.append(sock)
        except OSError:
            for sock in marked:
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self.fwmark)
            raise

    def _replace(self, udp: UdpSockets) -> None:
        old, self._udp = self._udp, udp
        self._on_rebound()
        old.close()


def _port(udp: UdpSockets) -> int:
    return udp.v4_port or udp.v6_port or 0
