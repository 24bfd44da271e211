"""The whole server: first start and second, its parts on their ports, relay admission, and a clean end."""

import os
import signal
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from coderd.api.messages import PREFIX
from coderd.config.server import ServerConfig
from coderd.config.url import parse_server_url
from coderd.derp.io.client import DerpLink
from coderd.model.derpmap import DerpNode, DerpRegion
from coderd.model.errors import UserError
from coderd.model.keys import NodePrivate, NodePublic
from coderd.server.run import Started, run_server
from coderd.stun.message import encode_request, parse_response
from tests.shell.server_world import JoinedNode, World, config, in_thread, serving


class Inbox:
    """Takes what a relay link hands over."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.arrived = trio.Event()

    def on_packets(self, sender: NodePublic, packets: object) -> None:
        self.packets += [bytes(packet) for packet in packets]  # type: ignore[attr-defined]
        self.arrived.set()

    def on_peer_gone(self, key: NodePublic, reason: object) -> None:
        pass


def region(world: World) -> DerpRegion:
    port = world.started.http_address[1]
    node = DerpNode("999b", 999, "127.0.0.1", derp_port=port, stun_port=-1, force_http=True)
    return DerpRegion(999, "coder", "x", (node,))


async def link(world: World, key: NodePrivate) -> DerpLink:
    return await DerpLink.connect(region(world), key, is_home=True, rng=os.urandom)


async def test_the_first_start_makes_an_admin_and_the_second_makes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        path = world.started.admin_token_file
        assert path is not None
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        token = world.admin_token
        me = await in_thread(world.admin.me)
        assert (me.name, me.is_admin) == ("admin", True)
    async with serving(tmp_path) as again:
        assert again.started.admin_token_file is None
        assert again.admin_token == token
        assert (await in_thread(again.admin.me)).name == "admin"


async def test_every_file_of_the_state_is_its_owners_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        await world.add_workspace("dev")
        for file in world.config.state_dir.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_a_second_server_on_one_state_directory_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path):
        with pytest.raises(UserError, match="another server uses"):
            await run_server(config(tmp_path))


async def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        with pytest.raises(UserError, match="another program uses that port"):
            await run_server(
                config(tmp_path, state_dir=tmp_path / "other", http_address=world.started.http_address)
            )


async def test_a_database_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "identity.db").write_bytes(
        b"not a database, but long enough to be read as one" * 99
    )
    with pytest.raises(UserError, match="cannot be used"):
        await run_server(config(tmp_path))


async def test_it_answers_stun_on_two_ports_and_says_so_in_the_map(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        for address in world.started.stun_addresses:
            with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
                await sock.sendto(encode_request(b"t" * 12), address)
                with trio.fail_after(5):
                    tx, mapped = parse_response(await sock.recv(2048))
                assert (tx, mapped[0]) == (b"t" * 12, "127.0.0.1")
        node = JoinedNode(await world.add_workspace("dev"))
        nursery.start_soon(node.client(world.url).run)
        await node.until(lambda node: node.netmap is not None)
        assert node.netmap is not None
        nodes = node.netmap.derp_map.regions[999].nodes
        assert [node.stun_port for node in nodes] == [port for _, port in world.started.stun_addresses]
        assert [node.stun_only for node in nodes] == [False, True]
        nursery.cancel_scope.cancel()


async def test_without_stun_the_map_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, stun_addresses=()) as world, trio.open_nursery() as nursery:
        node = JoinedNode(await world.add_workspace("dev"))
        nursery.start_soon(node.client(world.url).run)
        await node.until(lambda node: node.netmap is not None)
        assert node.netmap is not None
        assert [node.stun_port for node in node.netmap.derp_map.regions[999].nodes] == [-1]
        nursery.cancel_scope.cancel()


async def test_both_address_families_reach_the_one_port(tmp_path: Path) -> None:
    async with serving(tmp_path, http_address=("::", 0), access_url=parse_server_url("http://x:1")) as world:
        for host in ("127.0.0.1", "::1"):
            stream = await trio.open_tcp_stream(host, world.started.http_address[1])
            async with stream:
                await stream.send_all(b"GET /api/v1/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200" in await stream.receive_some()


async def test_the_relay_admits_whom_coordination_has_admitted_and_nobody_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        with pytest.raises(ConnectionRefusedError, match="did not admit"):
            await link(world, NodePrivate.generate(os.urandom))
        nodes = [JoinedNode(await world.add_workspace(name)) for name in ("a", "b")]
        for node in nodes:
            nursery.start_soon(node.client(world.url).run)
            await node.until(lambda node: node.is_connected)
        links = [await link(world, node.key) for node in nodes]
        inbox = Inbox()
        nursery.start_soon(links[0].run, Inbox())
        nursery.start_soon(links[1].run, inbox)
        with trio.fail_after(5):
            while not inbox.packets:
                links[0].send_nowait(nodes[1].key.public(), [b"\x04" + bytes(999)])
                with trio.move_on_after(0.1):
                    await inbox.arrived.wait()
        counted = await in_thread(world.admin.counters)
        assert counted.relay_bytes >= 1000
        assert {client.node for client in counted.relay} == {"admin/a", "admin/b"}
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_announces_the_first_start_once_and_ends_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = (
        "import sys, pathlib\n"
        "from coderd.config.server import ServerConfig\n"
        "from coderd.config.url import parse_server_url\n"
        "from coderd.server.process import serve\n"
        "serve(ServerConfig(access_url=parse_server_url('http://192.0.2.10:3000'),\n"
        "    http_address=('127.0.0.1', 0), stun_addresses=(), state_dir=pathlib.Path(sys.argv[1])))\n"
    )
    for is_first in (True, False):
        with (tmp_path / "out").open("w+") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", program, str(tmp_path / "state")],
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert process.stderr is not None
            log = process.stderr.readline()
            assert "server_started" in log
            process.send_signal(number)
            _, rest = process.communicate(timeout=10)
        said = (tmp_path / "out").read_text()
        assert process.returncode == 0, log + rest
        token = (tmp_path / "state" / "admin-token").read_text("ascii").strip()
        assert token not in said + log + rest
        assert ("coderctl up http://192.0.2.10:3000" in said) == is_first


async def test_a_server_that_stops_with_clients_connected_ends(tmp_path: Path) -> None:
    options, stop = config(tmp_path), trio.Event()
    async with trio.open_nursery() as nursery:
        started: Started = await nursery.start(_run, options, stop)
        world = World(options, started, stop)
        stream = await trio.open_tcp_stream("127.0.0.1", started.http_address[1])
        node = JoinedNode(await world.add_workspace("dev"))
        async with trio.open_nursery() as machine:
            machine.start_soon(node.client(world.url).run)
            await node.until(lambda node: node.is_connected)
            with trio.fail_after(5):
                stop.set()
                await node.until(lambda node: not node.is_connected)
            machine.cancel_scope.cancel()
        await stream.aclose()


async def _run(options: ServerConfig, stop: trio.Event, *, task_status: trio.TaskStatus[Started]) -> None:
    await partial(run_server, options, stop=stop, task_status=task_status)()


async def test_pages_that_are_not_there_are_refused_in_json(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        for path in ("/nowhere", "/derp/x", PREFIX, PREFIX + "/users/me/"):
            response = await world.ask("GET", path)
            assert (response.status_code, response.json()["code"]) == (404, "not_found")
