"""The relay map of a running server: read at the start, read again when it changes, streamed to whoever is connected."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO

import pytest
import structlog
import trio

from coderd.config.derp import DerpOptions
from coderd.derp.io.client import DerpLink
from coderd.model.derpmap import DerpNode, DerpRegion
from coderd.model.errors import Exit, UserError
from coderd.model.keys import NodePrivate
from tests.shell.server_world import JoinedNode, World, in_thread, serving


def map_text(*numbers: int, host: str = "relay.example.com") -> str:
    regions = {
        str(number): {
            "RegionID": number,
            "RegionCode": f"r{number}",
            "Nodes": [{"Name": f"{number}a", "RegionID": number, "HostName": host}],
        }
        for number in numbers
    }
    return json.dumps({"Regions": regions})


def has(*numbers: int) -> Callable[[JoinedNode], bool]:
    return lambda node: node.netmap is not None and node.netmap.derp_map.regions.keys() == set(numbers)


@asynccontextmanager
async def joined(world: World) -> AsyncIterator[JoinedNode]:
    node = JoinedNode(await world.add_workspace("dev"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.client(world.url).run)
        await node.until(lambda node: node.netmap is not None)
        yield node
        nursery.cancel_scope.cancel()


async def counted(world: World, name: str) -> int:
    return (await in_thread(world.admin.counters)).counters.get(name, 0)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(10):
        while not await condition():
            pass  # it asks the server anew


async def test_a_connected_node_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(map_text(1))
    async with serving(tmp_path, derp=DerpOptions(map_path=path)) as world, joined(world) as node:
        await node.until(has(1, 999))
        path.write_text(map_text(2, 3))
        world.reloads.ask()
        await node.until(has(2, 3, 999))
        assert node.states[-1].connected
        assert len([state for state in node.states if state.connected]) == 1
        assert node.netmap is not None
        assert node.netmap.derp_map.regions[999].nodes[0].host_name == "127.0.0.1"


async def test_the_server_notices_a_new_file_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coderd.server.map_source.LOOK_INTERVAL", 0.01)
    path, other = tmp_path / "map.json", tmp_path / "other.json"
    path.write_text(map_text(1))
    async with serving(tmp_path, derp=DerpOptions(map_path=path)) as world, joined(world) as node:
        other.write_text(map_text(4))
        other.rename(path)
        await node.until(has(4, 999))


@pytest.mark.parametrize("text", ["{", map_text(1, host=""), map_text(999), None])
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(
    tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "map.json"
    path.write_text(map_text(1))
    async with serving(tmp_path, derp=DerpOptions(map_path=path)) as world, joined(world) as node:
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        with structlog.testing.capture_logs() as logs:
            for n_failed in (1, 2):
                world.reloads.ask()
                await until(lambda n=n_failed: is_counted(world, "derp_map.failed", n))  # type: ignore[misc]
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["derp_map_unusable"]
        assert has(1, 999)(node)
        path.write_text(map_text(2))
        world.reloads.ask()
        await node.until(has(2, 999))


async def is_counted(world: World, name: str, number: int) -> bool:
    return await counted(world, name) >= number


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be used: No such file or directory"),
        (map_text(1, host=""), "cannot be used: node '1a' of region 1 (r1) has an empty HostName"),
        (
            map_text(999),
            "cannot be used: region 999 (r999) has the number of the server's own region 'coder'",
        ),
    ],
)
async def test_no_server_starts_with_a_map_that_cannot_be_used(
    tmp_path: Path, text: str | None, sentence: str
) -> None:
    path = tmp_path / "map.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with serving(tmp_path, derp=DerpOptions(map_path=path)):
            pass
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UserError)
    assert error.exit_code is Exit.USAGE
    assert f"{path} {sentence}" in error.message


@dataclass
class MapServer:
    """A web server that answers everything with one text, or hangs up."""

    text: str | None = None
    url: str = ""
    n_asked: int = 0
    _listeners: list[trio.SocketListener] = field(default_factory=list)

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        self._listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._listeners[0].socket.getsockname()[1]}/derpmap/default"
        await trio.serve_listeners(self._answer, self._listeners, task_status=task_status)  # type: ignore[arg-type]

    async def _answer(self, stream: trio.SocketStream) -> None:
        self.n_asked += 1
        await stream.receive_some(65536)
        if self.text is not None:
            body = self.text.encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode() + body)
        await stream.aclose()


async def test_a_map_is_fetched_and_fetched_again_when_asked(tmp_path: Path, nursery: trio.Nursery) -> None:
    maps = MapServer(map_text(1))
    await nursery.start(maps.serve)
    options = DerpOptions(map_url=maps.url, has_relay=False)
    async with serving(tmp_path, derp=options, stun_addresses=()) as world, joined(world) as node:
        await node.until(has(1))
        maps.text = map_text(2)
        world.reloads.ask()
        await node.until(has(2))
        maps.text = None
        world.reloads.ask()
        await until(partial(is_counted, world, "derp_map.failed", 1))
        assert has(2)(node)


async def test_a_server_with_a_relay_starts_although_the_map_cannot_be_fetched(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    maps = MapServer()
    await nursery.start(maps.serve)
    async with serving(tmp_path, derp=DerpOptions(map_url=maps.url)) as world, joined(world) as node:
        assert has(999)(node)
        maps.text = map_text(1)
        world.reloads.ask()
        await node.until(has(1, 999))


async def test_a_server_without_a_relay_does_not(tmp_path: Path, nursery: trio.Nursery) -> None:
    maps = MapServer()
    await nursery.start(maps.serve)
    with pytest.raises(BaseExceptionGroup, check=lambda group: "cannot be fetched" in repr(group)):
        async with serving(tmp_path, derp=DerpOptions(map_url=maps.url, has_relay=False)):
            pass


async def test_without_its_relay_the_server_has_no_relay_endpoints(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(map_text(1))
    async with serving(tmp_path, derp=DerpOptions(map_path=path, has_relay=False)) as world:
        for where in ("/derp", "/derp/probe", "/derp/latency-check"):
            assert (await world.ask("GET", where)).status_code == 404
        port = world.started.http_address[1]
        node = DerpNode("x", 999, "127.0.0.1", derp_port=port, force_http=True)
        key = NodePrivate.generate(os.urandom)
        with pytest.raises(OSError, match="404"):
            await DerpLink.connect(DerpRegion(999, "x", "x", (node,)), key, is_home=True, rng=os.urandom)


async def test_the_servers_own_region_may_have_another_number(tmp_path: Path) -> None:
    options = DerpOptions(region_id=900, region_code="fra")
    async with serving(tmp_path, derp=options) as world, joined(world) as node:
        assert node.netmap is not None
        region = node.netmap.derp_map.regions[900]
        assert (region.code, region.nodes[0].name, region.nodes[0].host_name) == ("fra", "900b", "127.0.0.1")
        assert node.netmap.embedded_region == 900


async def test_where_direct_connections_are_blocked_nodes_are_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path, derp=DerpOptions(blocks_direct=True)) as world, joined(world) as node:
        assert node.netmap is not None
        (relay,) = node.netmap.derp_map.regions[999].nodes
        assert relay.stun_port == -1


@pytest.mark.slow
def test_sighup_has_the_process_read_its_map_again(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(map_text(1))
    options = {
        "--access-url": "http://192.0.2.10:3000",
        "--http-address": "127.0.0.1:0",
        "--stun-address": "off",
        "--state-dir": str(tmp_path / "state"),
        "--derp-config-path": str(path),
    }
    command = [sys.executable, "-m", "coderd.cli.coderd", "server", *chain.from_iterable(options.items())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            read_until(process.stderr, "server_started")
            path.write_text(map_text(2))
            process.send_signal(signal.SIGHUP)
            read_until(process.stderr, "server_reloading")
            assert "regions=[2]" in read_until(process.stderr, "derp_map_changed")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()


def read_until(lines: IO[str], word: str) -> str:
    """The first line with a word in it."""
    line = next((line for line in lines if word in line), None)
    assert line is not None, f"the process never said {word}"
    return line
