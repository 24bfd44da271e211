"""Coordination over real sockets: nodes meet, are refused, replaced, lost and found again."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from coderd.coordination.message import (
    MAX_NODE_MESSAGE,
    PATH,
    Challenge,
    Hello,
    Refusal,
    ServerMessage,
    Welcome,
    encode_message,
    parse_server_message,
)
from coderd.coordination.proof import make_proof
from coderd.identity.io.store import Store
from coderd.model.errors import Exit, UserError
from coderd.model.keys import DiscoPublic, NodePrivate, NodePublic
from coderd.model.reachability import NodeUpdate
from coderd.server.state import DATABASE_FILE
from tests.shell.server_world import JoinedNode, World, in_thread, serving

KEY, OTHER_KEY = NodePrivate(b"k" * 32), NodePrivate(b"o" * 32)


async def pair(world: World) -> tuple[JoinedNode, JoinedNode]:
    laptop = JoinedNode(await world.enrol(KEY), KEY)
    return laptop, JoinedNode(await world.add_workspace("dev"))


async def test_a_device_and_a_workspace_meet_move_and_part(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        laptop, dev = await pair(world)
        laptop_client, dev_client = laptop.client(world.url), dev.client(world.url)
        nursery.start_soon(laptop_client.run)
        nursery.start_soon(dev_client.run)
        await laptop.until(lambda node: node.sees("admin/dev"))
        await dev.until(lambda node: node.sees("admin/laptop"))
        assert laptop.netmap is not None
        peer = laptop.peers["admin/dev"]
        assert (peer.node_key, peer.generation, peer.home_region) == (dev.key.public(), dev.generation, 999)
        node = laptop.netmap.derp_map.regions[999].nodes[0]
        assert (node.host_name, node.derp_port, node.force_http) == (
            "127.0.0.1",
            world.started.http_address[1],
            True,
        )
        dev_client.update(NodeUpdate(999, ((("192.0.2.77", 7), 0),)))
        await laptop.until(lambda node: node.peers["admin/dev"].endpoints == (("192.0.2.77", 7),))
        await dev_client.goodbye()
        await laptop.until(lambda node: "admin/dev" not in node.peers)
        nursery.cancel_scope.cancel()


async def test_an_unknown_token_ends_with_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        for token in ("cdrd_" + "x" * 43, world.admin_token, "rubbish"):
            with pytest.raises(UserError) as caught:
                await JoinedNode(token).client(world.url).run()
            assert caught.value.exit_code is Exit.REFUSED


@pytest.mark.parametrize("token", ["a b", "a\r\nX: y", "ä", "a\x00"])
async def test_a_token_that_is_none_never_leaves(token: str) -> None:
    with pytest.raises(UserError) as caught:
        await JoinedNode(token).client("http://127.0.0.1:9").run()
    assert caught.value.exit_code is Exit.REFUSED
    assert token not in caught.value.message


@pytest.mark.slow
async def test_a_cut_link_is_dialled_again_and_even_then_a_goodbye_is_heard(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        laptop, dev = await pair(world)
        client = dev.client(world.url)
        nursery.start_soon(laptop.client(world.url).run)
        nursery.start_soon(client.run)
        await laptop.until(lambda node: node.sees("admin/dev"))
        client.break_connection()
        await laptop.until(lambda node: not node.sees("admin/dev"))
        assert "admin/dev" in laptop.peers
        await laptop.until(lambda node: node.sees("admin/dev"))
        assert dev.states[-1].resume_token
        await client.goodbye()
        await laptop.until(lambda node: "admin/dev" not in node.peers)
        nursery.cancel_scope.cancel()


async def test_the_newest_connection_replaces_the_old_which_does_not_redial(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        token = await world.add_workspace("dev")
        old, new = JoinedNode(token), JoinedNode(token)
        ended = trio.Event()

        async def run_old() -> None:
            with pytest.raises(UserError) as caught:
                await old.client(world.url).run()
            assert (caught.value.code, caught.value.exit_code) == ("replaced", Exit.REFUSED)
            ended.set()

        nursery.start_soon(run_old)
        await old.until(lambda node: node.is_connected)
        nursery.start_soon(new.client(world.url).run)
        with trio.fail_after(5):
            await ended.wait()
        await new.until(lambda node: node.is_connected)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_stopping_server_says_when_to_return(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        laptop = JoinedNode(await world.enrol(KEY), KEY)
        nursery.start_soon(laptop.client(world.url).run)
        await laptop.until(lambda node: node.is_connected)
        world.stop.set()
        await laptop.until(lambda node: not node.is_connected)
        assert laptop.states[-1].reason == "the server restarts"
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_server_that_is_down_is_retried_for_ever(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        node = JoinedNode("cdrd_x")
        nursery.start_soon(node.client("http://127.0.0.1:9").run)
        await node.until(lambda node: len(node.states) >= 4)
        assert [state.attempts for state in node.states[:4]] == [1, 2, 3, 4]
        assert node.states[0].reason
        nursery.cancel_scope.cancel()


async def test_https_is_verified_and_works_through_a_tls_proxy(tmp_path: Path) -> None:
    authority = trustme.CA()
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, server_tls, host="127.0.0.1")
        inner = listeners[0].transport_listener
        assert isinstance(inner, trio.SocketListener)
        port = inner.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, partial(forward, world), listeners)
        url = f"https://localhost:{port}"
        dev = JoinedNode(await world.add_workspace("dev"))
        nursery.start_soon(dev.client(url, tls=client_tls).run)
        await dev.until(lambda node: node.is_connected)
        assert dev.netmap is not None
        node = dev.netmap.derp_map.regions[999].nodes[0]
        assert (node.host_name, node.derp_port, node.force_http) == ("localhost", port, False)
        distrustful = JoinedNode(dev.token)
        nursery.start_soon(distrustful.client(url).run)
        await distrustful.until(lambda node: bool(node.states))
        assert distrustful.states[0].reason.startswith("TLS failed")
        nursery.cancel_scope.cancel()


async def forward(world: World, stream: trio.SSLStream[trio.SocketStream]) -> None:
    """A TLS proxy's connection."""
    inner = await trio.open_tcp_stream("127.0.0.1", world.started.http_address[1])

    async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await sink.send_all(data)
        nursery.cancel_scope.cancel()

    async with stream, inner, trio.open_nursery() as nursery:
        nursery.start_soon(pump, stream, inner)
        nursery.start_soon(pump, inner, stream)


async def test_a_silent_server_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    """A listener that accepts and never says a word: each attempt ends by its deadline, and is followed by another."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def mute(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, mute, listeners)
        node = JoinedNode("cdrd_x")
        nursery.start_soon(node.client(f"http://127.0.0.1:{port}").run)
        await node.until(lambda node: len(node.states) >= 2, patience=60)
        assert node.states[0].reason == "the server does not answer"
        nursery.cancel_scope.cancel()


# Hostile nodes, speaking by hand


@asynccontextmanager
async def dial(world: World, token: str) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket whose socket is closed for certain at the end, whatever the two ends did to each other."""
    stream = await trio.open_tcp_stream("127.0.0.1", world.started.http_address[1])
    headers = [(b"authorization", f"Bearer {token}".encode())]
    try:
        async with trio.open_nursery() as nursery:
            yield await wrap_client_stream(nursery, stream, "server", PATH, extra_headers=headers)
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def join(
    world: World, token: str, key: NodePrivate, **changes: object
) -> AsyncIterator[WebSocketConnection]:
    """A node that has said a truthful hello, but for some changes, and says the rest by hand."""
    async with dial(world, token) as websocket:
        await websocket.send_message(json.dumps(await hello(websocket, token, key, **changes)))
        yield websocket


async def hello(
    websocket: WebSocketConnection, token: str, key: NodePrivate, **changes: object
) -> dict[str, object]:
    challenge = parse_server_message(await websocket.get_message())
    assert isinstance(challenge, Challenge)
    proof = make_proof(
        key, NodePublic.parse(challenge.server_key), bytes.fromhex(challenge.nonce), token, lambda n: bytes(n)
    )
    message = Hello(
        version=1,
        node_key=key.public().text,
        disco_key=DiscoPublic(bytes(range(32))).text,
        generation=1,
        proof=proof,
    )
    fields: dict[str, object] = json.loads(encode_message(message))
    return {**fields, **changes}


async def closed(websocket: WebSocketConnection) -> None:
    """Waits until the server has closed the connection."""
    with trio.fail_after(5), suppress(ConnectionClosed):
        while True:
            await websocket.get_message()


async def answer(websocket: WebSocketConnection) -> ServerMessage:
    with trio.fail_after(5):
        return parse_server_message(await websocket.get_message())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"proof": "AAAA"}, "bad_proof"),
        ({"node_key": OTHER_KEY.public().text}, "bad_proof"),
        ({"node_key": "nodekey:" + "00" * 32}, "bad_proof"),
        ({"version": 2}, "version"),
        ({"node_key": "nodekey:zz"}, "malformed"),
        ({"generation": 2**64}, "malformed"),
        ({"type": "update", "home_region": 1}, "malformed"),
        ({"allowed_ips": ["::/0"]}, "bad_claim"),
    ],
)
async def test_a_lying_hello_is_refused(tmp_path: Path, changes: dict[str, object], code: str) -> None:
    async with serving(tmp_path) as world:
        token = await world.add_workspace("dev")
        async with join(world, token, KEY, **changes) as websocket:
            refusal = await answer(websocket)
            assert isinstance(refusal, Refusal)
            assert refusal.code == code
            with pytest.raises(ConnectionClosed):
                await answer(websocket)
        counted = await in_thread(world.admin.counters)
        assert counted.counters[f"coordination.refused.{code}"] == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "malformed"),
        ("null", "malformed"),
        ("[" * 50_000, "malformed"),
        ("x" * (MAX_NODE_MESSAGE + 1), "malformed"),
        (b"\x00\x01", "malformed"),
        ('{"type":"hello"}', "malformed"),
        ('{"type":"update","home_region":-1}', "malformed"),
        ('{"type":"update","home_region":1,"endpoints":[{"addr":"x"}]}', "malformed"),
        ('{"type":"update","home_region":1,"allowed_ips":["fd60:627a:a42b::/48"]}', "bad_claim"),
    ],
)
async def test_a_hostile_message_ends_its_own_connection(
    tmp_path: Path, text: str | bytes, code: str
) -> None:
    async with serving(tmp_path) as world:
        token = await world.add_workspace("dev")
        async with join(world, token, KEY) as websocket:
            assert isinstance(await answer(websocket), Welcome)
            await websocket.send_message(text)
            refusal = await answer(websocket)
            assert isinstance(refusal, Refusal)
            assert refusal.code == code
        assert (await world.ask("GET", "/api/v1/healthz")).status_code == 200


async def test_what_changes_while_a_node_joins_is_known_when_it_is_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        token = await world.enrol(KEY)
        async with dial(world, token) as websocket:
            said = await hello(websocket, token, KEY)
            await in_thread(lambda: world.admin.rename_device("laptop", "tablet"))
            await websocket.send_message(json.dumps(said))
            welcome = await answer(websocket)
            assert isinstance(welcome, Welcome)
            assert welcome.self.name == "admin/tablet"


async def test_a_key_that_was_replaced_while_its_node_joined_is_claimed_again(tmp_path: Path) -> None:
    """Of two machines with one token the last to be let in wins: its key is the one that the relay serves."""
    async with serving(tmp_path) as world:
        token = await world.add_workspace("dev")
        async with join(world, token, KEY) as first:
            assert isinstance(await answer(first), Welcome)
        async with dial(world, token) as returning:
            said = await hello(returning, token, KEY)
            async with join(world, token, OTHER_KEY) as other:
                assert isinstance(await answer(other), Welcome)
                await returning.send_message(json.dumps(said))
                assert isinstance(await answer(returning), Welcome)
                assert isinstance(await answer(other), Refusal)
        assert is_served(tmp_path, KEY)
        assert not is_served(tmp_path, OTHER_KEY)


def is_served(directory: Path, key: NodePrivate) -> bool:
    """Whether relays serve this node key."""
    store = Store(directory / "state" / DATABASE_FILE)
    try:
        return store.nodes.admit(key.public()) is not None
    finally:
        store.close()


async def test_a_message_beyond_any_limit_is_not_even_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        token = await world.add_workspace("dev")
        async with join(world, token, KEY) as websocket:
            await answer(websocket)
            await websocket.send_message("x" * (2 << 20))
            await closed(websocket)


async def test_a_flood_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        token = await world.add_workspace("dev")
        async with join(world, token, KEY) as websocket:
            await answer(websocket)
            with suppress(ConnectionClosed):
                for _ in range(1000):
                    await websocket.send_message('{"type":"alive"}')
            await closed(websocket)
        counted = await in_thread(world.admin.counters)
        assert counted.counters["coordination.refused.too_fast"] == 1


async def test_a_node_that_falls_silent_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coderd.coordination.io.keepalive.SILENCE_TIMEOUT", 0.1)
    async with serving(tmp_path) as world:
        token = await world.add_workspace("dev")
        async with join(world, token, KEY) as websocket:
            await answer(websocket)
            with trio.fail_after(5):
                while not isinstance(message := parse_server_message(await websocket.get_message()), Refusal):
                    pass
            assert message.code == "silent"


async def test_without_a_token_the_handshake_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        with pytest.raises((ConnectionRejected, BaseExceptionGroup)) as caught:
            async with dial(world, "cdrw_" + "x" * 43):
                pass
        error: BaseException = caught.value
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, ConnectionRejected)
        assert error.status_code == 401
