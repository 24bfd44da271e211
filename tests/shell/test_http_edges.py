"""Requests and answers that are none of ordinary HTTP: refused with the status they deserve, before anything is dialled."""

from contextlib import suppress

import pytest
import trio

from coderd.identity.apps import App, AppShare
from tests.shell.apps_world import ANNS, HOST, World, world

MINE = "/@ann/dev/apps/9000/"
OWN_HOST = HOST.replace("8080", "9000")
EXTRAORDINARY = ["CONNECT", "connect", "TRACE", "PRI", "FOO", "X" * 200]
BOTH_LENGTHS = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"


async def status_of(here: World, request: bytes) -> tuple[int, bytes]:
    """The first answer's status, and all that came; 0 where nothing did."""
    seen = b""
    with trio.fail_after(10), suppress(trio.BrokenResourceError):
        async with await trio.open_tcp_stream("127.0.0.1", here.port) as stream:
            await stream.send_all(request)
            await stream.send_eof()
            while data := await stream.receive_some():
                seen += data
    return (int(seen.split(b" ", 2)[1]) if seen else 0), seen


async def never(stream: trio.SocketStream) -> None:
    """An app that agrees to whatever it is asked."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nmore" * 3)


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize(("host", "path"), [("x", MINE), (OWN_HOST, "/"), ("x", "/"), (OWN_HOST, OWN_HOST)])
async def test_a_method_that_is_none_of_ordinary_http_is_refused_before_anything_is_dialled(
    host: str, path: str, first: bytes
) -> None:
    async with world() as here:
        here.people.apps["9000"] = App("9000", 9000, AppShare.PUBLIC)
        await here.serve(9000, never)
        for method in EXTRAORDINARY:
            request = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            _, seen = await status_of(here, first + request)
            answer = seen[seen.rindex(b"HTTP/1.1 ") :]
            assert answer.startswith(b"HTTP/1.1 405 "), seen
            assert b"allow: get, head, post" in answer.lower()
        assert here.people.n_dialled == 0
        assert (await status_of(here, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))[0] == 200


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + b"HTTP/1.1 204 None\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        b"HTTP/1.1 000 No\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("is_asked", [True, False], ids=["when asked", "unasked"])
async def test_an_apps_malformed_answer_is_502_and_never_500(
    said: bytes, is_asked: bool, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            if is_asked:
                await stream.receive_some()
            await stream.send_all(said)
            while await stream.receive_some():
                pass

    async with world() as here, here.client() as client:
        await here.serve(9000, serve)
        for method in ("GET", "HEAD", "POST", "MKCOL"):
            assert (await client.request(method, MINE)).status_code == 502
        assert here.people.n_open == 0
    assert "Traceback" not in "".join(capfd.readouterr()) + caplog.text


async def test_an_app_that_answers_unasked_is_heard() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            while await stream.receive_some():
                pass

    async with world() as here, here.client() as client:
        await here.serve(9000, serve)
        assert (await client.get(MINE)).text == "ok"


async def test_a_request_of_http_1_0_without_a_host_is_400_toward_an_app() -> None:
    async with world() as here:
        await here.serve(9000, never)
        request = f"GET {MINE} HTTP/1.0\r\nAuthorization: Bearer {ANNS}\r\n\r\n".encode()
        assert (await status_of(here, request))[0] == 400
        assert here.people.n_dialled == 0


def faulty(fields: bytes, body: bytes = b"", line: bytes = b"POST P HTTP/1.1") -> bytes:
    """Ann's request to an app."""
    head = line.replace(b" P ", f" {MINE} ".encode()) + b"\r\nHost: x\r\n"
    return head + f"Authorization: Bearer {ANNS}\r\n".encode() + fields + b"\r\n" + body


FAULTY = {
    "both lengths": faulty(BOTH_LENGTHS, b"0\r\n\r\n"),
    "both lengths, by websocket": faulty(
        BOTH_LENGTHS + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        line=b"GET P HTTP/1.1",
    ),
    "two lengths": faulty(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"12345"),
    "a list of lengths": faulty(b"Content-Length: 5, 6\r\n", b"12345"),
    "a signed length": faulty(b"Content-Length: +5\r\n", b"12345"),
    "chunks in HTTP/1.0": faulty(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"POST P HTTP/1.0"),
    "no colon": faulty(b"no colon here\r\n"),
    "a space before the colon": faulty(b"A : b\r\n"),
    "NUL in a field": faulty(b"A: b\0c\r\n"),
    "NUL in a name": faulty(b"A\0B: c\r\n"),
    "a lone CR": faulty(b"A: b\rc\r\n"),
    "no size of a chunk": faulty(b"Transfer-Encoding: chunked\r\n", b"xyz\r\n"),
    "a chunk without end": faulty(b"Transfer-Encoding: chunked\r\n", b"2\r\nabcdef\r\n0\r\n\r\n"),
    "a negative chunk": faulty(b"Transfer-Encoding: chunked\r\n", b"-2\r\nab\r\n0\r\n\r\n"),
    "a huge size of a chunk": faulty(b"Transfer-Encoding: chunked\r\n", b"f" * 40 + b"\r\n"),
}


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
@pytest.mark.parametrize("request_bytes", FAULTY.values(), ids=FAULTY.keys())
async def test_a_request_whose_framing_is_in_doubt_is_400_and_never_500(
    request_bytes: bytes, first: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with world() as here:
        await here.serve(9000, never)
        _, seen = await status_of(here, first + request_bytes)
        answer = seen[seen.rindex(b"HTTP/1.1 ") :]
        assert answer[9:12] == b"400", answer
    assert "Traceback" not in "".join(capfd.readouterr()) + caplog.text
