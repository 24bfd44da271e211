"""``WebSocketStream``: DERP's bytes over a stream that only passes WebSockets."""

from typing import Final

import trio

from coderd.derp.websocket import WebSocket
from coderd.model import Buffer

READ_SIZE: Final = 64 * 1024
"""At one time: every byte from a client is unmasked, and nobody else moves meanwhile."""
CLOSE_TIMEOUT: Final = 0.5


class WebSocketStream(trio.abc.Stream):
    """A byte stream over one that has done the WebSocket handshake.

    The deadlines are those of the stream below. Whatever a peer sends against RFC 6455 reads as the stream's end.

    Args:
        inner: the stream just past the handshake.
        is_client: which end of it this is.
        leftover: what was read past the handshake.
    """

    def __init__(self, inner: trio.abc.Stream, *, is_client: bool, leftover: bytes = b"") -> None:
        self._inner = inner
        self._socket = WebSocket(is_client=is_client)
        self._socket.handle_data(leftover)
        self._writing = trio.Lock()

    @property
    def transport_stream(self) -> trio.abc.Stream:
        """The stream below."""
        return self._inner

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes of the stream, whatever the messages were; empty at its end. ``max_bytes`` bounds one read below."""
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
        """Writes pongs and closes, unless somebody is writing: that one takes them along."""
        if not self._writing.locked():
            async with self._writing:
                await self._write_control()

    async def _write_control(self) -> None:
        while control := self._socket.poll_control():
            await self._inner.send_all(control)

    async def send_all(self, data: Buffer) -> None:
        """Writes everything, as messages."""
        async with self._writing:
            await self._inner.send_all(self._socket.encode(data))
            await self._write_control()

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until a write may go through."""
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Says so and closes; a peer that does not take even that is closed at once."""
        self._socket.close()
        try:
            with trio.move_on_after(CLOSE_TIMEOUT):
                await self._answer()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(self._inner)
