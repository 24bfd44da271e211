"""Hypercorn's HTTP/1.1 and WebSocket server over one ``ServerStream``."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from coderd.http.drain import Drain
from coderd.http.forwarded import NO_PROXIES, TrustedProxies
from coderd.http.head import MAX_HEAD_SIZE
from coderd.http.hypercorn_websocket import Http1Protocol
from coderd.http.methods import ALLOW, METHODS, is_framing_in_doubt
from coderd.http.streams import ServerStream
from coderd.model import limits
from coderd.model.addresses import AddrPort, is_ipv6

KEEP_ALIVE_TIMEOUT: Final = limits.HTTP_KEEP_ALIVE_TIMEOUT
_NOTE_KNOWN: Final = "coderd.note_known"

_log = structlog.get_logger(__name__)


def note_known(scope: Scope) -> None:
    """Notes that the client of an app's request is authenticated: see ``ServerStream.note_known``."""
    scope[_NOTE_KNOWN]()


async def serve_web(
    stream: ServerStream,
    app: ASGIApp,
    proxies: TrustedProxies = NO_PROXIES,
    drain: Drain | None = None,
) -> None:
    """Answers the requests of a connection by the app until the connection ends.

    A request's client is the one that a trusted proxy reports. Once the client is gone, its further requests
    are not answered. Errors that Hypercorn raises concern this connection alone and go to the caller.

    Args:
        stream: the connection.
        app: an ASGI app.
        proxies: trusted to report the client's address and scheme.
        drain: counts the requests in flight.
    """
    async with trio.open_nursery() as nursery:
        wrapper = ASGIWrapper(_ConnectionApp(app, stream, nursery, proxies, drain or Drain()))
        web_stream: Any = _TlsWebStream(stream) if stream.is_tls else _WebStream(stream)
        await _Http1Server(wrapper, _config(), WorkerContext(None), {}, web_stream).run()
        nursery.cancel_scope.cancel()


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD_SIZE
    config.keep_alive_timeout = KEEP_ALIVE_TIMEOUT
    return config


class _Http1Server(TCPServer):
    """Hypercorn's server of one connection, held to HTTP/1.1.

    Hypercorn would follow a client to HTTP/2 by ``Upgrade: h2c`` or its preface. An HTTP/2 connection cannot
    carry a relay, so only the HTTP/1.1 protocol inside its wrapper is used, and such a client's connection
    ends.
    """

    @property  # type: ignore[override]
    def protocol(self) -> H11Protocol:
        return self._h11

    @protocol.setter
    def protocol(self, wrapper: ProtocolWrapper) -> None:
        made = wrapper.protocol
        if not isinstance(made, H11Protocol):
            raise RuntimeError("Hypercorn chose a protocol that this port does not speak")
        self._h11 = Http1Protocol(
            made.app,
            made.config,
            made.context,
            made.task_group,
            made.connection_state,
            made.ssl,
            made.client,
            made.server,
            made.send,
        )


class _Socket:
    """The addresses of a connection, with the methods of a socket that Hypercorn calls."""

    def __init__(self, stream: ServerStream) -> None:
        self._remote = stream.remote
        self._local = stream.local
        self.family = trio.socket.AF_INET6 if is_ipv6(stream.remote) else trio.socket.AF_INET

    def getpeername(self) -> AddrPort:
        return self._remote

    def getsockname(self) -> AddrPort:
        return self._local


class _WebStream:
    """A plain connection with the attributes of a ``trio.SocketStream`` that Hypercorn uses."""

    def __init__(self, stream: ServerStream) -> None:
        self.socket = _Socket(stream)
        self.receive_some = stream.receive_some
        self.send_all = partial(_send_or_abort, stream)
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose


class _TlsWebStream:
    """A TLS connection with the attributes of a ``trio.SSLStream`` that Hypercorn uses, and knows TLS by."""

    def __init__(self, stream: ServerStream) -> None:
        self.transport_stream = _WebStream(stream)
        self.receive_some = stream.receive_some
        self.send_all = partial(_send_or_abort, stream)
        self.aclose = stream.aclose

    async def do_handshake(self) -> None:
        """Has no effect: the handshake was done before the head was read."""

    async def send_eof(self) -> None:
        raise AttributeError("send_eof")

    def selected_alpn_protocol(self) -> str:
        return "http/1.1"


async def _send_or_abort(stream: ServerStream, data: bytes) -> None:
    """Sends data, and aborts the stream if that fails, so that ``_ConnectionApp`` answers no more requests.

    Raises: trio.BrokenResourceError.
    """
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        stream.abort()
        raise


class _ConnectionApp:
    """The app on one connection, behind the checks that come first and the count of requests in flight.

    Hypercorn hands an app its request through a bounded channel and waits while that is full. An app that
    answers without reading a large body would leave the connection waiting for ever, so the rest of a request
    is read and discarded here once the app has answered.
    """

    def __init__(
        self,
        app: ASGIApp,
        stream: ServerStream,
        nursery: trio.Nursery,
        proxies: TrustedProxies,
        drain: Drain,
    ) -> None:
        self._app = app
        self._proxies = proxies
        self._drain = drain
        self._stream = stream
        self._nursery = nursery

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._stream.is_closed:
            self._nursery.cancel_scope.cancel()
            return
        if (refusal := _refusal(scope)) is not None:
            await _refuse(scope, send, *refusal)
            return
        scope[_NOTE_KNOWN] = self._stream.note_known
        self._look_through_proxies(scope)
        answer = _Answer(self._stream, send, on_end=lambda: self._nursery.start_soon(_discard, receive))
        is_request = scope["type"] == "http"
        if is_request:
            self._drain.enter()
        try:
            await self._run(scope, receive, answer)
        finally:
            answer.end()
            if not self._stream.is_closed:
                self._stream.note_answered()
            if is_request:
                self._drain.leave()

    def _look_through_proxies(self, scope: Any) -> None:
        """Sets the request's client and scheme to those that a trusted proxy reports with this request."""
        if "headers" not in scope or not scope.get("client"):
            return
        peer, port = scope["client"]
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        scope["client"] = (self._proxies.client_of(peer, fields), port)
        scheme = self._proxies.scheme_of(peer, fields, scope["scheme"])
        if scheme != scope["scheme"] and scope["type"] == "http":
            scope["scheme"] = scheme

    async def _run(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            await self._app(scope, receive, answer.send)
        except (ClientDisconnect, WebSocketDisconnect, _ClientGone):
            return
        except Exception:
            _log.exception("http.app_failed", path=scope.get("path"))
            await answer.fail(scope)


def _refusal(scope: Scope) -> tuple[int, list[tuple[bytes, bytes]]] | None:
    """Returns status and headers for a request that the app must not get; None for any other.

    400 where the request's end is ambiguous (``is_framing_in_doubt``), 405 for a method that is not in
    ``METHODS``.
    """
    if "headers" in scope and is_framing_in_doubt(scope["http_version"], scope["headers"]):
        return 400, []
    if scope["type"] == "http" and scope["method"] not in METHODS:
        return 405, [(b"allow", ALLOW)]
    return None


async def _refuse(scope: Scope, send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
    fields = [(b"content-length", b"0"), (b"connection", b"close"), *headers]
    await send({"type": f"{kind}.start", "status": status, "headers": fields})
    await send({"type": f"{kind}.body", "body": b""})


class _ClientGone(ConnectionResetError):
    """The error of a client that closed its connection before it was answered."""


class _Answer:
    """An app's answer to one request: its messages are passed to Hypercorn, and its end is noticed.

    Hypercorn discards messages to a client that has left, without a checkpoint: an app with an endless answer
    would then block the event loop. Here its ``send`` raises the OSError of the ASGI specification.
    """

    def __init__(self, stream: ServerStream, send: Send, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._send = send
        self._on_end = on_end
        self._is_started = False
        self._is_ended = False

    async def send(self, message: Message) -> None:
        if self._stream.is_closed:
            raise _ClientGone("the client has left")
        self._is_started = True
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.end()
        await self._send(message)

    def end(self) -> None:
        """Marks the answer as ended; the rest of the request may be discarded.

        Further calls have no effect.
        """
        if not self._is_ended:
            self._is_ended = True
            self._on_end()

    async def fail(self, scope: Scope) -> None:
        """Answers 500 if the answer to an HTTP request has not begun and the client is there."""
        if self._is_started or self._stream.is_closed or scope["type"] != "http":
            return
        await self.send(
            {"type": "http.response.start", "status": 500, "headers": [(b"connection", b"close")]}
        )
        await self.send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive) -> None:
    while not (await receive())["type"].endswith(".disconnect"):
        pass
