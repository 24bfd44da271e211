"""``WebSocketStream``: DERP's bytes in WebSocket messages, for ways that pass no other upgrade."""

from typing import Final

import trio

from coderd.derp.websocket import WebSocket
from coderd.model import Buffer

READ_SIZE: Final = 64 * 1024
"""Most bytes of one read: a client's bytes are unmasked in one go, while no other task runs."""
CLOSE_TIMEOUT: Final = 0.5


class WebSocketStream(trio.abc.Stream):
    """A byte stream in the messages of a WebSocket, after its opening handshake.

    Deadlines are those of the inner stream. A peer's violation of RFC 6455 reads as the stream's end.

    Args:
        inner: the stream just past the handshake.
        is_client: whether this is the client's end.
        leftover: the bytes that were read past the handshake.
    """

    def __init__(self, inner: trio.abc.Stream, *, is_client: bool, leftover: bytes = b"") -> None:
        self._inner = inner
        self._socket = WebSocket(is_client=is_client)
        self._socket.handle_data(leftover)
        self._writing = trio.Lock()

    @property
    def transport_stream(self) -> trio.abc.Stream:
        """The inner stream, which carries the WebSocket."""
        return self._inner

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Returns received bytes of the stream, empty at its end.

        ``max_bytes`` limits one read of the inner stream. Raises: trio.BrokenResourceError,
        trio.ClosedResourceError.
        """
        while True:
            await trio.lowlevel.checkpoint()
            data = self._socket.poll_data()
            await self._answer()
            if data:
                return data
            if self._socket.is_ended:
                return b""
            if data is None and not await self._fill(max_bytes):
                return b""

    async def _fill(self, max_bytes: int | None) -> bool:
        received = await self._inner.receive_some(min(max_bytes or READ_SIZE, READ_SIZE))
        self._socket.handle_data(received)
        return bool(received)

    async def _answer(self) -> None:
        """Writes a pong or close that waits, unless a task is writing, which then writes it."""
        if not self._writing.locked():
            async with self._writing:
                await self._write_control()

    async def _write_control(self) -> None:
        while control := self._socket.poll_control():
            await self._inner.send_all(control)

    async def send_all(self, data: Buffer) -> None:
        """Writes all of the data in binary messages. Raises trio.BrokenResourceError."""
        async with self._writing:
            await self._inner.send_all(self._socket.encode(data))
            await self._write_control()

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until a write to the inner stream might not block."""
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Sends a close frame, for CLOSE_TIMEOUT seconds at most, and closes the inner stream."""
        self._socket.close()
        try:
            with trio.move_on_after(CLOSE_TIMEOUT):
                await self._answer()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(self._inner)
