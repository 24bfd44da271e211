"""One WebSocket through to an app: two WebSockets with messages passed between them, each end waiting for the other."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

import trio
from starlette.types import Message, Receive, Scope, Send
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from coderd.apps.headers import Headers, Hop, answer_headers, request_headers
from coderd.apps.io.relaying import BadAnswer
from coderd.browser.requests import header
from coderd.http.web import MAX_WEBSOCKET_MESSAGE
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
_BROKEN: Final = (RemoteProtocolError, LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)


class WebSocketRelaying:
    """A WebSocket on its way.

    Args:
        stream: to the app, nothing said yet.
        scope: the WebSocket's ASGI scope; its ``websocket.connect`` has been received.
        target: path and query as the app shall see them.
        hop: the way that it came.
    """

    def __init__(self, stream: trio.abc.Stream, scope: Scope, target: str, hop: Hop) -> None:
        self._stream = stream
        self._hop = hop
        self._app = WSConnection(ConnectionType.CLIENT)
        self._turn = trio.StrictFIFOLock()
        self._request = Request(
            host=header(scope["headers"], b"host"),
            target=target,
            subprotocols=list(scope.get("subprotocols", ())),
            extra_headers=[
                (name, value)
                for name, value in request_headers(list(scope["headers"]), hop)
                if not name.startswith(b"sec-websocket-") and name not in (b"host", b"content-length")
            ],
        )

    async def run(self, receive: Receive, send: Send) -> None:
        """Until either end closes, or breaks.

        Raises:
            BadAnswer: the app does not speak HTTP; nothing was sent to the browser.
        """
        async with aclosing(self._events()) as events:
            await self._run(events, receive, send)

    async def _run(self, events: AsyncGenerator[Event, None], receive: Receive, send: Send) -> None:
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT):
                await self._send(self._request)
                answer = await anext(events)
        except (*_BROKEN, StopAsyncIteration, trio.TooSlowError):
            raise BadAnswer from None
        if isinstance(answer, RejectConnection):
            await self._refuse(answer, events, send)
        elif isinstance(answer, AcceptConnection):
            await send(self._acceptance(answer))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._to_app, receive, nursery.cancel_scope)
                await send(await self._to_browser(events, send))
                nursery.cancel_scope.cancel()

    def _acceptance(self, answer: AcceptConnection) -> Message:
        kept = answer_headers(_headers(answer.extra_headers), self._hop)
        return {
            "type": "websocket.accept",
            "subprotocol": answer.subprotocol,
            "headers": [(name, value) for name, value in kept if name == b"set-cookie"],
        }

    async def _refuse(self, answer: RejectConnection, events: AsyncIterator[Event], send: Send) -> None:
        """The app's own words, as far as they come."""
        body = b""
        try:
            with trio.move_on_after(HANDSHAKE_TIMEOUT):
                while answer.has_body and len(body) <= MAX_REFUSAL:
                    data = await anext(events)
                    if not isinstance(data, RejectData):
                        break
                    body += data.data
                    if data.body_finished:
                        break
        except (*_BROKEN, StopAsyncIteration):
            pass
        headers = [
            (name, value)
            for name, value in answer_headers(_headers(answer.headers), self._hop)
            if name != b"content-length"
        ]
        start = {"status": answer.status_code, "headers": headers}
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": body})

    async def _to_app(self, receive: Receive, exchange: trio.CancelScope) -> None:
        try:
            while (message := await receive())["type"] == "websocket.receive":
                text = message.get("text")
                await self._send(
                    TextMessage(data=text) if text is not None else BytesMessage(data=message["bytes"])
                )
            with trio.move_on_after(CLOSE_TIMEOUT):
                await self._send(CloseConnection(code=_code(message.get("code"))))
        except _BROKEN:
            return  # the app has gone: the other direction tells the browser
        exchange.cancel()

    async def _to_browser(self, events: AsyncIterator[Event], send: Send) -> Message:
        """Passes messages on; returns how it ended."""
        parts: list[str | bytes] = []
        size = 0
        try:
            async for event in events:
                if isinstance(event, CloseConnection):
                    return {
                        "type": "websocket.close",
                        "code": _code(event.code),
                        "reason": event.reason or "",
                    }
                if not isinstance(event, TextMessage | BytesMessage):
                    continue
                parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
                size += len(event.data)
                if size > MAX_WEBSOCKET_MESSAGE:
                    return {
                        "type": "websocket.close",
                        "code": TOO_BIG,
                        "reason": "the app's message is too big",
                    }
                if event.message_finished:
                    await send(_message(parts))
                    parts, size = [], 0
        except _BROKEN:
            pass
        return {"type": "websocket.close", "code": GOING_AWAY, "reason": "the app has gone"}

    async def _events(self) -> AsyncGenerator[Event, None]:
        """What the app says, its pings answered."""
        while data := await self._stream.receive_some(READ_SIZE):
            self._app.receive_data(bytes(data))
            for event in self._app.events():
                if isinstance(event, Ping):
                    await self._send(event.response())
                else:
                    yield event

    async def _send(self, event: Event) -> None:
        async with self._turn:  # answers to pings come between messages
            await self._stream.send_all(self._app.send(event))


def _message(parts: list[str | bytes]) -> Message:
    if isinstance(parts[0], str):
        return {"type": "websocket.send", "text": "".join(part for part in parts if isinstance(part, str))}
    return {"type": "websocket.send", "bytes": b"".join(part for part in parts if isinstance(part, bytes))}


def _headers(headers: object) -> Headers:
    assert isinstance(headers, list)
    return [(bytes(name).lower(), bytes(value)) for name, value in headers]


def _code(code: int | None) -> int:
    return GOING_AWAY if code is None or code in _NO_CODES else code
