"""An app may answer anything, in any order, to any method.

Every exchange comes to an end, and says nothing that is not HTTP.
"""

from typing import Any

import h11
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.types import Message
from wsproto import events
from wsproto.connection import Connection, ConnectionType

from coderd.apps.exchange import BadAnswer, BadRequest, Event, Exchange, Head, Piece, Step, Switched
from coderd.apps.headers import Hop
from coderd.apps.io.relaying import Relaying
from coderd.http.methods import METHODS
from coderd.http.wire import FrameEvent, next_frame

HOST = (b"host", b"x")
ANSWERS = [
    b"HTTP/1.1 100 \r\n\r\n",
    b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n",
    b"HTTP/1.1 101 Switch\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 204 None\r\n\r\n",
    b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 500 No\r\nUpgrade: h2c\r\n\r\n",
    b"HTTP/1.1 42 What\r\n\r\n",
    b"ab",
    b"1\r\nx\r\n",
    b"0\r\n\r\n",
    b"\r\n",
    b"\0",
    b"GET / HTTP/1.1\r\n\r\n",
]
answers = st.lists(st.sampled_from(ANSWERS) | st.binary(max_size=8), max_size=6)
methods = st.sampled_from([*METHODS, "CONNECT", "TRACE", "FOO"])
framings = st.sampled_from([[], [(b"content-length", b"3")], [(b"transfer-encoding", b"chunked")]])
moves = st.lists(st.sampled_from(["begin", "body", "end", "hear", "hear", "hear"]), max_size=12)
switching = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]


def poll_all(exchange: Exchange, n_most: int) -> list[object]:
    """What can be said now; a BadAnswer is the last of it."""
    said: list[object] = []
    while True:
        assert len(said) <= n_most, "a parser that gives events for ever"
        try:
            step = exchange.poll()
        except BadAnswer:
            return [*said, BadAnswer]
        said.append(step)
        if step is Step.NEED_DATA or step is Step.END or isinstance(step, Switched):
            return said


@given(methods, framings, st.booleans(), answers, moves)
@example("CONNECT", [], False, [ANSWERS[3], b"more"], ["begin", "end", "hear", "hear"])
@example("GET", [], True, [ANSWERS[2], b"more"], ["begin", "end", "hear", "hear"])
@example("GET", [], False, [ANSWERS[0]] * 6, ["begin", "end", *["hear"] * 6])
def test_every_order_of_an_answer_comes_to_an_end(
    method: str, framing: list[tuple[bytes, bytes]], may_switch: bool, answer: list[bytes], order: list[str]
) -> None:
    headers = [HOST, *framing, *(switching if may_switch else [])]
    exchange = Exchange(method, b"/", headers, may_switch=may_switch)
    waiting: list[bytes] = list(answer)
    said: list[object] = []
    for move in [*order, *["hear"] * len(answer), "hear"]:
        try:
            if move == "begin":
                assert exchange.begin().startswith(method.encode())
            elif move == "body":
                exchange.send_body(b"abc")
            elif move == "end":
                exchange.end_request()
        except BadRequest:
            continue
        if move == "hear":
            data = waiting.pop(0) if waiting else b""
            exchange.handle_data(data)
            said = poll_all(exchange, len(data) + sum(map(len, answer)) + 8)
            if said[-1] is not Step.NEED_DATA:
                break
    assert said[-1] is not Step.NEED_DATA, "the app has gone, and its answer is waited for"
    heads = [step for step in said if isinstance(step, Head)]
    assert len(heads) <= 1
    assert all(200 <= head.status < 1000 for head in heads)
    assert may_switch or not any(isinstance(step, Switched) for step in said)
    assert not (exchange.is_over and waiting and said[-1] is BadAnswer)


class App:
    """A stream that says what it is told to, then nothing more."""

    def __init__(self, answer: list[bytes]) -> None:
        self._answer = [data for data in answer if data]
        self.n_reads = 0

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.n_reads += 1
        assert self.n_reads < 50, "an app that has gone is read from for ever"
        return self._answer.pop(0) if self._answer else b""


@given(methods, framings, answers)
@example("CONNECT", [], [ANSWERS[3], b"more"])
def test_every_relaying_ends_and_sends_a_well_formed_answer_or_none(
    method: str, framing: list[tuple[bytes, bytes]], answer: list[bytes]
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    async def receive() -> Message:
        await trio.sleep_forever()
        raise AssertionError

    async def relay() -> None:
        scope = {"method": method, "headers": [HOST, *framing]}
        relaying = Relaying(scope, b"/", Hop("192.0.2.1", "http"))
        with trio.fail_after(5):
            try:
                await relaying.run(App(answer), receive, send)  # type: ignore[arg-type]
            except BadAnswer:
                assert sent == []

    trio.run(relay)
    kinds = [message["type"] for message in sent]
    assert kinds == ["http.response.start"][: len(kinds)] + ["http.response.body"] * (len(kinds) - 1)
    ends = [message for message in sent if message.get("more_body") is False]
    assert ends == sent[-1:] or not ends


@given(st.lists(st.binary(max_size=20), max_size=6), st.booleans())
def test_a_connection_of_frames_has_no_other_events_and_ends_with_a_close(
    data: list[bytes], is_client: bool
) -> None:
    wire = Connection(ConnectionType.CLIENT if is_client else ConnectionType.SERVER)
    for piece in data:
        wire.receive_data(piece)
        for _ in range(2 * len(piece) + 2):
            if (event := next_frame(wire)) is None or isinstance(event, events.CloseConnection):
                break
        else:
            pytest.fail("a parser that gives events for ever")
        if isinstance(event, events.CloseConnection):
            assert next_frame(wire) is None
            break


def test_all_that_the_parsers_have_is_looked_at() -> None:
    known = set(Event.__args__)
    assert {kind for kind in subclasses(h11.Event) if kind.__module__.startswith("h11")} - known == {
        h11._events._ResponseBase
    }
    handshakes = {events.Request, events.AcceptConnection, events.RejectConnection, events.RejectData}
    assert set(subclasses(events.Event)) - set(FrameEvent.__args__) - handshakes == {events.Message}
    assert {Head, Piece, Switched} < set(Exchange.poll.__annotations__["return"].__args__)


def subclasses(kind: type[Any]) -> list[type[Any]]:
    return [each for below in kind.__subclasses__() for each in (below, *subclasses(below))]
