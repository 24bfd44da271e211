"""Every relay of a map probed: what works is timed, what does not is named."""

import ssl
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trustme

from coderd.config.derp import DerpOptions
from coderd.control.messages import RelayCheck
from coderd.daemon.diagnosis import relay_check
from coderd.daemon.diagnosis.relay_check import check_relays
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from tests.shell.server_world import World, serving


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coderd.stun.io.ROUND_TRIP_TRIES", (0.1,))


def map_of(*nodes: DerpNode) -> DerpMap:
    return DerpMap({1: DerpRegion(1, "one", "One", nodes)})


def node_of(world: World) -> DerpNode:
    port, stun_port = world.started.http_address[1], world.started.stun_addresses[0][1]
    return DerpNode("1a", 1, "127.0.0.1", derp_port=port, stun_port=stun_port, force_http=True)


async def check_one(node: DerpNode) -> RelayCheck:
    (found,) = await check_relays(map_of(node))
    return found


async def closed_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


async def test_a_relay_in_order_is_timed_in_every_way_and_turns_nobody_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        found = await check_one(node_of(world))
    assert found.problems == ()
    assert found.derp_by == "upgrade"
    times = (found.stun_v4_ms, found.connect_ms, found.http_ms, found.derp_ms)
    assert all(time is not None and time >= 0 for time in times)
    assert found.stun_v6_ms is None


async def test_forced_websockets_are_probed_as_such(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        (found,) = await check_relays(replace(map_of(node_of(world)), force_websockets=True))
    assert found.problems == ()
    assert found.derp_by == "websocket"
    assert found.why_websocket


async def test_a_node_for_stun_only_is_asked_for_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        found = await check_one(replace(node_of(world), stun_only=True, derp_port=await closed_port()))
    assert found.problems == ()
    assert found.stun_v4_ms is not None
    assert found.connect_ms is None


async def test_a_dead_relay_and_silent_stun_are_two_problems_and_do_not_hide_their_neighbour(
    tmp_path: Path,
) -> None:
    port = await closed_port()
    async with serving(tmp_path) as world:
        dead = replace(node_of(world), name="1b", derp_port=port, stun_port=port)
        good, bad = await check_relays(map_of(node_of(world), dead))
    assert (good.node, good.problems) == ("1a", ())
    assert bad.node == "1b"
    assert sorted(bad.problems) == [f"STUN: no answer from 127.0.0.1:{port}", "TCP: Connection refused"]


async def test_a_web_server_that_is_no_relay_is_told_from_one(tmp_path: Path) -> None:
    map_file = tmp_path / "map.json"
    map_file.write_text(
        '{"Regions": {"1": {"RegionID": 1, "Nodes": [{"Name": "x", "RegionID": 1, "HostName": "x"}]}}}'
    )
    options = DerpOptions(has_relay=False, map_path=map_file)
    async with serving(tmp_path, derp=options) as world:
        found = await check_one(node_of(world))
    assert found.connect_ms is not None
    http, derp = found.problems
    assert http == "HTTP: /derp/probe is answered 404, so that this may be no relay"
    assert derp.startswith("DERP: 127.0.0.1:")


async def test_a_certificate_that_nobody_vouches_for_is_named(nursery: trio.Nursery) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def shake_hands(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True)
        with suppress(trio.BrokenResourceError):
            await secured.do_handshake()
        await trio.aclose_forcefully(secured)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, shake_hands, listeners)
    port = listeners[0].socket.getsockname()[1]
    found = await check_one(DerpNode("1a", 1, "127.0.0.1", derp_port=port, stun_port=-1))
    (problem,) = found.problems
    assert problem.startswith("TLS: its certificate is not accepted: ")
    assert "certificate" in problem.removeprefix("TLS: its certificate is not accepted: ")


async def test_a_relay_that_says_nothing_at_all_costs_bounded_time(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_check, "TIMEOUT", 0.2)

    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, say_nothing, listeners)
    port = listeners[0].socket.getsockname()[1]
    found = await check_one(DerpNode("1a", 1, "127.0.0.1", derp_port=port, stun_port=-1, force_http=True))
    assert found.problems == ("it was not checked in time",)
    nursery.cancel_scope.cancel()
