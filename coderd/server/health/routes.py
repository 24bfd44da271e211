"""What a supervisor, a load balancer and Prometheus ask of a server, beside the API.

    GET /healthz      200 while the process answers; bears the process's mark   anybody
    GET /readyz       200, or 503 with a reason: do not send anybody new here   anybody
    GET /metrics      Prometheus's text                                        who manages, by bearer token
    WS  /healthz/ws   sends one message back: do WebSockets pass?              anybody

With ``--prometheus-address`` the metrics are served there, too, to whoever can reach that address.
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
_NO_STORE: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"

MayLook = Callable[[Request], Awaitable[bool]]
"""Whether a request's bearer manages the server."""


class Observed:
    """The answers.

    Args:
        instance: the mark of this process.
        version: the program's.
        why_not_ready: empty where it is.
        metrics: the exposition of this moment.
        may_look: whether a request may read the metrics.
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
        """For the port that everybody reaches."""
        return [
            Route(HEALTHZ, self._healthz, methods=["GET"]),
            Route(READYZ, self._readyz, methods=["GET"]),
            Route(METRICS, self._guarded_metrics, methods=["GET"]),
            WebSocketRoute(ECHO, _echo),
        ]

    def metrics_app(self) -> Starlette:
        """For ``--prometheus-address``."""
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
            return PlainTextResponse("an administrator's token is needed\n", 401, headers)
        return await self._open_metrics(request)

    async def _open_metrics(self, request: Request) -> Response:
        return Response(self._metrics(), media_type=_EXPOSITION, headers=_NO_STORE)


async def _echo(websocket: WebSocket) -> None:
    """One short message, and the end: a stranger can have no more of it."""
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
