"""Hypercorn's HTTP/1.1 and WebSocket server over one of our streams."""

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
    """An app has learned who is at the other end of this connection: see ``ServerStream.note_known``."""
    scope[_NOTE_KNOWN]()


async def serve_web(
    stream: ServerStream,
    app: ASGIApp,
    proxies: TrustedProxies = NO_PROXIES,
    drain: Drain | None = None,
) -> None:
    """Answers requests on a connection until it ends; each comes from where a trusted proxy says that it does.

    Where the client is gone, what it had asked for besides is not answered.

    Whatever Hypercorn raises is about this connection alone, and left to the caller.
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
    """Speaks HTTP/1.1 and nothing else.

    Hypercorn would follow a client to HTTP/2 by ``Upgrade: h2c`` or its preface. An HTTP/2 connection can carry no
    relay, so only the HTTP/1.1 protocol inside its wrapper is used, and such a client's connection ends.
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
    """The addresses of a connection in the form in which Hypercorn asks for them."""

    def __init__(self, stream: ServerStream) -> None:
        self._remote = stream.remote
        self._local = stream.local
        self.family = trio.socket.AF_INET6 if is_ipv6(stream.remote) else trio.socket.AF_INET

    def getpeername(self) -> AddrPort:
        return self._remote

    def getsockname(self) -> AddrPort:
        return self._local


class _WebStream:
    """A plain connection as Hypercorn knows it."""

    def __init__(self, stream: ServerStream) -> None:
        self.socket = _Socket(stream)
        self.receive_some = stream.receive_some
        self.send_all = partial(_send_or_abort, stream)
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose


class _TlsWebStream:
    """A TLS connection as Hypercorn knows it: it tells the two apart by these attributes."""

    def __init__(self, stream: ServerStream) -> None:
        self.transport_stream = _WebStream(stream)
        self.receive_some = stream.receive_some
        self.send_all = partial(_send_or_abort, stream)
        self.aclose = stream.aclose

    async def do_handshake(self) -> None:
        """Nothing: it was done before the head was read."""

    async def send_eof(self) -> None:
        raise AttributeError("send_eof")

    def selected_alpn_protocol(self) -> str:
        return "http/1.1"


async def _send_or_abort(stream: ServerStream, data: bytes) -> None:
    """Hypercorn goes on with requests that were read already whoever is there: that nobody is has to be known to the stream."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        stream.abort()
        raise


class _ConnectionApp:
    """The app, seen from one connection.

    Hypercorn hands an app its request through a bounded channel and waits while that is full. An app that answers
    without reading a large body would thus leave the connection waiting for ever; so once an app has answered,
    what is left of its request is read and thrown away here.
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
        """One connection of a proxy carries many clients' requests: whose it is, each of them says anew."""
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
    """Status and headers for what no app is asked: no ordinary request, or one of which nobody knows where it ends."""
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
    """The client has closed its connection before it was answered."""


class _Answer:
    """What an app sends, watched for its end.

    Hypercorn swallows what is sent to a client that has left, without a checkpoint: an app that answers for ever
    would then never let go of the event loop. Here it gets the OSError that ASGI promises.
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
        """Nobody reads the request any more."""
        if not self._is_ended:
            self._is_ended = True
            self._on_end()

    async def fail(self, scope: Scope) -> None:
        """Answers 500 where nothing has been answered yet."""
        if self._is_started or self._stream.is_closed or scope["type"] != "http":
            return
        await self.send(
            {"type": "http.response.start", "status": 500, "headers": [(b"connection", b"close")]}
        )
        await self.send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive) -> None:
    while not (await receive())["type"].endswith(".disconnect"):
        pass
