import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio

from coderd.metrics import Counters
from coderd.model.errors import Exit, UserError
from coderd.model.paths import Pin
from coderd.speedtest.io import streams
from coderd.speedtest.io.client import SpeedtestRun, run_test
from coderd.speedtest.io.server import MAX_STRANGERS, serve_speedtest
from coderd.speedtest.plan import Direction, encode, start_request
from coderd.speedtest.tally import Interval, overall


class Pins:
    """Records which paths were held, and which still are."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Pin]] = []
        self.n_held = 0

    @contextmanager
    def __call__(self, peer: str, path: Pin) -> Iterator[None]:
        self.taken.append((peer, path))
        self.n_held += 1
        try:
            yield
        finally:
            self.n_held -= 1


def name_of(ip: str) -> str | None:
    return f"peer at {ip}"


@asynccontextmanager
async def served(
    pins: Pins | None = None,
    authorise: Callable[[str], str | None] = name_of,
    counters: Counters | None = None,
    proves: Callable[[str, str], Awaitable[bool]] | None = None,
) -> AsyncIterator[int]:
    """A speed test service on loopback; its port."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(
            partial(serve_speedtest, listeners, authorise, pins or Pins(), proves=proves, counters=counters)
        )
        with trio.fail_after(30):
            yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def measure(
    port: int,
    duration: float,
    direction: Direction = Direction.DOWN,
    on_row: Callable[[Interval], None] = lambda row: None,
) -> SpeedtestRun:
    return await trio.to_thread.run_sync(
        partial(
            run_test, "127.0.0.1", port, duration=duration, direction=direction, path=Pin.RELAY, on_row=on_row
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("direction", list(Direction))
async def test_bytes_move_both_ways_and_rows_come_while_they_do(direction: Direction) -> None:
    pins, live = Pins(), list[Interval]()
    async with served(pins) as port:
        run = await measure(port, 1.2, direction, live.append)
    total = overall(run.rows)
    assert 1.15 < total.end < 3.0
    assert total.n_bytes > 10_000_000
    assert live == [run.rows[0]]
    assert 1.0 <= run.rows[0].end < 1.2
    assert pins.taken == [("peer at 127.0.0.1", "relay")]
    assert pins.n_held == 0


@pytest.mark.slow
async def test_an_upload_counts_what_the_receiver_acknowledged() -> None:
    n_received = 0

    async def sink(stream: trio.SocketStream) -> None:
        nonlocal n_received
        await stream.receive_some(4096)
        await stream.send_all(b"{}\n")
        async for chunk in stream:
            n_received += len(chunk)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, sink, listeners)
        run = await measure(listeners[0].socket.getsockname()[1], 0.3, Direction.UP)
        nursery.cancel_scope.cancel()
    assert overall(run.rows).n_bytes == n_received


@pytest.mark.slow
async def test_one_test_follows_another_and_a_second_at_once_is_refused() -> None:
    async with served() as port:
        await measure(port, 0.1)
        await measure(port, 0.1)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(encode(start_request(60.0, Direction.DOWN, Pin.ANY)))
            assert await stream.receive_some(3) == b"{}\n"
            with pytest.raises(UserError, match="another speed test"):
                await measure(port, 0.1)


async def test_a_stranger_gets_nothing() -> None:
    counters = Counters()
    async with served(authorise=lambda ip: None, counters=counters) as port:
        with pytest.raises(UserError):
            await measure(port, 0.2)
    assert counters["speedtest.refused"] == 1


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b'{"version":1,"time":1000000000,"direction":0}\n', b"version"),
        (b'{"version":2,"time":1,"direction":0}', b"seconds"),
        (b"GET / HTTP/1.1\r\n" * 300, b""),
        (b"{" * 5000, b""),
    ],
)
async def test_a_bad_request_is_answered_or_dropped_and_counted(sent: bytes, said: bytes) -> None:
    counters = Counters()
    async with served(counters=counters) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            answer = b""
            with suppress(trio.BrokenResourceError):  # unread bytes reset the connection
                await stream.send_all(sent)
                answer = b"".join([chunk async for chunk in stream])
        assert said in answer
        assert bool(said) == bool(answer)
    assert counters["speedtest.refused"] + counters["speedtest.drop.malformed"] == 1


@pytest.mark.slow
async def test_a_client_that_goes_away_frees_the_path_and_the_worker() -> None:
    pins = Pins()
    async with served(pins) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(encode(start_request(60.0, Direction.DOWN, Pin.ANY)))
            assert await stream.receive_some(3) == b"{}\n"
            assert pins.n_held == 1
        run = await measure(port, 0.1)
    assert overall(run.rows).n_bytes > 0


@pytest.mark.slow
async def test_a_daemon_that_ends_takes_its_worker_along(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[trio.Process] = []
    start = trio.lowlevel.open_process

    async def remember(*args: Any, **options: Any) -> trio.Process:
        workers.append(await start(*args, **options))
        return workers[-1]

    monkeypatch.setattr(trio.lowlevel, "open_process", remember)
    async with served() as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(encode(start_request(60.0, Direction.DOWN, Pin.ANY)))
        await stream.receive_some(3)
    assert [worker.returncode is not None for worker in workers] == [True]
    await stream.aclose()


async def test_nobody_at_the_port_is_no_path() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UserError) as caught:
        await measure(port, 0.2)
    assert caught.value.exit_code is Exit.NO_PATH


@pytest.mark.parametrize("answer", [b"", b"nonsense\n", b"x" * 9000, b'{"error":"go away"}\n', b"{}\n"])
async def test_a_server_that_misbehaves_gets_one_sentence(answer: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(answer)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        with trio.fail_after(10), pytest.raises(UserError, match=r"broke off|go away"):
            await measure(listeners[0].socket.getsockname()[1], 0.5)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_transfer_that_stalls_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STALL_TIMEOUT", 0.2)
    left, right = socket.socketpair()
    with left, right:
        with pytest.raises(streams.StreamBroken, match="nothing came"):
            streams.receive(left, limit=10, progress=lambda n_bytes, now: None)
        right.close()


def test_the_worker_needs_no_trio() -> None:
    check = "import sys, coderd.speedtest.io.worker; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False, timeout=10).returncode == 0


async def test_connections_that_say_nothing_keep_nobody_from_a_speed_test() -> None:
    async with served(counters=(counters := Counters())) as port, AsyncExitStack() as stack:
        stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
        for _ in range(2 * MAX_STRANGERS):
            silent = await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2")
            await stack.enter_async_context(silent)
        await stream.send_all(encode(start_request(0.1, Direction.DOWN, Pin.ANY)))
        assert (await stream.receive_some(3)).startswith(b"{}")
        assert counters["speedtest.tests"] == 1


async def test_a_speed_test_is_for_those_who_show_what_the_peers_daemon_told() -> None:
    async def proves(peer: str, shown: str) -> bool:
        await trio.lowlevel.checkpoint()
        return shown == "5e" * 32

    async with served(proves=proves) as port:
        for secret, wanted in (("", b'{"error":"the machine'), ("5e" * 32, b"{}")):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                request = start_request(0.1, Direction.DOWN, Pin.ANY, secret)
                assert "5e5e" not in repr(request)
                await stream.send_all(encode(request))
                assert (await stream.receive_some(1000)).startswith(wanted)
