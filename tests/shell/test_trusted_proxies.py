"""Where a request comes from, for audit, limits and the relay: what a stranger writes into headers is not believed."""

from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio

from coderd.http.dialer import read_response_head
from coderd.http.forwarded import TrustedProxies
from coderd.http.head import RequestHead
from coderd.http.server import open_tcp_listeners, serve_http
from coderd.http.streams import ServerStream
from tests.shell.server_world import World, serving

SPOOFED = {"x-forwarded-for": "198.51.100.66"}
LOOPBACK = (ip_network("127.0.0.0/8"),)


async def source_in_audit(world: World, headers: dict[str, str]) -> str:
    body = {"name": "ann"}
    made = await world.ask("POST", "/api/v1/users", world.admin_token, json=body, headers=headers)
    assert made.status_code == 201
    page = (await world.ask("GET", "/api/v1/audit", world.admin_token)).json()
    return str(page["entries"][0]["source"])


async def test_a_strangers_header_is_not_what_the_audit_log_says(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        assert await source_in_audit(world, SPOOFED) == "127.0.0.1"


async def test_a_named_proxys_header_is(tmp_path: Path) -> None:
    async with serving(tmp_path, proxy_origins=LOOPBACK) as world:
        assert await source_in_audit(world, {"x-forwarded-for": "6.6.6.6, 198.51.100.66"}) == "198.51.100.66"


@pytest.mark.slow
async def test_guesses_behind_a_proxy_cost_their_own_address_and_nobody_elses(tmp_path: Path) -> None:
    async with serving(tmp_path, proxy_origins=LOOPBACK) as world:
        for _ in range(40):
            guess = await world.ask("GET", "/api/v1/users/me", "cdrs_guess", headers=SPOOFED)
        assert guess.status_code == 429
        other = {"x-forwarded-for": "203.0.113.9"}
        assert (
            await world.ask("GET", "/api/v1/users/me", world.admin_token, headers=other)
        ).status_code == 200


@pytest.mark.slow
async def test_a_guesser_cannot_pass_for_somebody_else_by_a_header(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        statuses = set()
        for number in range(40):
            headers = {"x-forwarded-for": f"198.51.100.{number}"}
            answer = await world.ask("GET", "/api/v1/users/me", "cdrs_guess", headers=headers)
            statuses.add(answer.status_code)
    assert 429 in statuses


async def relay_source(proxies: TrustedProxies) -> str:
    """What the relay takes for the address of a client that claims another."""
    seen: list[str] = []

    async def derp(stream: ServerStream, head: RequestHead, leftover: bytes) -> None:
        seen.append(stream.remote[0])
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async def nobody(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    (listener,) = await open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_http, derp=derp, proxies=proxies), [listener], nobody)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(
                b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nX-Forwarded-For: 198.51.100.66\r\n\r\n"
            )
            await read_response_head(stream)
        nursery.cancel_scope.cancel()
    return seen[0]


async def test_the_relay_believes_named_proxies_alone() -> None:
    assert await relay_source(TrustedProxies()) == "127.0.0.1"
    assert await relay_source(TrustedProxies(LOOPBACK)) == "198.51.100.66"
