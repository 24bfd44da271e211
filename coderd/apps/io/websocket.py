"""One WebSocket through to an app.

It is two WebSockets with messages passed between them, each end waiting for the other.
"""

from typing import Final, assert_never

import trio
from starlette.types import Message, Receive, Scope, Send
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError, generate_nonce

from coderd.apps.exchange import Answered, BadAnswer, Exchange, Head, Piece, Step, Switched
from coderd.apps.headers import Hop, answer_headers, request_headers
from coderd.apps.io.relaying import next_step
from coderd.apps.opening import opening_headers, read_acceptance
from coderd.http.hypercorn_websocket import MAX_WEBSOCKET_MESSAGE
from coderd.http.turns import Turn
from coderd.http.wire import FrameEvent, Gathering, MessageTooBig, next_frame
from coderd.model import limits

HANDSHAKE_TIMEOUT: Final = limits.APP_WEBSOCKET_TIMEOUT
CLOSE_TIMEOUT: Final = limits.APP_WEBSOCKET_CLOSE_TIMEOUT
MAX_REFUSAL: Final = limits.MAX_APP_REFUSAL
"""Bytes of what an app says instead of opening a WebSocket."""
READ_SIZE: Final = 65536
GOING_AWAY: Final = 1001
TOO_BIG: Final = 1009
_NO_CODES: Final = (1005, 1006, 1015)
"""They stand for the lack of a code, and are never sent."""
_BROKEN: Final = (LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)


class WebSocketRelaying:
    """WebSocket on its way to an app.

    Args:
        scope: the WebSocket's ASGI scope; its ``websocket.connect`` has been received.
        target: path and query as the app shall see them.
        hop: how the request came.

    Raises:
        BadRequest: the request is not valid HTTP/1.1.
    """

    def __init__(self, scope: Scope, target: bytes, hop: Hop) -> None:
        self._hop = hop
        self._nonce = generate_nonce()
        self._subprotocols: list[str] = list(scope.get("subprotocols", ()))
        passed = request_headers(list(scope["headers"]), hop)
        headers = opening_headers(passed, self._nonce, self._subprotocols)
        self._exchange = Exchange("GET", target, headers, may_switch=True)
        self._wire = Connection(ConnectionType.CLIENT)
        self._sending = trio.StrictFIFOLock()
        self._turn = Turn()

    async def run(self, stream: trio.abc.Stream, receive: Receive, send: Send) -> None:
        """Relays messages until either end closes, or breaks.

        Args:
            stream: to the app, nothing said yet.
            receive: the ASGI server's.
            send: the ASGI server's.

        Raises:
            BadAnswer: the app does not speak HTTP; nothing was sent to the browser.
        """
        answer = await self._ask(stream)
        if isinstance(answer, Head):
            await self._refuse(answer, stream, send)
            return
        await send(self._acceptance(answer))
        self._wire.receive_data(answer.trailing)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._to_app, stream, receive, nursery.cancel_scope)
            await send(await self._to_browser(stream, send))
            nursery.cancel_scope.cancel()

    # Opening

    async def _ask(self, stream: trio.abc.Stream) -> Head | Switched:
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT):
                await stream.send_all(self._exchange.begin() + self._exchange.end_request())
                while True:
                    answer = await self._next_step(stream)
                    if isinstance(answer, Head | Switched):
                        return answer
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise BadAnswer(str(error)) from None

    async def _next_step(self, stream: trio.abc.Stream) -> Answered:
        return await next_step(self._exchange, stream, self._turn)

    def _acceptance(self, answer: Switched) -> Message:
        subprotocol = read_acceptance(answer, self._nonce, self._subprotocols)
        kept = answer_headers(answer.headers, self._hop)
        return {
            "type": "websocket.accept",
            "subprotocol": subprotocol,
            "headers": [(name, value) for name, value in kept if name == b"set-cookie"],
        }

    async def _refuse(self, answer: Head, stream: trio.abc.Stream, send: Send) -> None:
        """Passes an app's refusal of the handshake on, with what arrives of its body in time."""
        body = b""
        try:
            with trio.move_on_after(HANDSHAKE_TIMEOUT):
                while len(body) <= MAX_REFUSAL and (step := await self._next_step(stream)) is not Step.END:
                    body += step.data if isinstance(step, Piece) else b""
        except (BadAnswer, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        headers = [
            (name, value)
            for name, value in answer_headers(answer.headers, self._hop)
            if name != b"content-length"
        ]
        start = {"status": answer.status, "headers": headers}
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": body})

    # Both ways

    async def _to_app(self, stream: trio.abc.Stream, receive: Receive, exchange: trio.CancelScope) -> None:
        try:
            while (message := await receive())["type"] == "websocket.receive":
                text = message.get("text")
                await self._send(
                    stream,
                    TextMessage(data=text) if text is not None else BytesMessage(data=message["bytes"]),
                )
            with trio.move_on_after(CLOSE_TIMEOUT):
                await self._send(stream, CloseConnection(code=_code(message.get("code"))))
        except _BROKEN:
            return  # the app has gone: the other direction tells the browser
        exchange.cancel()

    async def _to_browser(self, stream: trio.abc.Stream, send: Send) -> Message:
        """Passes messages on, pings answered; returns how it ended."""
        gathering = Gathering(MAX_WEBSOCKET_MESSAGE)
        try:
            while (event := await self._next_frame(stream)) is not None:
                match event:
                    case TextMessage() | BytesMessage():
                        if (message := gathering.add(event)) is not None:
                            kind = "text" if isinstance(message, str) else "bytes"
                            await send({"type": "websocket.send", kind: message})
                    case Ping():  # answers come between messages
                        await self._send(stream, event.response())
                    case Pong():
                        pass
                    case CloseConnection():
                        return _ending(_code(event.code), event.reason or "")
                    case _:
                        assert_never(event)
        except MessageTooBig:
            return _ending(TOO_BIG, "the app's message is too big")
        except _BROKEN:
            pass
        return _ending(GOING_AWAY, "the app has gone")

    async def _next_frame(self, stream: trio.abc.Stream) -> FrameEvent | None:
        """Returns the app's next frame; None when it has closed the connection."""
        await self._turn.count()
        while (event := next_frame(self._wire)) is None:
            if not (data := await stream.receive_some(READ_SIZE)):
                return None
            self._wire.receive_data(bytes(data))
        return event

    async def _send(self, stream: trio.abc.Stream, event: FrameEvent) -> None:
        async with self._sending:
            await stream.send_all(self._wire.send(event))


def _ending(code: int, reason: str) -> Message:
    return {"type": "websocket.close", "code": code, "reason": reason}


def _code(code: int | None) -> int:
    return GOING_AWAY if code is None or code in _NO_CODES else code
