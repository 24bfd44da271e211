"""One HTTP request through to an app and its answer back, both bodies as streams.

The ASGI server waits when we do not take the request's body, and our sending waits when the browser does not take the answer's;
toward the app the same is done by TCP. So a slow end slows the other down, and nothing piles up here.
"""

from typing import Final, TypeAlias

import h11
import trio
from starlette.types import Message, Receive, Scope, Send

from coderd.apps.headers import Headers, Hop, answer_headers, has_body, request_headers
from coderd.model import limits

MAX_HEAD: Final = limits.MAX_APP_HEAD
"""Bytes of the head of an app's answer."""
CHUNK: Final = 256 * 1024

_Event: TypeAlias = h11.Event | type[h11.PAUSED]


class BadAnswer(Exception):
    """The app closed the connection, or does not speak HTTP, before its answer began."""


class Relaying:
    """A request on its way.

    Args:
        stream: to the app, between two requests.
        scope: the request's ASGI scope.
        target: path and query as the app shall see them.
        hop: the way that it came.
    """

    def __init__(self, stream: trio.abc.Stream, scope: Scope, target: bytes, hop: Hop) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._hop = hop
        self._has_body = has_body(scope["headers"])
        self._head = h11.Request(
            method=scope["method"].encode(),
            target=target,
            headers=request_headers(list(scope["headers"]), hop),
        )
        self._is_sent = False
        self._is_answered = False
        self.is_heard = False
        """Whether anything has come from the app."""
        self.n_carried = 0
        """Bytes of both bodies so far."""

    @property
    def is_in_order(self) -> bool:
        """Whether request and answer have come to their ends, with nothing behind them, and the app goes on listening."""
        is_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        return self._is_sent and is_done and not self._http.trailing_data[0]

    async def run(self, receive: Receive, send: Send) -> None:
        """To the end of the answer, or until the browser leaves; an answer that breaks off is not ended.

        Raises:
            BadAnswer: before anything was sent to the browser.
        """
        is_broken = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_request, receive, nursery.cancel_scope)
            try:
                await self._return_answer(send)
            except (h11.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
                is_broken = True
            nursery.cancel_scope.cancel()
        if is_broken and not self._is_answered:
            raise BadAnswer

    # Toward the app

    async def _send_request(self, receive: Receive, exchange: trio.CancelScope) -> None:
        """Passes head and body on, then waits for the browser to leave."""
        try:
            await self._send(self._head)
            if not self._has_body:
                await self._end_request()  # the browser's end of it may have been taken by a first attempt
            while (message := await receive())["type"] == "http.request":
                await self._pass_on(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # an app may answer without reading on; its answer decides
        exchange.cancel()

    async def _pass_on(self, message: Message) -> None:
        if self._http.our_state is not h11.SEND_BODY:
            return
        if body := message.get("body", b""):
            self.n_carried += len(body)
            await self._send(h11.Data(data=body))
        if not message.get("more_body", False):
            await self._end_request()

    async def _end_request(self) -> None:
        await self._send(h11.EndOfMessage())
        self._is_sent = True

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            await self._stream.send_all(data)

    # Toward the browser

    async def _return_answer(self, send: Send) -> None:
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                self._is_answered = True
                headers: Headers = [(bytes(name), bytes(value)) for name, value in event.headers]
                start = {"status": event.status_code, "headers": answer_headers(headers, self._hop)}
                await send({"type": "http.response.start", **start})
            elif isinstance(event, h11.Data):
                self.n_carried += len(event.data)
                await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
            elif isinstance(event, h11.EndOfMessage):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            elif isinstance(event, h11.ConnectionClosed):
                raise trio.BrokenResourceError("the app closed the connection")

    async def _next_event(self) -> _Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = bytes(await self._stream.receive_some(CHUNK))
            self.is_heard = self.is_heard or bool(data)
            self._http.receive_data(data)
        assert event is not h11.NEED_DATA
        return event  # type: ignore[return-value]  # of h11's two sentinels, PAUSED is left
