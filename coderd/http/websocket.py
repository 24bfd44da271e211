"""The server's end of WebSockets that carry texts: on a stream of their own, or through the app.

A connection with a WebSocket of a known path as its first request is served by wsproto on the stream itself,
which takes a third of the memory and time of Hypercorn and Starlette; there are thousands of them. A proxy
may ask for one on a connection that was used before: that comes through the app, and its handler has the same
interface, ``TextSocket``.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

import trio
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from coderd.http import ws_handshake
from coderd.http.head import RequestHead
from coderd.http.streams import ServerStream
from coderd.http.turns import Turn
from coderd.http.web import note_known
from coderd.http.wire import FrameEvent, Gathering, next_frame
from coderd.model import limits
from coderd.model.errors import MalformedPacket

CLOSE_TIMEOUT: Final = limits.WEBSOCKET_CLOSE_TIMEOUT
"""Seconds that the other end has to answer a close frame."""
_READ_SIZE: Final = 4096
_SHORT: Final = 4096
"""Most bytes of a frame that may be sent without waiting."""


class WebSocketClosed(Exception):
    """The error of reading a WebSocket that the other end has closed or left."""


class TextSocket(Protocol):
    """A WebSocket of texts from its request to its end; one task may receive while another sends."""

    @property
    def source(self) -> str:
        """The client's IP address, as a trusted proxy reports it."""

    def field(self, name: str) -> str:
        """Returns a header field of the request, empty where it is absent; ``name`` is in lower case."""

    def note_known(self) -> None:
        """Notes that the client is authenticated: see ``ServerStream.note_known``."""

    async def refuse(self, status: int, body: bytes, fields: Mapping[str, str]) -> None:
        """Answers the request with another status than 101, a JSON body and header fields."""

    async def accept(self, greeting: str | None = None) -> None:
        """Opens the WebSocket, and sends a first text if one is given."""

    async def receive_text(self) -> str:
        """Returns the next text.

        Raises WebSocketClosed, and MalformedPacket on bytes or a text that is too long.
        """

    async def send_text(self, text: str) -> None:
        """Sends a text. Raises OSError or trio.BrokenResourceError where the other end is gone."""

    def send_text_nowait(self, text: str) -> bool:
        """Sends a short text without waiting.

        Returns False if it was not sent; ``send_text`` then waits or raises.
        """

    @property
    def is_behind(self) -> bool:
        """Whether a text of ``send_text_nowait`` was sent in part; ``flush`` sends the rest."""

    async def flush(self) -> None:
        """Sends the rest of a text of ``send_text_nowait``.

        Raises: OSError or trio.BrokenResourceError where the other end is gone.
        """

    async def send_close(self) -> None:
        """Sends a close frame, after which no text may be sent."""

    async def aclose(self) -> None:
        """Ends the WebSocket; the other end has ``CLOSE_TIMEOUT`` seconds to read what was sent."""


@dataclass(frozen=True, slots=True)
class TextRoute:
    """Handler of a path's WebSockets, and the most characters of a text that it receives."""

    serve: Callable[[TextSocket], Awaitable[None]]
    max_message: int


class StreamSocket:
    """A ``TextSocket`` by wsproto, on a connection of its own.

    Args:
        stream: the connection.
        head: its first request, for which ``ws_handshake.is_request`` is True.
        leftover: the bytes that were read past the head.
        max_message: most characters of a text that is received, with ``FRAME_COST`` for each frame.
    """

    def __init__(self, stream: ServerStream, head: RequestHead, leftover: bytes, *, max_message: int) -> None:
        self._stream = stream
        self._head = head
        self._wire = Connection(ConnectionType.SERVER)
        if leftover:
            self._wire.receive_data(leftover)
        self._gathering = Gathering(max_message)
        self._turn = Turn()
        self._unsent = b""
        self._sending = trio.Lock()
        self._is_accepted = self._is_close_sent = self._is_closed = False

    @property
    def source(self) -> str:
        """The client's IP address, as a trusted proxy reports it."""
        return self._stream.remote[0]

    def field(self, name: str) -> str:
        """Returns a header field of the request, empty where it is absent; ``name`` is in lower case."""
        return self._head.field(name)

    def note_known(self) -> None:
        """Notes that the client is authenticated: see ``ServerStream.note_known``."""
        self._stream.note_known()

    async def refuse(self, status: int, body: bytes, fields: Mapping[str, str]) -> None:
        """Answers the request with another status than 101, a JSON body and header fields; then closes.

        Raises: trio.BrokenResourceError.
        """
        lines = [f"HTTP/1.1 {status} Refused", "Connection: close", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in fields.items())]
        self._is_closed = True
        await self._stream.send_all("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    async def accept(self, greeting: str | None = None) -> None:
        """Opens the WebSocket; a first text is sent in one write with the answer to the request.

        Raises: trio.BrokenResourceError.
        """
        first = b"" if greeting is None else _text_frame(greeting)
        self._is_accepted = True
        await self._stream.send_all(ws_handshake.response(self._head.field("sec-websocket-key")) + first)

    async def receive_text(self) -> str:
        """Returns the next text; answers pings and a close meanwhile.

        Raises:
            WebSocketClosed: the other end has closed the WebSocket or the connection.
            MalformedPacket: a binary message, or a text longer than ``max_message``.
            trio.BrokenResourceError: the connection is broken.
        """
        while not self._is_closed:
            await self._turn.count()
            event = next_frame(self._wire)
            if event is None:
                await self._read()
            elif (text := await self._take(event)) is not None:
                return text
        raise WebSocketClosed

    async def send_text(self, text: str) -> None:
        """Sends a text in one frame. Raises trio.BrokenResourceError where the other end is gone."""
        await self._send(TextMessage(text))

    def send_text_nowait(self, text: str) -> bool:
        """Sends a short text without waiting. Returns False if it was not sent: use ``send_text`` then.

        The rest of a text that the kernel took in part is sent by ``flush``, or before the next frame.
        """
        frame = _text_frame(text)
        if self._sending.locked() or self._unsent or self._is_close_sent or len(frame) > _SHORT:
            return False
        try:
            n_taken = self._stream.send_some_nowait(frame)
        except (OSError, trio.BrokenResourceError):
            return False
        self._unsent = frame[n_taken:] if n_taken else b""
        return n_taken > 0

    @property
    def is_behind(self) -> bool:
        """Whether a text of ``send_text_nowait`` was sent in part; ``flush`` sends the rest."""
        return bool(self._unsent) or self._stream.is_behind

    async def flush(self) -> None:
        """Sends the rest of a text of ``send_text_nowait``. Raises trio.BrokenResourceError."""
        async with self._sending:
            unsent, self._unsent = self._unsent, b""
            await self._stream.send_all(unsent)

    async def send_close(self) -> None:
        """Sends a close frame, once; without effect before ``accept``. Raises trio.BrokenResourceError."""
        if self._is_accepted and not self._is_close_sent:
            self._is_close_sent = True
            await self._send(CloseConnection(CloseReason.NORMAL_CLOSURE))

    async def aclose(self) -> None:
        """Sends a close frame, then reads until the other end closes, for at most ``CLOSE_TIMEOUT`` seconds.

        A socket closed with unread bytes sends a reset, by which the other end may lose data that was sent
        before.
        """
        with trio.move_on_after(CLOSE_TIMEOUT):
            try:
                await self.send_close()
                while self._is_accepted and await self._stream.receive_some(_READ_SIZE):
                    pass
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _read(self) -> None:
        data = await self._stream.receive_some(_READ_SIZE)
        if data:
            self._wire.receive_data(bytes(data))
        else:
            self._is_closed = True

    async def _take(self, event: FrameEvent) -> str | None:
        """Handles a frame; returns the text that it completes, if any. Raises MalformedPacket."""
        match event:
            case TextMessage():
                text = self._gathering.add(event)
                assert not isinstance(text, bytes)
                return text
            case BytesMessage():
                raise MalformedPacket("a binary message")
            case Ping():
                await self._send(event.response())
            case Pong():
                pass
            case CloseConnection():
                self._is_closed = True
                if not self._is_close_sent:
                    self._is_close_sent = True
                    await self._send(event.response())
            case _:
                assert_never(event)
        return None

    async def _send(self, event: Event) -> None:
        """Sends a frame behind all that was sent before; the receiving task, too, sends pongs.

        Raises: trio.BrokenResourceError.
        """
        async with self._sending:
            try:
                frame = self._wire.send(event)
            except LocalProtocolError as error:  # it has been closed
                raise trio.BrokenResourceError(str(error)) from None
            unsent, self._unsent = self._unsent, b""
            await self._stream.send_all(unsent + frame)


def _text_frame(text: str) -> bytes:
    """Encodes a text as a server's frame: length in 7, 16 or 64 bits, without a mask (RFC 6455 §5.2)."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class AppSocket:
    """A ``TextSocket`` around a WebSocket of the app's."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    @property
    def source(self) -> str:
        """The client's IP address, as a trusted proxy reports it; empty where it is not known."""
        return self._websocket.client.host if self._websocket.client is not None else ""

    def field(self, name: str) -> str:
        """Returns a header field of the request, empty where it is absent."""
        return self._websocket.headers.get(name, "")

    def note_known(self) -> None:
        """Notes that the client is authenticated: see ``ServerStream.note_known``."""
        note_known(self._websocket.scope)

    async def refuse(self, status: int, body: bytes, fields: Mapping[str, str]) -> None:
        """Answers the request with another status than 101, a JSON body and header fields."""
        response = Response(body, status_code=status, headers=fields, media_type="application/json")
        await self._websocket.send_denial_response(response)

    async def accept(self, greeting: str | None = None) -> None:
        """Opens the WebSocket, and sends a first text if one is given. Raises trio.BrokenResourceError."""
        await self._websocket.accept()
        if greeting is not None:
            await self.send_text(greeting)

    async def receive_text(self) -> str:
        """Returns the next text. Raises WebSocketClosed, and MalformedPacket on bytes."""
        event = await self._websocket.receive()
        if event["type"] != "websocket.receive":
            raise WebSocketClosed
        text: str | None = event.get("text")
        if text is None:
            raise MalformedPacket("a binary message")
        return text

    async def send_text(self, text: str) -> None:
        """Sends a text through the app's server.

        Raises trio.BrokenResourceError where the other end is gone.
        """
        try:
            await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise trio.BrokenResourceError(str(error)) from None

    def send_text_nowait(self, text: str) -> bool:
        """Returns False without sending the text: sending through the app's server always waits."""
        return False

    @property
    def is_behind(self) -> bool:
        """False: no text is sent in part."""
        return False

    async def flush(self) -> None:
        """Returns at once, as no text is sent in part."""

    async def send_close(self) -> None:
        """Sends a close frame, after which no text may be sent. Raises trio.BrokenResourceError."""
        try:
            await self._websocket.close()
        except (WebSocketDisconnect, RuntimeError) as error:
            raise trio.BrokenResourceError(str(error)) from None

    async def aclose(self) -> None:
        """Returns at once: the app's server closes the WebSocket."""
