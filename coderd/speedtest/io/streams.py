"""Moves a test's bytes over a connected TCP socket, as fast as one process can. Blocking; never hangs.

The sender counts what the peer's kernel has acknowledged, not what its own has swallowed, so that an upload's
figures are as honest as a download's.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import TypeAlias

BLOCK_SIZE = 1 << 19
"""Random bytes, so that nothing on the way can compress them."""
READ_SIZE = 1 << 20
MAX_WAIT = 0.05
"""Seconds between two looks at the clock while nothing moves."""
STALL_TIMEOUT = 10.0
"""Seconds without a byte after which the test has failed."""
DRAIN_TIMEOUT = 2.0
"""Seconds that the last bytes under way get after the sender has stopped."""
NOTSENT_LOWAT = 1 << 18
"""Bytes that may wait unsent in the kernel: more would only make the end of the test late."""

_BYTES_ACKED_OFFSET = 120
"""``tcpi_bytes_acked`` in ``struct tcp_info`` (linux/tcp.h), 64 bits."""
_U64 = struct.Struct("=Q")

Progress: TypeAlias = Callable[[int, float], None]
"""Told of bytes that have moved since the last call (may be 0), and of the time by ``time.monotonic``."""


class StreamBroken(Exception):
    """The other end went away, or nothing moved for too long. Its text says which."""


def receive(sock: socket.socket, *, limit: float, progress: Progress) -> None:
    """Reads until the sender closes.

    Args:
        sock: connected.
        limit: seconds after which a sender that does not stop is cut off.
        progress: called at every read, and at least every 50 ms.

    Raises:
        StreamBroken: the connection was reset, stalled or did not end in time.
    """
    sock.setblocking(False)
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    buffer = bytearray(READ_SIZE)
    started = moved_at = time.monotonic()
    while True:
        poller.poll(MAX_WAIT * 1000)
        n_read = _read(sock, buffer)
        now = time.monotonic()
        if n_read == 0:
            return
        moved_at = now if n_read is not None else moved_at
        progress(n_read or 0, now)
        if now - moved_at > STALL_TIMEOUT:
            raise StreamBroken(f"nothing came for {STALL_TIMEOUT:g} seconds")
        if now - started > limit:
            raise StreamBroken("the sender did not stop in time")


def _read(sock: socket.socket, buffer: bytearray) -> int | None:
    """Bytes read, 0 at the end, None where there is nothing now."""
    try:
        return sock.recv_into(buffer)
    except BlockingIOError:
        return None
    except OSError as error:
        raise StreamBroken(error.strerror or "the connection broke") from None


def send(sock: socket.socket, *, duration: float, progress: Progress) -> None:
    """Sends random bytes for a time, closes its direction, and waits shortly for the receiver to have them.

    Raises:
        StreamBroken: the connection was reset, stalled, or the receiver left before the time was over.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
    sender = _Sender(sock, progress)
    sender.run(duration)
    sender.drain()


class _Sender:
    """One direction of one test."""

    def __init__(self, sock: socket.socket, progress: Progress) -> None:
        self._socket = sock
        self._progress = progress
        self._poller = select.poll()
        self._block = memoryview(os.urandom(BLOCK_SIZE))
        self._n_acked = acked_bytes(sock)
        self._n_written = self._n_acked
        self._moved_at = time.monotonic()

    def run(self, duration: float) -> None:
        self._poller.register(self._socket, select.POLLIN | select.POLLOUT)
        deadline = time.monotonic() + duration
        while (now := time.monotonic()) < deadline:
            self._poller.poll(min(MAX_WAIT, deadline - now) * 1000)
            if self._has_left():
                raise StreamBroken("the receiver ended the test")
            self._write()
            self._look()

    def drain(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise StreamBroken(error.strerror or "the connection broke") from None
        self._poller.modify(self._socket, select.POLLIN)
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while time.monotonic() < deadline and not self._has_left():
            self._poller.poll(MAX_WAIT * 1000)
            self._look()
        self._look()

    def _write(self) -> None:
        try:
            self._n_written += self._socket.send(self._block)
        except BlockingIOError:
            return
        except OSError as error:
            raise StreamBroken(error.strerror or "the connection broke") from None

    def _has_left(self) -> bool:
        try:
            return self._socket.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError as error:
            raise StreamBroken(error.strerror or "the connection broke") from None

    def _look(self) -> None:
        n_acked, now = (
            min(acked_bytes(self._socket), self._n_written),
            time.monotonic(),
        )  # the FIN counts as one
        if n_acked > self._n_acked:
            self._moved_at = now
        elif now - self._moved_at > STALL_TIMEOUT:
            raise StreamBroken(f"nothing was received for {STALL_TIMEOUT:g} seconds")
        self._progress(n_acked - self._n_acked, now)
        self._n_acked = n_acked


def acked_bytes(sock: socket.socket) -> int:
    """Returns the bytes of this connection that the peer's kernel has acknowledged."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_OFFSET + _U64.size)
    n_acked: int = _U64.unpack_from(info, _BYTES_ACKED_OFFSET)[0]
    return n_acked


def read_line(sock: socket.socket, *, limit: int, timeout: float) -> tuple[bytes, bytes]:
    """Reads up to a newline: the line, and what came after it in the same read.

    Raises:
        StreamBroken: there was no line of at most ``limit`` bytes in ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    data = b""
    while b"\n" not in data:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            chunk = sock.recv(limit)
        except OSError as error:
            raise StreamBroken(error.strerror or "no answer in time") from None
        data += chunk
        if not chunk or (len(data) > limit and b"\n" not in data[:limit]):
            raise StreamBroken("the connection ended before an answer came")
    line, _, rest = data.partition(b"\n")
    return line, rest
