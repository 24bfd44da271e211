"""The app's answers to plain HTTP requests at a relay's paths.

``serve_http`` serves an upgrade to DERP that is a connection's first request. A later request on a kept-alive
connection, or one without an upgrade, is answered here: 426, for a new connection, and the connection closes.
"""

import re
from collections.abc import Callable
from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from coderd.http.head import RequestHead
from coderd.http.streams import ServerStream
from coderd.model import limits

_REFUSAL_TIMEOUT: Final = limits.RELAY_ROUTE_REFUSAL_TIMEOUT
_NO_STORE: Final = "no-cache, no-store, must-revalidate, no-transform, max-age=0"
_COME_BACK: Final = "DERP requires connection upgrade\n"
_NEW_CONNECTION: Final = {"Connection": "close", "Upgrade": "DERP"}
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def relay_routes() -> list[BaseRoute]:
    """Returns routes for ``/derp``, its two latency probes and ``/generate_204``: exact paths, any method.

    The app must switch off Starlette's ``redirect_slashes`` or have a page of its own at ``/derp/``.
    """
    return [
        Route("/derp", _any_method(_upgrade_required)),
        WebSocketRoute("/derp", _refuse_websocket),
        Route("/derp/probe", _any_method(_probe)),
        Route("/derp/latency-check", _any_method(_probe)),
        Route("/generate_204", _any_method(_generate_204)),
    ]


async def refuse_derp(stream: ServerStream, head: RequestHead, leftover: bytes) -> None:
    """Answers an upgrade to DERP with 404, where there is no relay. A ``DerpHandler``."""
    with trio.move_on_after(_REFUSAL_TIMEOUT):
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


def _any_method(respond: Callable[[Request], Response]) -> ASGIApp:
    """Returns an endpoint for all methods: Starlette restricts functions to GET, but not ASGI objects."""
    return _Endpoint(respond)


class _Endpoint:
    """An ASGI app that calls a function from request to response."""

    def __init__(self, respond: Callable[[Request], Response]) -> None:
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._respond(Request(scope))(scope, receive, send)


def _upgrade_required(request: Request) -> Response:
    return PlainTextResponse(_COME_BACK, 426, headers=_NEW_CONNECTION)


async def _refuse_websocket(websocket: WebSocket) -> None:
    """Refuses a relay's WebSocket with 426 where a proxy sends it over a connection that was used before."""
    await websocket.send_denial_response(PlainTextResponse(_COME_BACK, 426, headers=_NEW_CONNECTION))


def _probe(request: Request) -> Response:
    if request.method not in ("GET", "HEAD"):
        return PlainTextResponse("bogus probe method\n", 405)
    return Response(headers={"Access-Control-Allow-Origin": "*"})


def _generate_204(request: Request) -> Response:
    headers = {"Cache-Control": _NO_STORE}
    challenge = request.headers.get("x-tailscale-challenge", "")
    if _CHALLENGE.fullmatch(challenge):
        headers["X-Tailscale-Response"] = f"response {challenge}"
    return Response(status_code=204, headers=headers)
