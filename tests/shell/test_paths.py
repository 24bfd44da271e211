"""Who reaches whom, from the nodes' own reports: API, coderctl and metrics of a real server, over its coordination."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest
import trio

from coderd.api.messages import ReachInfo
from coderd.cli.coderctl import build_app
from coderd.cli.shell import run_app
from coderd.coordination.io.coordination_client import CoordinationClient
from coderd.coordination.message import PathReport
from coderd.coordination.reporter import Reports
from coderd.model.errors import Exit
from coderd.model.keys import NodePrivate
from tests.shell.server_world import JoinedNode, World, in_thread, serving


@asynccontextmanager
async def met(world: World) -> AsyncIterator[tuple[JoinedNode, CoordinationClient]]:
    """A laptop that has been told of a workspace, and its link to the server."""
    key = NodePrivate.generate(os.urandom)
    laptop, dev = JoinedNode(await world.enrol(key), key), JoinedNode(await world.add_workspace("dev"))
    link = laptop.client(world.url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dev.client(world.url).run)
        nursery.start_soon(link.run)
        await laptop.until(lambda node: node.sees("admin/dev"))
        yield laptop, link
        nursery.cancel_scope.cancel()


async def paths_of(world: World, query: str = "", token: str = "") -> list[ReachInfo]:
    answer = await world.ask("GET", f"/api/v1/paths{query}", token or world.admin_token)
    assert answer.status_code == 200
    return msgspec.convert(answer.json()["paths"], list[ReachInfo])


async def reported(world: World, path: str) -> ReachInfo:
    """The one path, once it is of this kind."""
    with trio.fail_after(5):
        while True:
            found = await paths_of(world)
            if [reach.path for reach in found] == [path]:
                return found[0]


async def test_paths_that_nodes_report_are_shown_and_counted(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with serving(tmp_path) as world, met(world) as (laptop, link):
        assert await paths_of(world) == []
        peer = laptop.peers["admin/dev"].node_id
        link.report(Reports((PathReport(peer, "relay", 999, 0.031),)))
        relayed = await reported(world, "relay")
        assert (relayed.node, relayed.peer, relayed.region) == ("admin/laptop", "admin/dev", "coder")
        link.report(
            Reports((PathReport(peer, "direct", 0, 0.012, 90.0, 0.3, 1),), {"no_answer": 2, "nonsense": 9})
        )
        direct = await reported(world, "direct")
        assert (direct.rtt, direct.region, direct.since >= 90) == (0.012, "", True)
        assert laptop.is_connected

        arguments = ["paths", "--url", world.url, "--token-file", str(world.config.state_dir / "admin-token")]
        capfdbinary.readouterr()
        assert await in_thread(partial(run_app, build_app(), "coderctl", arguments)) == Exit.DONE
        assert b"admin/laptop  admin/dev  direct  12ms  1m ago" in capfdbinary.readouterr().out
        assert await in_thread(partial(run_app, build_app(), "coderctl", [*arguments, "--json"])) == Exit.DONE
        out = capfdbinary.readouterr().out
        assert [row["path"] for row in json.loads(out[out.index(b"[\n") :])] == ["direct"]

        text = (await world.ask("GET", "/metrics", world.admin_token)).text
    assert {
        'coderd_tunnel_paths{path="direct"} 1.0',
        'coderd_time_to_direct_seconds_bucket{le="0.2"} 0.0',
        'coderd_time_to_direct_seconds_bucket{le="0.5"} 1.0',
        "coderd_time_to_direct_seconds_count 1.0",
        "coderd_time_to_direct_seconds_sum 0.3",
        "coderd_path_changes_total 1.0",
        'coderd_path_lifetime_seconds_count{path="relay"} 1.0',
        'coderd_tunnel_handshake_failures_total{cause="no_answer"} 2.0',
        'coderd_relay_queue_packets{region="coder"} 0.0',
    } <= set(text.splitlines())
    assert "nonsense" not in text


async def test_others_paths_are_for_managers_who_ask_for_all(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, met(world) as (laptop, link):
        link.report(Reports((PathReport(laptop.peers["admin/dev"].node_id, "direct"),)))
        await reported(world, "direct")
        bob = await world.add_user("bob")
        assert await paths_of(world, token=bob) == []
        assert (await world.ask("GET", "/api/v1/paths?all=true", bob)).status_code == 403
        assert len(await paths_of(world, "?all=true")) == 1

        (region,) = (await world.ask("GET", "/api/v1/relays", bob)).json()["regions"]
        assert (region["home_of"], region["latency"], region["load"]) == (0, None, None)
        (region,) = (await world.ask("GET", "/api/v1/relays?all=true", world.admin_token)).json()["regions"]
        assert (region["code"], region["home_of"], region["latency"]) == ("coder", 2, 0.01)
        assert region["load"]["queued_packets"] == 0


async def page_of(world: World, path: str, token: str) -> str:
    """A page of the dashboard as somebody who signs in with a token sees it."""
    origin = "http://server.example:3000"
    headers = {"host": "server.example:3000", "origin": origin, "sec-fetch-site": "same-origin"}
    async with httpx.AsyncClient(base_url=world.url, headers=headers) as browser:
        signed_in = await browser.post("/login", data={"token": token, "next": path})
        cookie = signed_in.headers["set-cookie"].partition(";")[0]
        answer = await browser.get(path, headers={"cookie": cookie})
    assert answer.status_code == 200
    return answer.text


@pytest.mark.slow
async def test_the_dashboard_has_the_paths_and_the_relays(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, met(world) as (laptop, link):
        link.report(Reports((PathReport(laptop.peers["admin/dev"].node_id, "direct", 0, 0.012, 90.0),)))
        await reported(world, "direct")
        paths = await page_of(world, "/paths", world.admin_token)
        assert '<th scope="col">admin/dev</th>' in paths
        assert '<span class="direct">direct</span> 12 ms</span>' in paths
        assert "for 1 min" in paths
        relays = await page_of(world, "/relays?all=true", world.admin_token)
        assert "<strong>coder</strong>" in relays
        assert "<td>2</td><td>10 ms</td><td>2</td>" in relays
        assert "<dt>Queued now</dt><dd>0 packets, 0 B</dd>" in relays
        bobs = await world.add_user("bob")
        assert "admin/dev" not in await page_of(world, "/paths", bobs)
        assert "Queued now" not in await page_of(world, "/relays", bobs)
