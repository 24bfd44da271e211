"""A relay alone and the server that it asks, both real, over loopback."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from coderd.config.relay import RelayConfig
from coderd.config.tls import TlsOptions
from coderd.config.url import ServerUrl
from coderd.derp.io.client import DerpLink
from coderd.model.derpmap import DerpRegion
from coderd.model.derpmap_json import parse_derp_map
from coderd.model.keys import NodePrivate
from coderd.server.relay.run import RelayStarted, run_relay
from tests.shell.server_world import JoinedNode, serving

HERE = ("127.0.0.1", 0)


def config(directory: Path, verify_url: str | None, *, is_tls: bool = False) -> RelayConfig:
    return RelayConfig(
        access_url=ServerUrl("https" if is_tls else "http", "127.0.0.1", 1),
        http_address=None if is_tls else HERE,
        tls_address=HERE if is_tls else None,
        tls=TlsOptions() if is_tls else None,
        stun_addresses=(),
        state_dir=directory / "relay",
        verify_url=verify_url,
    )


@asynccontextmanager
async def relaying(config: RelayConfig) -> AsyncIterator[tuple[RelayStarted, DerpRegion]]:
    """A running relay, and its region at the port that the kernel chose."""
    async with trio.open_nursery() as nursery:
        started: RelayStarted = await nursery.start(partial(run_relay, config))
        told = started.region["Regions"]["1"]  # type: ignore[index]
        told["Nodes"][0]["DERPPort"] = started.address[1]
        yield started, parse_derp_map(started.region).regions[1]
        nursery.cancel_scope.cancel()


async def may_relay(region: DerpRegion, key: NodePrivate) -> bool:
    try:
        link = await DerpLink.connect(region, key, is_home=True, rng=os.urandom)
    except OSError:
        return False
    await link.aclose()
    return True


async def test_those_whom_the_server_knows_may_relay_and_nobody_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        member = JoinedNode(await world.add_workspace("dev"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(member.client(world.url).run)
            await member.until(lambda node: node.is_connected)
            async with relaying(config(tmp_path, f"{world.url}/derp/verify")) as (_, region):
                assert await may_relay(region, member.key)
                assert not await may_relay(region, NodePrivate.generate(os.urandom))
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"Allow":false}'),
        (200, b"{}"),
        (200, b"no JSON"),
        (500, b'{"Allow":true}'),
        (302, b""),
        (200, bytes(5000)),
    ],
)
async def test_only_a_clear_yes_admits(tmp_path: Path, status: int, body: bytes) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode() + body)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, answer, [listener]))
        async with relaying(config(tmp_path, url)) as (_, region):
            assert not await may_relay(region, NodePrivate.generate(os.urandom))
        nursery.cancel_scope.cancel()


async def test_nobody_is_admitted_while_nobody_answers(tmp_path: Path) -> None:
    async with relaying(config(tmp_path, "http://127.0.0.1:1/")) as (_, region):
        assert not await may_relay(region, NodePrivate.generate(os.urandom))


async def test_its_own_certificate_is_trusted_by_the_pin_in_the_region_that_it_prints(tmp_path: Path) -> None:
    async with relaying(config(tmp_path, None, is_tls=True)) as (_, region):
        assert region.nodes[0].cert_name.startswith("sha256-raw:")
        assert await may_relay(region, NodePrivate.generate(os.urandom))


async def test_key_and_certificate_outlive_a_restart(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        async with relaying(config(tmp_path, None, is_tls=True)) as (_, region):
            link = await DerpLink.connect(
                region, NodePrivate.generate(os.urandom), is_home=True, rng=os.urandom
            )
            keys.append((link.server_key, region.nodes[0].cert_name))
            await link.aclose()
    assert keys[0] == keys[1]


async def test_it_says_that_it_is_up_and_tells_its_counters_here(tmp_path: Path) -> None:
    async with relaying(config(tmp_path, None)) as (started, region):
        await may_relay(region, NodePrivate.generate(os.urandom))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{started.address[1]}") as client:
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            counters = (await client.get("/debug/counters")).json()["counters"]
            assert counters["derp.accept.upgrade"] == 1
            assert (await client.get("/derp/probe")).status_code == 200


async def test_a_question_that_makes_no_sense_or_never_ends_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        for question in (b"", b"{}", b'{"NodePublic": "nodekey:00"}', b"[" * 4000, bytes(100_000)):
            answer = await world.ask("POST", "/derp/verify", content=question)
            assert answer.status_code == 400
