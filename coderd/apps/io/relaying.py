"""One HTTP request through to an app and its answer back, both bodies as streams.

The ASGI server waits when we do not take the request's body, and our sending waits when the browser does not
take the answer's; toward the app TCP does so. A slow end thus slows the other down, and nothing piles up
here.
"""

from typing import Final, assert_never

import trio
from starlette.types import Message, Receive, Scope, Send

from coderd.apps.exchange import Answered, BadAnswer, BadRequest, Exchange, Head, Piece, Step, Switched
from coderd.apps.headers import Hop, answer_headers, has_body, request_headers
from coderd.http.turns import Turn

CHUNK: Final = 256 * 1024


class Relaying:
    """HTTP request on its way to an app, and its answer.

    Args:
        scope: the request's ASGI scope.
        target: path and query as the app shall see them.
        hop: how the request came.

    Raises:
        BadRequest: the request is not valid HTTP/1.1.
    """

    def __init__(self, scope: Scope, target: bytes, hop: Hop) -> None:
        headers = list(scope["headers"])
        self._exchange = Exchange(scope["method"], target, request_headers(headers, hop))
        self._hop = hop
        self._has_body = has_body(headers)
        self._is_sent = False
        self._is_answered = False
        self.n_carried = 0
        """Bytes of both bodies so far."""

    @property
    def is_heard(self) -> bool:
        """Whether anything has come from the app."""
        return self._exchange.is_heard

    @property
    def is_in_order(self) -> bool:
        """Whether request and answer have ended.

        Then nothing is behind them, and the app goes on listening.
        """
        return self._is_sent and self._exchange.is_over

    async def run(self, stream: trio.abc.Stream, receive: Receive, send: Send) -> None:
        """Relays to the end of the answer, or until the browser is gone.

        Args:
            stream: to the app, between two requests.
            receive: the ASGI server's.
            send: the ASGI server's.

        Raises:
            BadAnswer: before anything was sent to the browser.
            BadRequest: the body is not as long as was said; nothing was sent to the browser.
        """
        broken: Exception | None = None
        refused: list[BadRequest] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_request, stream, receive, refused, nursery.cancel_scope)
            try:
                await self._return_answer(stream, send)
            except (BadAnswer, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                broken = error
            nursery.cancel_scope.cancel()
        if not self._is_answered:
            if refused:
                raise refused[0]
            if broken is not None:
                raise BadAnswer(str(broken))

    # Toward the app

    async def _send_request(
        self,
        stream: trio.abc.Stream,
        receive: Receive,
        refused: list[BadRequest],
        exchange: trio.CancelScope,
    ) -> None:
        """Passes head and body on, then waits for the browser to leave."""
        try:
            await stream.send_all(self._exchange.begin())
            if not self._has_body:  # the browser's end of it may have been taken by a first attempt
                await self._end_request(stream)
            while (message := await receive())["type"] == "http.request":
                await self._pass_on(stream, message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # an app may answer without reading on; its answer decides
        except BadRequest as error:
            refused.append(error)
        exchange.cancel()

    async def _pass_on(self, stream: trio.abc.Stream, message: Message) -> None:
        if self._is_sent:
            return
        if body := message.get("body", b""):
            self.n_carried += len(body)
            await _send(stream, self._exchange.send_body(body))
        if not message.get("more_body", False):
            await self._end_request(stream)

    async def _end_request(self, stream: trio.abc.Stream) -> None:
        await _send(stream, self._exchange.end_request())
        self._is_sent = True

    # Toward the browser

    async def _return_answer(self, stream: trio.abc.Stream, send: Send) -> None:
        turn = Turn()
        while (step := await next_step(self._exchange, stream, turn)) is not Step.END:
            match step:
                case Head(status, headers):
                    self._is_answered = True
                    start = {"status": status, "headers": answer_headers(headers, self._hop)}
                    await send({"type": "http.response.start", **start})
                case Piece(data):
                    self.n_carried += len(data)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                case Step.INTERIM | Step.NEED_DATA:
                    pass
                case Switched():
                    raise BadAnswer("the app switched protocols unasked")
                case _:
                    assert_never(step)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def next_step(exchange: Exchange, stream: trio.abc.Stream, turn: Turn) -> Answered:
    """Returns the next event of an app's answer, reading more bytes while it is incomplete."""
    await turn.count()
    step = exchange.poll()
    if step is Step.NEED_DATA:
        exchange.handle_data(bytes(await stream.receive_some(CHUNK)))
    return step


async def _send(stream: trio.abc.Stream, data: bytes) -> None:
    if data:
        await stream.send_all(data)
