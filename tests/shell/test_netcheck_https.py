"""Latency by HTTP and HTTPS on real loopback sockets, on a clock that the test turns."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trustme

from coderd.model.derpmap import DerpNode, DerpRegion
from coderd.netcheck.io import TIMEOUT, https_latency

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Relay:
    """A server that answers each request with the same bytes, after a while."""

    def __init__(self, answer: bytes, delay: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._delay = delay
        self._tls = tls
        self.requests: list[bytes] = []

    async def serve(self, transport: trio.SocketStream) -> None:
        stream = trio.SSLStream(transport, self._tls, server_side=True) if self._tls else transport
        try:
            self.requests.append(bytes(await stream.receive_some(4096)))
            await trio.sleep(self._delay)
            await stream.send_all(self._answer)
            await stream.receive_some(1)
        except trio.BrokenResourceError:
            pass  # the client has gone, as it may
        finally:
            await trio.aclose_forcefully(transport)


@asynccontextmanager
async def listening(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def region(*nodes: DerpNode) -> DerpRegion:
    return DerpRegion(999, "coder", "Coder", nodes)


def plain(port: int) -> DerpNode:
    return DerpNode("999b", 999, "127.0.0.1", derp_port=port, force_http=True)


async def test_the_latency_is_that_of_the_request_alone() -> None:
    relay = Relay(OK)
    async with listening(relay.serve) as port:
        latency = await https_latency(region(plain(port)))
    assert latency is not None
    assert 0 <= latency < 5
    (request,) = relay.requests
    assert request.startswith(b"GET /derp/latency-check HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in request


async def test_a_slow_answer_is_a_long_latency(autojump_clock: trio.testing.MockClock) -> None:
    async with listening(Relay(OK, delay=0.75).serve) as port:
        latency = await https_latency(region(plain(port)))
    assert latency is not None
    assert latency >= 0.75


async def test_an_error_is_no_latency() -> None:
    async with listening(Relay(b"HTTP/1.1 404 Not Found\r\n\r\n").serve) as port:
        assert await https_latency(region(plain(port))) is None


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-hello\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
async def test_whatever_is_not_http_is_no_latency(
    answer: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with listening(Relay(answer).serve) as port:
        assert await https_latency(region(plain(port))) is None


async def test_endless_headers_are_not_read_to_their_end() -> None:
    async with listening(Relay(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000).serve) as port:
        assert await https_latency(region(plain(port))) is None


async def test_silence_is_no_latency_after_a_bounded_time(autojump_clock: trio.testing.MockClock) -> None:
    started_at = trio.current_time()
    async with listening(Relay(OK, delay=3600).serve) as port:
        assert await https_latency(region(plain(port))) is None
    assert trio.current_time() - started_at == pytest.approx(TIMEOUT)


async def test_a_dead_node_is_passed_over_for_the_next() -> None:
    async with listening(Relay(OK).serve) as port:
        dead = DerpNode("999a", 999, "127.0.0.1", derp_port=1, force_http=True)
        stun_only = DerpNode("999s", 999, "127.0.0.1", stun_only=True)
        assert await https_latency(region(stun_only, dead, plain(port))) is not None


async def test_a_region_without_a_relay_has_no_latency() -> None:
    assert await https_latency(region()) is None
    assert await https_latency(region(DerpNode("999x", 999, "127.0.0.1", ipv4="none", ipv6="none"))) is None


async def test_tls_is_held_to_the_relays_certificate() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    relay = Relay(OK, tls=context)
    async with listening(relay.serve) as port:
        unknown = DerpNode("999b", 999, "127.0.0.1", derp_port=port)
        trusted = DerpNode("999b", 999, "127.0.0.1", derp_port=port, insecure_for_tests=True)
        assert await https_latency(region(unknown)) is None
        assert await https_latency(region(trusted)) is not None
