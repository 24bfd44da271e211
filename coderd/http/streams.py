"""Accepted streams: bytes can be put back, writes have a timeout, and every stream can be aborted at once."""

import os
import select
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from coderd.http.tls_stream import TlsStream
from coderd.model import Buffer, limits
from coderd.model.addresses import AddrPort, canonical_ip

AcceptedStream: TypeAlias = trio.SocketStream | TlsStream

WRITE_TIMEOUT: Final = limits.HTTP_WRITE_TIMEOUT
"""Seconds after which a write without progress fails."""
CLOSE_TIMEOUT: Final = limits.HTTP_CLOSE_TIMEOUT
KEEPALIVE_IDLE: Final = 60
USER_TIMEOUT_MS: Final = limits.HTTP_USER_TIMEOUT_MS
_TCP_USER_TIMEOUT: Final = 18


class WriteTimeout(trio.BrokenResourceError):
    """The error of a write of which the peer took no bytes for too long; the stream is aborted."""


class ServerStream(trio.abc.Stream):
    """An accepted connection, plain or TLS.

    Args:
        accepted: what a listener returned.

    Attributes:
        remote: the client's address, an IPv4-mapped one as IPv4.
        local: the address that the client reached.
        is_closed: whether it was closed or aborted at this end.
        write_timeout: seconds without progress after which ``send_all`` fails.
        note_known: to be called once the client is authenticated; connections of unauthenticated clients are
            limited.
        note_answered: to be called when a request was answered: until the next one the client counts as
            unauthenticated.
    """

    def __init__(self, accepted: AcceptedStream) -> None:
        self._inner = accepted
        self._tcp = accepted if isinstance(accepted, trio.SocketStream) else _tcp_of(accepted)
        self._replayed = b""
        self.is_closed = False
        self.write_timeout = WRITE_TIMEOUT
        self.note_known: Callable[[], None] = _nobody_asks
        self.note_answered: Callable[[], None] = _nobody_asks
        self.remote = _address(self._tcp.socket.getpeername())
        self.local = _address(self._tcp.socket.getsockname())
        _watch_for_dead_peer(self._tcp)

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._inner is not self._tcp

    async def handshake(self) -> None:
        """Does the TLS handshake; without effect on a plain connection. Raises trio.BrokenResourceError."""
        if isinstance(self._inner, TlsStream):
            await self._inner.do_handshake()

    def set_write_ahead(self, n_bytes: int) -> None:
        """Sets the most unsent bytes in the kernel: TCP_NOTSENT_LOWAT, 16 KiB by trio's default."""
        self._tcp.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, n_bytes)

    def replay(self, data: bytes) -> None:
        """Puts bytes back, so that the next ``receive_some`` returns them."""
        self._replayed = data + self._replayed

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Returns bytes that were put back, or else received; at most ``max_bytes``, empty at the end.

        Raises: trio.BrokenResourceError, trio.ClosedResourceError.
        """
        if self._replayed:
            await trio.lowlevel.checkpoint()
            end = len(self._replayed) if max_bytes is None else max_bytes
            data, self._replayed = self._replayed[:end], self._replayed[end:]
            return data
        return await self._inner.receive_some(max_bytes)

    async def send_all(self, data: Buffer) -> None:
        """Writes all of the data.

        Raises: trio.BrokenResourceError; WriteTimeout if the peer takes no byte for ``write_timeout``
            seconds, after which the stream is aborted.
        """
        try:
            if isinstance(self._inner, TlsStream):
                await self._inner.send_with(self._send, data)
            else:
                await self._send(data)
        except WriteTimeout:
            self.abort()
            raise
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def send_some_nowait(self, data: bytes) -> int:
        """Writes some bytes without waiting, and returns how many were taken; with TLS all or none.

        The number is 0 if the kernel has no room. No other task may be sending. Raises OSError or
        trio.BrokenResourceError.
        """
        if self.is_closed or (self.is_tls and not self._has_room()):
            return 0
        if isinstance(self._inner, TlsStream):
            return len(data) if self._inner.send_nowait(self._write_some, data) else 0
        return self._write_some(data)

    @property
    def is_behind(self) -> bool:
        """Whether a TLS record of ``send_some_nowait`` waits in part; ``send_all(b"")`` waits for it."""
        return isinstance(self._inner, TlsStream) and self._inner.is_behind

    def _has_room(self) -> bool:
        """Returns whether the kernel has room: a TLS record, once encrypted, must be sent."""
        watch = select.poll()
        watch.register(self._tcp.socket.fileno(), select.POLLOUT)
        return bool(watch.poll(0))

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._tcp.socket.fileno(), data)
        except BlockingIOError:
            return 0

    async def _send(self, data: Buffer) -> None:
        await _send_with_progress(self._tcp.socket.send, data, self.write_timeout)

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until a write might not block."""
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Shuts down the sending side of a plain connection.

        Raises AttributeError on TLS, as Hypercorn expects.
        """
        if not isinstance(self._inner, trio.SocketStream):
            raise AttributeError("send_eof")
        await self._inner.send_eof()

    async def aclose(self) -> None:
        """Closes the stream gracefully within ``CLOSE_TIMEOUT`` seconds, else aborts it."""
        with trio.move_on_after(CLOSE_TIMEOUT):
            await self._inner.aclose()
        self.abort()

    def abort(self) -> None:
        """Closes the socket at once.

        Tasks that wait on it get trio.ClosedResourceError, even in a shielded scope.
        """
        self.is_closed = True
        self._tcp.socket.close()


async def _send_with_progress(
    send: Callable[[memoryview], Awaitable[int]], data: Buffer, timeout: float
) -> None:
    """Sends data piece by piece, ``timeout`` seconds for each. Raises WriteTimeout."""
    view = memoryview(data)
    sent = 0
    with trio.move_on_after(timeout) as scope:
        while sent < len(view):
            sent += await send(view[sent:])
            scope.deadline = trio.current_time() + timeout
    if scope.cancelled_caught:
        raise WriteTimeout("the peer takes no more bytes")


def _tcp_of(stream: TlsStream) -> trio.SocketStream:
    assert isinstance(stream.transport_stream, trio.SocketStream), "we accept nothing else"
    return stream.transport_stream


def _nobody_asks() -> None:
    """Ignores a notice about the client's authentication: only ``serve_http`` counts them."""


def _watch_for_dead_peer(stream: trio.SocketStream) -> None:
    """Sets TCP keepalive and TCP_USER_TIMEOUT, so that the kernel ends the connection of a vanished peer."""
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)
    stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    stream.setsockopt(trio.socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _address(name: tuple[str, int] | tuple[str, int, int, int]) -> AddrPort:
    return (canonical_ip(name[0]), name[1])
