"""WebSockets of texts, from the server's side: those that a connection begins with, and those that come through the app.

A connection whose very first request asks for a known WebSocket is served here, by wsproto on the stream itself: that takes a
third of the memory and time of the way through Hypercorn and Starlette, and there are thousands of them. A proxy may ask for
one on a connection that was used before; that comes through the app as any request does, and does not know the difference.
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
"""Seconds in which the other end should answer our close."""
_READ_SIZE: Final = 4096
_SHORT: Final = 4096
"""Bytes of a frame that may be sent without waiting."""


class WebSocketClosed(Exception):
    """The other end has closed the WebSocket, or vanished."""


class TextSocket(Protocol):
    """One WebSocket, from its request to its end. One task may receive while another sends."""

    @property
    def source(self) -> str:
        """The client's address."""

    def field(self, name: str) -> str:
        """A field of the request, empty where it is absent."""

    def note_known(self) -> None:
        """Takes note that the client is authenticated: see ``ServerStream.note_known``."""

    async def refuse(self, status: int, body: bytes, fields: Mapping[str, str]) -> None:
        """Answers the request with something else, in JSON."""

    async def accept(self, greeting: str | None = None) -> None:
        """Opens it, with a first text if one is given."""

    async def receive_text(self) -> str:
        """The next text. Raises WebSocketClosed, and MalformedPacket on bytes or on a text that is too long."""

    async def send_text(self, text: str) -> None:
        """Sends a text. Raises OSError or trio.BrokenResourceError where the other end is gone."""

    def send_text_nowait(self, text: str) -> bool:
        """Sends a short text if that goes without waiting; whether it has. If it has not, ``send_text`` knows why."""

    @property
    def is_behind(self) -> bool:
        """Whether a part of what was sent without waiting has yet to leave: by ``flush``, or before whatever is sent next."""

    async def flush(self) -> None:
        """Waits until it has left. Raises OSError or trio.BrokenResourceError where the other end is gone."""

    async def send_close(self) -> None:
        """Says that nothing more will come."""

    async def aclose(self) -> None:
        """Lets the other end read what was said; at most a second."""


@dataclass(frozen=True, slots=True)
class TextRoute:
    """Who serves the WebSockets of a path, and the longest text, in characters, that may come in one."""

    serve: Callable[[TextSocket], Awaitable[None]]
    max_message: int


class StreamSocket:
    """A WebSocket on a connection of its own.

    Args:
        stream: the connection.
        head: its first request, one that ``ws_handshake.is_request`` approved of.
        leftover: what was read past the head.
        max_message: characters of the longest text that is taken.
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
        """The client's address."""
        return self._stream.remote[0]

    def field(self, name: str) -> str:
        """A field of the request, empty where it is absent."""
        return self._head.field(name)

    def note_known(self) -> None:
        """Takes note that the client is authenticated."""
        self._stream.note_known()

    async def refuse(self, status: int, body: bytes, fields: Mapping[str, str]) -> None:
        """Answers the request with something else, in JSON."""
        lines = [f"HTTP/1.1 {status} Refused", "Connection: close", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in fields.items())]
        self._is_closed = True
        await self._stream.send_all("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    async def accept(self, greeting: str | None = None) -> None:
        """Opens it; a first text leaves together with the answer to the request."""
        first = b"" if greeting is None else _text_frame(greeting)
        self._is_accepted = True
        await self._stream.send_all(ws_handshake.response(self._head.field("sec-websocket-key")) + first)

    async def receive_text(self) -> str:
        """The next text. Raises WebSocketClosed, and MalformedPacket on bytes or on a text that is too long, its frames counted."""
        while not self._is_closed:
            await self._turn.count()
            event = next_frame(self._wire)
            if event is None:
                await self._read()
            elif (text := await self._take(event)) is not None:
                return text
        raise WebSocketClosed

    async def send_text(self, text: str) -> None:
        """Sends a text. Raises trio.BrokenResourceError where the other end is gone."""
        await self._send(TextMessage(text))

    def send_text_nowait(self, text: str) -> bool:
        """Sends a short text if that goes without waiting; whether it has. If it has not, ``send_text`` knows why.

        Of a text that the kernel took in part, the rest leaves by ``flush``, or before whatever is sent next.
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
        """Whether a part of what was sent without waiting has yet to leave."""
        return bool(self._unsent) or self._stream.is_behind

    async def flush(self) -> None:
        """Waits until it has left. Raises trio.BrokenResourceError where the other end is gone."""
        async with self._sending:
            unsent, self._unsent = self._unsent, b""
            await self._stream.send_all(unsent)

    async def send_close(self) -> None:
        """Says that nothing more will come."""
        if self._is_accepted and not self._is_close_sent:
            self._is_close_sent = True
            await self._send(CloseConnection(CloseReason.NORMAL_CLOSURE))

    async def aclose(self) -> None:
        """Lets the other end read what was said; at most a second.

        A socket that is closed while something unread waits in it takes along what is still under way.
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
        """The text that an event ends, if it does."""
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
        """One frame at a time: pongs come from the task that receives."""
        async with self._sending:
            try:
                frame = self._wire.send(event)
            except LocalProtocolError as error:  # it has been closed
                raise trio.BrokenResourceError(str(error)) from None
            unsent, self._unsent = self._unsent, b""
            await self._stream.send_all(unsent + frame)


def _text_frame(text: str) -> bytes:
    """A whole text in one frame from a server: its length in 7, 16 or 64 bits, and no mask (RFC 6455 §5.2)."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class AppSocket:
    """A WebSocket as the app has it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    @property
    def source(self) -> str:
        """The client's address."""
        return self._websocket.client.host if self._websocket.client is not None else ""

    def field(self, name: str) -> str:
        """A field of the request, empty where it is absent."""
        return self._websocket.headers.get(name, "")

    def note_known(self) -> None:
        """Takes note that the client is authenticated."""
        note_known(self._websocket.scope)

    async def refuse(self, status: int, body: bytes, fields: Mapping[str, str]) -> None:
        """Answers the request with something else, in JSON."""
        response = Response(body, status_code=status, headers=fields, media_type="application/json")
        await self._websocket.send_denial_response(response)

    async def accept(self, greeting: str | None = None) -> None:
        """Opens it, with a first text if one is given."""
        await self._websocket.accept()
        if greeting is not None:
            await self.send_text(greeting)

    async def receive_text(self) -> str:
        """The next text. Raises WebSocketClosed, and MalformedPacket on bytes."""
        event = await self._websocket.receive()
        if event["type"] != "websocket.receive":
            raise WebSocketClosed
        text: str | None = event.get("text")
        if text is None:
            raise MalformedPacket("a binary message")
        return text

    async def send_text(self, text: str) -> None:
        """Sends a text. Raises trio.BrokenResourceError where the other end is gone."""
        try:
            await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise trio.BrokenResourceError(str(error)) from None

    def send_text_nowait(self, text: str) -> bool:
        """Never: the app's server always waits."""
        return False

    @property
    def is_behind(self) -> bool:
        """Never."""
        return False

    async def flush(self) -> None:
        """Nothing waits."""

    async def send_close(self) -> None:
        """Says that nothing more will come."""
        try:
            await self._websocket.close()
        except (WebSocketDisconnect, RuntimeError) as error:
            raise trio.BrokenResourceError(str(error)) from None

    async def aclose(self) -> None:
        """Nothing: the app's server does it."""
