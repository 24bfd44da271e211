"""What can be seen of a server from outside: health, readiness, metrics, and its own way to itself."""

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from coderd.api.health import HealthReport
from coderd.api.messages import parse_message
from coderd.cli.coderctl import build_app
from coderd.cli.shell import run_app
from coderd.config.url import parse_server_url
from coderd.derp.io.websocket import WebSocketStream
from coderd.http.dialer import read_response_head
from coderd.http.head import find_head_end
from coderd.http.ws_handshake import make_key
from coderd.model.errors import Exit
from coderd.model.keys import NodePrivate
from coderd.server.health import checks
from coderd.server.health.access_check import MAX_ECHO, AccessCheck
from coderd.server.health.findings import AccessTrials
from tests.shell.server_world import ANYWHERE, JoinedNode, World, in_thread, serving

CUSTOM = "HTTP/1.1 {status}\r\nServer: oldproxy/1.0\r\nVia: 1.1 gate\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def report_of(world: World) -> HealthReport:
    answer = await world.ask("GET", "/api/v1/health", world.admin_token)
    assert answer.status_code == 200
    return parse_message(HealthReport, answer.content)


async def go_through(port: int, instance: str, *, host: str = "127.0.0.1") -> AccessTrials:
    url = parse_server_url(f"http://{host}:{port}")
    return await AccessCheck(url, instance, has_relay=True, unix_clock=lambda: 0.0).run()


async def instance_of(world: World) -> str:
    return (await world.ask("GET", "/healthz")).headers["coderd-instance"]


@asynccontextmanager
async def proxy_without(upgrade: bytes, target: int) -> AsyncIterator[int]:
    """A proxy that hands everything on, and answers 426 itself to one kind of upgrade. Its port."""

    async def handle(client: trio.SocketStream) -> None:
        head = b""
        while find_head_end(head) < 0:
            head += await client.receive_some()
        if b"upgrade: " + upgrade in head.lower():
            await client.send_all(CUSTOM.format(status="426 Upgrade Required").encode())
            return
        async with await trio.open_tcp_stream("127.0.0.1", target) as server, trio.open_nursery() as nursery:
            await server.send_all(head)
            nursery.start_soon(pump, client, server, nursery.cancel_scope)
            nursery.start_soon(pump, server, client, nursery.cancel_scope)

    async def pump(one: trio.SocketStream, other: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in one:
                await other.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_the_server_reaches_itself_by_http_websocket_and_derp(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        found = await go_through(world.started.http_address[1], await instance_of(world))
    assert not found.is_other
    assert found.http.error == ""
    assert found.websocket is not None
    assert found.websocket.error == ""
    assert found.derp is not None
    assert found.derp.error == ""
    assert found.derp_websocket is None


async def test_a_proxy_that_holds_derp_back_is_named_and_the_websocket_still_counts(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, proxy_without(b"derp", world.started.http_address[1]) as port:
        found = await go_through(port, await instance_of(world))
    assert found.derp is not None
    assert found.derp.error == "the upgrade is answered with status 426"
    assert found.derp.middlebox == "oldproxy/1.0 via 1.1 gate"
    assert found.derp_websocket is not None
    assert found.derp_websocket.error == ""


async def test_a_proxy_that_holds_websockets_back_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, proxy_without(b"websocket", world.started.http_address[1]) as port:
        found = await go_through(port, await instance_of(world))
    assert found.websocket is not None
    assert found.websocket.middlebox == "oldproxy/1.0 via 1.1 gate"
    assert found.derp is not None
    assert found.derp.error == ""


async def test_another_server_at_the_access_url_is_not_taken_for_this_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        found = await go_through(world.started.http_address[1], "0" * 32)
    assert found.is_other
    assert found.websocket is None


async def test_an_access_url_where_nobody_listens_is_a_finding_with_a_fix(tmp_path: Path) -> None:
    url = parse_server_url("http://127.0.0.1:9")
    async with serving(tmp_path, access_url=url) as world:
        report = await report_of(world)
    (finding,) = report.findings
    assert (report.severity, finding.code) == ("error", "EACS03")
    assert "Connection refused" in finding.message


async def test_only_who_manages_the_server_sees_health_and_metrics(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        member = await world.add_user("ann")
        for path in ("/api/v1/health", "/metrics"):
            assert (await world.ask("GET", path)).status_code == 401
            assert (await world.ask("GET", path, "cdrs_wrong")).status_code == 401
            assert (await world.ask("GET", path, member)).status_code in (401, 403)
            assert (await world.ask("GET", path, world.admin_token)).status_code == 200


async def test_a_loopback_proxy_is_not_taken_for_somebody_who_may_see_metrics(tmp_path: Path) -> None:
    """A stranger's request that a proxy on the same host hands on looks like a local one."""
    async with serving(tmp_path) as world:
        answer = await world.ask("GET", "/metrics", headers={"host": "127.0.0.1"})
    assert answer.status_code == 401


async def test_metrics_count_nodes_refusals_and_the_relay(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        await world.ask("GET", "/metrics")
        text = (await world.ask("GET", "/metrics", world.admin_token)).text
    lines = text.splitlines()
    assert 'coderd_nodes_online{kind="workspace"} 0.0' in lines
    assert "coderd_tunnels 0.0" in lines
    assert 'coderd_relay_bytes_total{region="coder"} 0.0' in lines
    assert any(line.startswith('coderd_server_events_total{event="http.connections"}') for line in lines)


async def test_prometheus_has_an_address_of_its_own_if_it_is_given_one(tmp_path: Path) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}")
    async with serving(tmp_path, prometheus_address=("127.0.0.1", port)), client:
        assert "coderd_nodes_online" in (await client.get("/metrics")).text
        assert (await client.get("/healthz")).status_code == 404


async def test_a_server_is_ready_while_database_and_stun_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "KEEP", 0.0)
    monkeypatch.setattr("coderd.stun.io.ROUND_TRIP_TRIES", (0.05,))
    async with serving(tmp_path, stun_addresses=(ANYWHERE,)) as world:
        assert (await world.ask("GET", "/readyz")).json() == {"status": "ready"}
        with closing(sqlite3.connect(world.config.state_dir / "identity.db")) as database:
            database.execute("ALTER TABLE audit RENAME TO gone")
        answer = await world.ask("GET", "/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "the database does not answer"}


@asynccontextmanager
async def echo_of(world: World) -> AsyncIterator[WebSocketStream]:
    """A WebSocket that nobody had to be known for."""
    request = (
        f"GET /healthz/ws HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {make_key(bytes)}\r\n\r\n"
    )
    async with await trio.open_tcp_stream("127.0.0.1", world.started.http_address[1]) as stream:
        await stream.send_all(request.encode())
        head, leftover = await read_response_head(stream)
        assert head.status == 101
        yield WebSocketStream(stream, is_client=True, leftover=leftover)


async def test_the_echo_gives_a_stranger_one_short_message_and_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        async with echo_of(world) as socket:
            await socket.send_all(bytes(MAX_ECHO + 1))
            assert await socket.receive_some() == b""
        async with echo_of(world) as socket:
            await socket.send_all(b"once")
            assert await socket.receive_some() == b"once"
            assert await socket.receive_some() == b""


async def test_coderctl_health_ends_with_1_where_something_does_not_work(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with serving(tmp_path, access_url=parse_server_url("http://127.0.0.1:9")) as world:
        token = tmp_path / "token"
        token.write_text(world.admin_token)
        arguments = ["health", "--url", world.url, "--token-file", str(token)]
        assert await in_thread(partial(run_app, build_app(), "coderctl", arguments)) == Exit.FAILED
        assert b"error  EACS03" in capfdbinary.readouterr().out
        assert (
            await in_thread(partial(run_app, build_app(), "coderctl", [*arguments, "--json"])) == Exit.FAILED
        )
        out = capfdbinary.readouterr().out
    report = parse_message(HealthReport, out[out.index(b"{") :])
    assert [finding.code for finding in report.findings] == ["EACS03"]


async def test_a_node_that_joins_shows_in_the_metrics(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        key = NodePrivate.generate(os.urandom)
        node = JoinedNode(await world.enrol(key), key)
        nursery.start_soon(node.client(world.url).run)
        await node.until(lambda node: node.netmap is not None)
        lines = (await world.ask("GET", "/metrics", world.admin_token)).text.splitlines()
        assert 'coderd_nodes_online{kind="device"} 1.0' in lines
        assert 'coderd_server_events_total{event="coordination.updates.received"} 1.0' in lines
        nursery.cancel_scope.cancel()
