"""What a survey asks by HTTP, of real servers: honest ones, ones with another clock, portals, and through a proxy."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from coderd.api.messages import Reflection, encode_message
from coderd.daemon.diagnosis.ask import proxy_to
from coderd.daemon.diagnosis.survey import is_captive, reflect
from coderd.http.relay_routes import refuse_derp
from coderd.http.server import serve_http
from tests.shell.server_world import serving
from tests.shell.test_proxies import HOST, proxying


@asynccontextmanager
async def answering(endpoint: object) -> AsyncIterator[str]:
    """The URL of a server that answers everything alike."""
    app = Starlette(routes=[Route("/{path:path}", endpoint)])  # type: ignore[arg-type]
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_http, listeners, app, derp=refuse_derp))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -42.5])
async def test_a_clock_that_is_not_the_servers_is_found_out(ahead: float) -> None:
    def wrong_clock(request: Request) -> Response:
        said = Reflection(
            seen_from="127.0.0.1", arrived_at="127.0.0.1", unix_time=time.time() - ahead, n_stun_answered=0
        )
        return Response(encode_message(said), media_type="application/json")

    async with answering(wrong_clock) as url:
        said, skew = await reflect(url, "cdrd_token")
    assert said is not None
    assert skew == pytest.approx(ahead, abs=1.0)


async def test_our_own_server_is_no_portal_and_keeps_our_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        assert await is_captive(world.url) is False
        said, skew = await reflect(world.url, world.admin_token)
        assert said is not None
        assert skew == pytest.approx(0.0, abs=1.0)
        assert await reflect(world.url, "cdrd_nobody") == (None, None)


def sends_to_sign_in(request: Request) -> Response:
    return RedirectResponse("http://portal.example/sign-in")


def shows_a_page(request: Request) -> Response:
    return Response("<html>Welcome, guest!</html>", media_type="text/html")


def knows_no_challenge(request: Request) -> Response:
    return Response(status_code=204)


@pytest.mark.parametrize("endpoint", [sends_to_sign_in, shows_a_page, knows_no_challenge])
async def test_whoever_else_answers_is_a_portal_and_tells_no_time(endpoint: object) -> None:
    async with answering(endpoint) as url:
        assert await is_captive(url) is True
        assert await reflect(url, "cdrd_token") == (None, None)


async def test_silence_and_https_tell_of_no_portal() -> None:
    assert await is_captive("http://127.0.0.1:9") is None
    assert await is_captive("https://server.test") is None


async def test_all_of_it_goes_through_the_proxy_which_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as world:
        port = world.started.http_address[1]
        async with proxying(port, monkeypatch, credentials="ann:secret", shown="ann:secret") as proxy:
            url = f"http://{HOST}:{port}"
            assert proxy_to(url) == (f"http://127.0.0.1:{proxy.port}", "")
            assert await is_captive(url) is False
            said, _ = await reflect(url, world.admin_token)
            assert said is not None
            assert proxy.asked == [f"GET {HOST}:{port}"] * 2
