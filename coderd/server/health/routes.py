"""Routes for supervisors, load balancers and Prometheus, beside the API.

    GET /healthz      200 while the process answers; bears the process's mark   anyone
    GET /readyz       200, or 503 with a reason: send no new clients here       anyone
    GET /metrics      Prometheus's text format                                  bearer of an admin or owner
    WS  /healthz/ws   sends one message back: do WebSockets pass?               anyone

With ``--prometheus-address`` the metrics are served at that address too, without authentication.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from coderd.model import limits
from coderd.server.health.access_check import ECHO, HEALTHZ, INSTANCE_FIELD, MAX_ECHO

READYZ: Final = "/readyz"
METRICS: Final = "/metrics"
ECHO_TIMEOUT: Final = limits.ECHO_TIMEOUT
"""Seconds to wait for the message that /healthz/ws sends back."""
_NO_STORE: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"

MayLook = Callable[[Request], Awaitable[bool]]
"""Function that returns whether a request's bearer manages the server."""


class Observed:
    """Handlers of /healthz, /readyz, /metrics and /healthz/ws.

    Args:
        instance: the mark of this process.
        version: the program's version.
        why_not_ready: returns the reason why the server is not ready; empty if it is.
        metrics: returns the metrics of this moment in Prometheus's text format.
        may_look: returns whether a request may read the metrics.
    """

    def __init__(
        self,
        *,
        instance: str,
        version: str,
        why_not_ready: Callable[[], Awaitable[str]],
        metrics: Callable[[], bytes],
        may_look: MayLook,
    ) -> None:
        self._alive = {"status": "ok", "version": version}
        self._mark = {**_NO_STORE, INSTANCE_FIELD: instance}
        self._why_not_ready = why_not_ready
        self._metrics = metrics
        self._may_look = may_look

    def routes(self) -> list[BaseRoute]:
        """Returns the routes for the server's public port."""
        return [
            Route(HEALTHZ, self._healthz, methods=["GET"]),
            Route(READYZ, self._readyz, methods=["GET"]),
            Route(METRICS, self._guarded_metrics, methods=["GET"]),
            WebSocketRoute(ECHO, _echo),
        ]

    def metrics_app(self) -> Starlette:
        """Returns the app for ``--prometheus-address``."""
        return Starlette(routes=[Route(METRICS, self._open_metrics, methods=["GET"])])

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse(self._alive, headers=self._mark)

    async def _readyz(self, request: Request) -> Response:
        why = await self._why_not_ready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
        return JSONResponse({"status": why or "ready"}, status, headers=_NO_STORE)

    async def _guarded_metrics(self, request: Request) -> Response:
        if not await self._may_look(request):
            headers = {**_NO_STORE, "www-authenticate": "Bearer"}
            return PlainTextResponse("a token of an admin or an owner is needed\n", 401, headers)
        return await self._open_metrics(request)

    async def _open_metrics(self, request: Request) -> Response:
        return Response(self._metrics(), media_type=_EXPOSITION, headers=_NO_STORE)


async def _echo(websocket: WebSocket) -> None:
    """Sends one message of at most ``MAX_ECHO`` bytes back and closes: the client is unauthenticated."""
    await websocket.accept()
    with trio.move_on_after(ECHO_TIMEOUT):
        event = await websocket.receive()
        data = event.get("bytes") or b""
        if event["type"] == "websocket.receive" and 0 < len(data) <= MAX_ECHO:
            await websocket.send_bytes(data)
            await websocket.close()
            return
        if event["type"] == "websocket.disconnect":
            return
    await websocket.close(1008)
