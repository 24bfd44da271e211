"""Hypercorn's WebSockets with bounds on frames, and without compression.

Hypercorn itself handles all frames of a read without a checkpoint, does not count empty frames against a
message's size, reads on behind a message that was too big, and agrees to permessage-deflate, by which 64 KiB
may become 64 MiB.
"""

from typing import Final, assert_never, cast

import h11
import trio
from hypercorn.events import Closed
from hypercorn.protocol.events import Data, Request, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import H11SendableEvent
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from coderd.http.head import MAX_FIELDS
from coderd.http.turns import Turn
from coderd.http.wire import Gathering, MessageTooBig, next_frame
from coderd.model import limits

MAX_WEBSOCKET_MESSAGE: Final = limits.MAX_WEBSOCKET_MESSAGE
CLOSE_TIMEOUT: Final = limits.WEBSOCKET_CLOSE_TIMEOUT
"""Seconds before a WebSocket is closed after its client was told that a message was too big."""
_EXTENSIONS: Final = b"sec-websocket-extensions"


class Http1Protocol(H11Protocol):
    """Hypercorn's HTTP/1.1 protocol, with ``WebSocketStream`` for WebSockets and a limit of header fields."""

    _is_refused = False

    async def _send_error_response(self, status_code: int) -> None:
        """Answers a request that cannot be parsed, after which the connection ends."""
        self._is_refused = True
        await super()._send_error_response(status_code)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Sends an event of h11; one that h11 does not allow after a refusal ends the connection instead."""
        try:
            await super()._send_h11_event(event)
        except h11.LocalProtocolError:
            if not (self._is_refused or isinstance(self.connection, H11WSConnection)):
                raise
            await self.send(Closed())

    async def _create_stream(self, request: h11.Request) -> None:
        if len(request.headers) > MAX_FIELDS:
            await self._send_error_response(431)
            await self.send(Closed())
            return
        if not _asks_for_websocket(request):
            await super()._create_stream(request)
            return
        stream = self.stream = WebSocketStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        self.connection = H11WSConnection(cast(h11.Connection, self.connection))
        await stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=[(name, value) for name, value in request.headers if name != _EXTENSIONS],
                http_version=request.http_version.decode(),
                method="GET",
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()


class WebSocketStream(WSStream):
    """A WebSocket of Hypercorn's with a limit of message size, and a checkpoint after every few frames."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # Hypercorn's nine, passed through
        self._turn = Turn()
        self._gathering = Gathering(MAX_WEBSOCKET_MESSAGE)
        self._is_over = False

    async def _handle_events(self) -> None:
        """Handles the received frames: passes messages to the app, answers pings and the close."""
        while not self._is_over and (event := next_frame(self.connection)) is not None:
            await self._turn.count()
            match event:
                case TextMessage() | BytesMessage():
                    await self._take_message(event)
                case Ping():
                    await self._send_wsproto_event(event.response())
                case Pong():
                    pass
                case CloseConnection():
                    self._is_over = True
                    if self.connection.state is ConnectionState.REMOTE_CLOSING:
                        await self._send_wsproto_event(event.response())
                    await self.send(StreamClosed(stream_id=self.stream_id))
                case _:
                    assert_never(event)

    async def _take_message(self, event: TextMessage | BytesMessage) -> None:
        try:
            message = self._gathering.add(event)
        except MessageTooBig:
            self._is_over = True
            await self._send_wsproto_event(CloseConnection(code=CloseReason.MESSAGE_TOO_BIG))
            self.task_group.spawn(self._close_soon)
            return
        if message is not None and self.app_put is not None:
            is_text = isinstance(message, str)
            await self.app_put(
                {
                    "type": "websocket.receive",
                    "bytes": None if is_text else message,
                    "text": message if is_text else None,
                }
            )

    async def handle(self, event: object) -> None:
        """Handles an event of the connection; data after the close is dropped."""
        if self._is_over and isinstance(event, Data):
            return
        await super().handle(event)  # type: ignore[arg-type]

    async def _close_soon(self) -> None:
        """Ends the stream after ``CLOSE_TIMEOUT`` seconds, in which the client can read the close frame."""
        await trio.sleep(CLOSE_TIMEOUT)
        await self.send(StreamClosed(stream_id=self.stream_id))


def _asks_for_websocket(request: h11.Request) -> bool:
    headers = dict(request.headers)
    tokens = headers.get(b"connection", b"").lower().split(b",")
    return (
        request.method == b"GET"
        and headers.get(b"upgrade", b"").strip().lower() == b"websocket"
        and any(token.strip() == b"upgrade" for token in tokens)
    )
