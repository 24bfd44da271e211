"""When the first byte gets through the tunnel.

Full datagrams from the user's host, echoed on dev's, one every few ms.
"""

import select
import socket
import struct
import threading
import time
from typing import Self

from lab.nodes import Node

PORT = 9
INTERVAL = 0.003
"""Seconds between two, and so how much later than possible the first may be."""
UNHURRIED = 0.1
"""The same once there was an answer: enough to keep a path in use."""
SIZE = 1200
"""Bytes of a datagram: with IPv6 and UDP nearly the 1280 that the tunnel carries."""

SENT_AT = struct.Struct("<d")


class Probe:
    """Sends and echoes while its ``with`` lasts, from before there is a tunnel until well after.

    Args:
        sender: the node that asks.
        echo: the node that answers.
        address: its tailnet address.
    """

    def __init__(self, sender: Node, echo: Node, address: str) -> None:
        self._goal = (address, PORT)
        self._sender = _socket(sender, 0)
        self._echo = _socket(echo, PORT)
        self._is_over = False
        self._since = 0.0
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self.first_at: float | None = None
        """When the first answer came, as `time.time` gives it."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        self._sender.close()
        self._echo.close()

    def start_anew(self) -> None:
        """Wait once more for a first answer: to what is sent from now on."""
        self._since = time.time()
        self.first_at = None

    def _go_on(self) -> None:
        due = time.monotonic()
        while not self._is_over:
            ready, _, _ = select.select([self._sender, self._echo], [], [], max(0.0, due - time.monotonic()))
            if self._echo in ready:
                _answer(self._echo)
            if self._sender in ready:
                self._note()
            if time.monotonic() >= due:
                _send(self._sender, SENT_AT.pack(time.time()).ljust(SIZE, b"\0"), self._goal)
                due = time.monotonic() + (INTERVAL if self.first_at is None else UNHURRIED)

    def _note(self) -> None:
        now = time.time()
        (sent_at,) = SENT_AT.unpack_from(self._sender.recv(SIZE))
        if self.first_at is None and sent_at > self._since:
            self.first_at = now


def _socket(node: Node, port: int) -> socket.socket:
    with node.host.network():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("::", port))
    return sock


def _answer(sock: socket.socket) -> None:
    data, source = sock.recvfrom(SIZE)
    _send(sock, data, source)


def _send(sock: socket.socket, data: bytes, goal: tuple[str, int]) -> None:
    try:
        sock.sendto(data, goal)
    except OSError:  # no address, no route yet, or no room: the next one may go
        return
