"""One port for everything, and what hostile clients get from it."""

import logging
import os
import ssl
from functools import partial

import pytest
import trio
import trio.testing
import trustme
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs
from trio_websocket import open_websocket_url

from coderd.http.dialer import dial, read_response_head
from coderd.http.head import MAX_FIELDS
from coderd.http.relay_routes import refuse_derp
from coderd.http.server import serve_http
from coderd.http.tls import TlsListener
from coderd.metrics import Counters
from tests.shell.derp_world import A, Server, serving


async def ask(server: Server, request: bytes) -> tuple[int, bytes]:
    """One request on a fresh connection; the answer's status and whole text."""
    stream = await server.dial()
    with trio.fail_after(30):
        await stream.send_all(request)
        return await answer_of(stream)


async def answer_of(stream: trio.abc.Stream) -> tuple[int, bytes]:
    received = b""
    try:
        while data := await stream.receive_some():
            received += data
    except trio.BrokenResourceError:
        pass
    await stream.aclose()
    return int(received.split(b" ", 2)[1]) if received else 0, received


def get(path: str, *fields: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *fields, "", ""]
    return "\r\n".join(lines).encode()


async def test_the_app_answers_and_sees_the_clients_address() -> None:
    async with serving() as server:
        status, text = await ask(server, get("/hello"))
        assert status == 200
        assert text.endswith(b"hello 127.0.0.1")


async def test_a_relays_http_surface_is_complete() -> None:
    async with serving() as server:
        status, text = await ask(server, get("/derp"))
        assert status == 426
        assert text.endswith(b"\r\n\r\nDERP requires connection upgrade\n")
        for path in ("/derp/probe", "/derp/latency-check"):
            for method in ("GET", "HEAD"):
                status, text = await ask(server, get(path, method=method))
                assert status == 200
                assert b"access-control-allow-origin: *" in text.lower()
            status, text = await ask(server, get(path, method="DELETE"))
            assert status == 405
            assert b"bogus probe method" in text
        status, text = await ask(server, get("/generate_204", "X-Tailscale-Challenge: a.B:c_d-9"))
        assert status == 204
        assert b"x-tailscale-response: response a.b:c_d-9" in text.lower()
        assert b"no-cache, no-store, must-revalidate, no-transform, max-age=0" in text
        for bad in ("a b", "x" * 65, "é"):
            status, text = await ask(server, get("/generate_204", f"X-Tailscale-Challenge: {bad}"))
            assert status == 204
            assert b"x-tailscale-response" not in text.lower()


async def test_an_upgrade_on_a_kept_alive_connection_is_sent_to_a_new_one() -> None:
    async with serving() as server:
        stream = await server.dial()
        await stream.send_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        answer, body = await read_response_head(stream)
        while not body.endswith(b"127.0.0.1"):
            body += await stream.receive_some()
        assert answer.status == 200
        await stream.send_all(
            b"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n"
        )
        status, text = await answer_of(stream)
        assert status == 426
        assert b"connection: close" in text.lower()


async def test_a_websocket_echoes_beside_the_relay() -> None:
    async with serving() as server:
        link = await server.link(A)
        async with open_websocket_url(f"ws://127.0.0.1:{server.port}/echo") as websocket:
            for message in ("hello", "x" * 100_000):
                await websocket.send_message(message)
                assert await websocket.get_message() == message
        await link.aclose()


WEBSOCKET = (
    b"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: derp\r\n"
)


async def test_a_relays_websocket_on_a_kept_alive_connection_is_sent_to_a_new_one() -> None:
    async with serving() as server:
        stream = await server.dial()
        await stream.send_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        _, body = await read_response_head(stream)
        while not body.endswith(b"127.0.0.1"):
            body += await stream.receive_some()
        await stream.send_all(WEBSOCKET + b"Sec-WebSocket-Version: 13\r\n\r\n")
        status, text = await answer_of(stream)
        assert status == 426
        assert b"connection: close" in text.lower()


async def test_a_relays_websocket_of_another_version_is_told_ours() -> None:
    async with serving() as server:
        status, text = await ask(server, WEBSOCKET + b"Sec-WebSocket-Version: 8\r\n\r\n")
        assert status == 400
        assert b"Sec-WebSocket-Version: 13" in text


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000, 431),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"\0" * 100_000, 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
async def test_hostile_heads_are_refused_without_a_word_in_the_log(
    request_bytes: bytes, status: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving() as server:
        assert (await ask(server, request_bytes))[0] == status
        assert (await ask(server, get("/hello")))[0] == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("start", [b"", b"GET / HT"])
async def test_a_slow_head_is_given_ten_seconds(start: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as server:
        stream = await server.dial()
        if start:
            await stream.send_all(start)
        began = trio.current_time()
        assert (await answer_of(stream))[1] == b""
        assert 9 < trio.current_time() - began < 11
        assert server.counters["http.drop.slow_head"] == 1


async def test_strangers_make_room_for_newcomers_and_whoever_is_known_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coderd.http.server.MAX_STRANGERS", 3)
    async with serving() as server:
        link = await server.link(A)
        async with open_websocket_url(f"ws://127.0.0.1:{server.port}/echo") as websocket:
            await websocket.send_message("a")
            assert await websocket.get_message() == "a"
            strangers = [await server.dial() for _ in range(4)]
            with trio.fail_after(5):
                assert (await answer_of(strangers[0]))[1] == b""
            assert server.counters["http.drop.stranger"] == 1
            assert (await ask(server, get("/hello")))[0] == 200
            await websocket.send_message("b")
            assert await websocket.get_message() == "b"
            assert A.public() in server.relay.stats()
        for stream in strangers:
            await stream.aclose()
        await link.aclose()


async def test_who_opens_very_many_connections_costs_other_addresses_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coderd.http.server.MAX_STRANGERS", 3)
    async with serving() as server:
        other = trio.socket.socket()
        await other.bind(("127.0.0.2", 0))
        await other.connect(("127.0.0.1", server.port))
        stranger = trio.SocketStream(other)
        flood = [await server.dial() for _ in range(10)]
        with trio.fail_after(5):
            for stream in flood[:8]:
                assert (await answer_of(stream))[1] == b""
            assert server.counters["http.drop.stranger"] == 8
            await stranger.send_all(get("/hello"))
            assert (await answer_of(stranger))[0] == 200
        for stream in flood:
            await stream.aclose()


@pytest.mark.parametrize("before", [b"", b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_head_of_very_many_fields_is_refused(before: bytes) -> None:
    def fields(number: int) -> list[str]:
        return [f"a{index}:" for index in range(number)]

    async with serving() as server:
        _, text = await ask(server, before + get("/hello", *fields(MAX_FIELDS - 2)))
        assert text.count(b"HTTP/1.1 200 ") == 1 + bool(before)
        _, text = await ask(server, before + get("/hello", *fields(MAX_FIELDS + 1)))
        assert text.count(b"HTTP/1.1 431 ") == 1
        assert text.count(b"HTTP/1.1 200 ") == bool(before)


async def test_nothing_more_is_answered_to_who_is_gone() -> None:
    """Hypercorn reads 64 KiB, which may be a thousand requests, and works them off whoever is there."""
    begun, go_on, n_asked = trio.Event(), trio.Event(), 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal n_asked
        n_asked += 1
        begun.set()
        await go_on.wait()
        await PlainTextResponse("here")(scope, receive, send)

    counters = Counters()
    async with trio.open_nursery() as nursery:
        (listener, *_) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        await nursery.start(partial(serve_http, derp=refuse_derp, counters=counters), [listener], app)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 900)
        await begun.wait()
        await stream.aclose()
        go_on.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert counters["http.connections.closed"] == 1
        assert n_asked < 5
        nursery.cancel_scope.cancel()


async def test_http2_is_declined_and_http1_goes_on() -> None:
    async with serving() as server:
        status, text = await ask(
            server,
            get("/hello", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA").replace(
                b"close", b"Upgrade, HTTP2-Settings, close"
            ),
        )
        assert (status, text[-15:]) == (200, b"hello 127.0.0.1")


async def test_an_app_that_fails_answers_500_and_is_logged() -> None:
    with capture_logs() as logs:
        async with serving() as server:
            assert (await ask(server, get("/fail")))[0] == 500
            assert (await ask(server, get("/hello")))[0] == 200
    assert [(entry["event"], entry["path"]) for entry in logs] == [("http.app_failed", "/fail")]


@pytest.mark.parametrize(
    "rest", [b"GET / HTTP/1.1\r\n", b"\x81\x80aaaa" * 100, b"a" * 10], ids=["request", "frames", "text"]
)
async def test_a_clients_nonsense_behind_its_request_is_no_error_of_the_server(rest: bytes) -> None:
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    head = get("/no-such", *fields, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Content-Length: 3")
    head = head.replace(b"Connection: close\r\n", b"")
    with capture_logs() as logs:
        async with serving() as server:
            for _ in range(5):
                await ask(server, head + rest)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == []


async def test_a_body_that_nobody_reads_does_not_hold_the_connection() -> None:
    async with serving() as server:
        stream = await server.dial()
        await stream.send_all(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await stream.send_all(bytes(100_000_000))
        await stream.aclose()
        assert (await ask(server, get("/hello")))[0] == 200


async def test_shutdown_aborts_a_client_that_takes_nothing() -> None:
    with trio.fail_after(5):
        async with serving() as server:
            stream = await server.dial()
            await stream.send_all(get("/endless"))
            await stream.receive_some()
            await trio.testing.wait_all_tasks_blocked(0.05)
    await stream.aclose()


async def test_a_client_that_takes_nothing_is_given_thirty_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as server:
        stream = await server.dial()
        await stream.send_all(get("/endless"))
        await stream.receive_some(1)
        await trio.sleep(31)
        assert server.counters["http.connections.closed"] == 1
        await stream.aclose()


async def test_https_and_websockets_work_over_tls() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    async with serving(wrap=lambda tcp: TlsListener(tcp, lambda: server_context)) as server:
        stream = await dial("127.0.0.1", server.port, tls=client_context, server_name="localhost")
        await stream.send_all(get("/hello"))
        assert (await answer_of(stream))[1].endswith(b"hello 127.0.0.1")
        async with open_websocket_url(f"wss://localhost:{server.port}/echo", client_context) as websocket:
            await websocket.send_message("secret")
            assert await websocket.get_message() == "secret"


async def test_a_proxy_is_asked_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        seen.append(bytes(await stream.receive_some()))
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        assert await stream.receive_some() == b"knock"
        await stream.send_all(b"through")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, proxy, 0, host="127.0.0.1"))
        monkeypatch.setenv(
            "http_proxy", f"http://me:pass%20word@127.0.0.1:{listener.socket.getsockname()[1]}"
        )
        monkeypatch.setenv("no_proxy", "direct.example")
        stream = await dial("relay.example", 3000)
        await stream.send_all(b"knock")
        assert await stream.receive_some() == b"through"
        await stream.aclose()
        nursery.cancel_scope.cancel()
    assert seen == [
        b"CONNECT relay.example:3000 HTTP/1.1\r\nHost: relay.example:3000\r\n"
        b"Proxy-Authorization: Basic bWU6cGFzcyB3b3Jk\r\n\r\n"
    ]


@pytest.mark.parametrize("url", ["http://proxy:port", "http://[proxy:3128"])
async def test_a_proxy_that_is_no_url_is_an_error_of_the_network(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(OSError, match="is not a valid URL"):
        await dial("server.example", 80)


async def test_garbage_of_all_sizes_leaves_the_port_standing() -> None:
    async with serving() as server:
        for size in (1, 17, 4096, 70_000):
            stream = await server.dial()
            await stream.send_all(os.urandom(size))
            await stream.send_eof()
            await answer_of_any(stream)
        assert (await ask(server, get("/hello")))[0] == 200


async def answer_of_any(stream: trio.abc.Stream) -> None:
    with trio.fail_after(20):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
    await stream.aclose()
