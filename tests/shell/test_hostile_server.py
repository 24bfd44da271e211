"""What a hostile server can make of a node, over the real coordination socket: docs/architecture/coordination-and-identity.md has the table."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
import trio
from trio_websocket import ConnectionClosed, wrap_server_stream

from coderd.config.url import parse_server_url
from coderd.coordination.io.coordination_client import CoordinationClient
from coderd.coordination.message import (
    Challenge,
    Message,
    PeerEntry,
    Peers,
    SelfEntry,
    Welcome,
    encode_message,
)
from coderd.coordination.netmap_client import NetMapClient
from coderd.coordination.saved_netmap import decode_netmap, encode_netmap
from coderd.coordination.server_state import ServerState
from coderd.derp.dial_plan import dial_plan
from coderd.derp.io.dial import dial_node
from coderd.model.addresses import tailnet_address
from coderd.model.derpmap import DerpNode
from coderd.model.errors import Exit, UserError
from coderd.model.keys import DiscoPrivate, NodePrivate
from coderd.model.netmap import NetMap, NodeKind
from coderd.netcheck.target import Family, stun_target

ME = UUID(int=1)
KEY = NodePrivate(b"k" * 32)
SERVER_KEY = NodePrivate(b"s" * 32)
CHALLENGE = Challenge(SERVER_KEY.public().text, "00" * 32, 1)


def welcome(kind: str = "device", node_id: UUID = ME, address: str = "", **nodes: object) -> Welcome:
    me = SelfEntry(node_id, kind, "ann/laptop", address or str(tailnet_address(node_id)))
    region = {"RegionID": 7, "RegionCode": "evil", "Nodes": [{"Name": "7a", "RegionID": 7, **nodes}]}
    return Welcome(me, {"Regions": {"7": region}}, "resume", embedded_region=0)


def peer(node_id: UUID) -> PeerEntry:
    return PeerEntry(
        node_id,
        "workspace",
        "ann/dev",
        NodePrivate(b"p" * 32).public().text,
        DiscoPrivate(b"p" * 32).public().text,
        str(tailnet_address(node_id)),
        999,
        7,
    )


class Heard:
    """What a node has learned."""

    def __init__(self) -> None:
        self.netmaps: list[NetMap] = []
        self.states: list[ServerState] = []
        self._news = trio.Event()

    def take_state(self, state: ServerState) -> None:
        self.states.append(state)
        self._news.set()

    async def failures(self, n_wanted: int) -> list[str]:
        """Why connections have failed, once so many have."""
        while len(reasons := [state.reason for state in self.states if not state.connected]) < n_wanted:
            self._news = trio.Event()
            await self._news.wait()
        return reasons


@asynccontextmanager
async def hostile(*messages: Message) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that challenges each node, hears its hello and says these messages; its URL, and how many have come."""
    n_come = [0]

    async def serve(stream: trio.SocketStream) -> None:
        n_come[0] += 1
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            websocket = await request.accept()
            try:
                await websocket.send_message(encode_message(CHALLENGE))
                await websocket.get_message()
                for message in messages:
                    await websocket.send_message(encode_message(message))
                while True:
                    await websocket.get_message()
            except ConnectionClosed:
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        with trio.fail_after(10):
            yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", n_come
        nursery.cancel_scope.cancel()


def node(url: str, heard: Heard, kind: NodeKind = NodeKind.DEVICE) -> CoordinationClient:
    return CoordinationClient(
        url,
        "cdrd_token",
        node_key=KEY,
        disco_key=DiscoPrivate(b"d" * 32).public(),
        generation=1,
        rng=os.urandom,
        kind=kind,
        on_netmap=heard.netmaps.append,
        on_state=heard.take_state,
    )


@pytest.mark.parametrize(
    ("kind", "messages"),
    [
        (NodeKind.DEVICE, [welcome("workspace")]),
        (NodeKind.DEVICE, [welcome("server")]),
        (NodeKind.WORKSPACE, [welcome("device")]),
        (NodeKind.DEVICE, [welcome("device"), welcome("workspace")]),
    ],
)
async def test_who_is_called_another_kind_of_node_ends_with_4_and_does_not_come_back(
    kind: NodeKind, messages: list[Message]
) -> None:
    heard = Heard()
    async with hostile(*messages) as (url, n_come):
        with pytest.raises(UserError) as caught:
            await node(url, heard, kind).run()
    assert (caught.value.code, caught.value.exit_code) == ("wrong_kind", Exit.REFUSED)
    assert all(netmap.self_node.kind is kind for netmap in heard.netmaps)
    assert n_come == [1]


async def test_a_message_that_makes_no_sense_ends_the_connection_and_changes_nothing() -> None:
    """Which messages those are, tests/sim/test_hostile_server.py says."""
    heard = Heard()
    async with hostile(welcome(), Peers([peer(ME)])) as (url, _), trio.open_nursery() as nursery:
        nursery.start_soon(node(url, heard).run)
        (reason, *_) = await heard.failures(1)
        nursery.cancel_scope.cancel()
    assert "message is invalid" in reason
    assert all(
        netmap.peers == {} and netmap.self_node.address == tailnet_address(ME) for netmap in heard.netmaps
    )


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed_and_the_token_stays(status: int) -> None:
    """The token goes to the very origin that it was given for."""
    n_elsewhere = 0

    async def elsewhere(stream: trio.SocketStream) -> None:
        nonlocal n_elsewhere
        n_elsewhere += 1
        await stream.aclose()

    heard = Heard()
    async with trio.open_nursery() as nursery:
        other = await trio.open_tcp_listeners(0, host="127.0.0.1")
        there = f"http://127.0.0.1:{other[0].socket.getsockname()[1]}/"

        async def redirect(stream: trio.SocketStream) -> None:
            await stream.receive_some(4096)
            await stream.send_all(
                f"HTTP/1.1 {status} Moved\r\nContent-Length: 0\r\nLocation: {there}\r\n\r\n".encode()
            )
            await stream.aclose()

        here = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, elsewhere, other)
        nursery.start_soon(trio.serve_listeners, redirect, here)
        nursery.start_soon(node(f"http://127.0.0.1:{here[0].socket.getsockname()[1]}", heard).run)
        with trio.fail_after(10):
            await heard.failures(2)
        nursery.cancel_scope.cancel()
        for listener in (*here, *other):
            await listener.aclose()
    assert n_elsewhere == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::ffff:127.0.0.1", "::"])
async def test_a_relay_on_this_machine_itself_is_not_dialled_nor_asked_by_stun(host: str) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        addresses: list[dict[str, Any]] = [
            {},
            {"ipv6" if ":" in host else "ipv4": host},
            {"stun_test_ip": host},
        ]
        for fields in addresses:
            relay = DerpNode("7a", 7, host, derp_port=port, force_http=True, is_elsewhere=True, **fields)
            with pytest.raises(OSError, match=r"this machine itself|no address|not known"):
                await dial_node(dial_plan(relay))
            for family in Family:
                assert stun_target(relay, family, {host: ("127.0.0.1", "::1")}) is None
        with trio.move_on_after(0.05):
            await listener.accept()
            raise AssertionError("somebody came")


def test_relays_of_a_server_elsewhere_are_elsewhere_and_its_own_is_where_the_node_knows_it() -> None:
    told = welcome(HostName="localhost")
    netmap = NetMapClient(parse_server_url("http://192.0.2.1:3000")).handle_message(told)
    local = NetMapClient(parse_server_url("http://127.0.0.1:3000")).handle_message(told)
    assert netmap is not None
    assert local is not None
    saved = decode_netmap(encode_netmap(netmap), "http://192.0.2.1:3000")
    assert saved is not None
    found = [each.derp_map.regions[7].nodes[0].is_elsewhere for each in (netmap, saved, local)]
    assert found == [True, True, False]
