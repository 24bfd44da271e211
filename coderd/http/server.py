"""``serve_http``: one port for the relay, the API, WebSockets and pages.

Each connection's first request head is read here, within a size and a time. An upgrade to DERP, or to a
WebSocket of a known path, takes over the stream; any other head is replayed to Hypercorn, which then owns the
connection. All streams are kept in a set and aborted at the end, as Hypercorn writes in a cancel scope that
is shielded.
"""

import errno
import resource
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, TypeAlias

import structlog
import trio
from starlette.types import ASGIApp

from coderd.http import ws_handshake
from coderd.http.drain import Drain
from coderd.http.forwarded import NO_PROXIES, TrustedProxies
from coderd.http.head import MAX_FIELDS, MAX_HEAD_SIZE, RequestHead, find_head_end, parse_request_head
from coderd.http.streams import AcceptedStream, ServerStream
from coderd.http.tls_stream import TlsStream
from coderd.http.web import serve_web
from coderd.http.websocket import StreamSocket, TextRoute
from coderd.metrics import Counters
from coderd.model import limits
from coderd.model.errors import MalformedPacket
from coderd.model.origins import Origin

HEAD_TIMEOUT: Final = limits.HTTP_HEAD_TIMEOUT
"""Seconds for the TLS handshake, and as many again for the first head."""
REFUSAL_TIMEOUT: Final = limits.HTTP_REFUSAL_TIMEOUT
ACCEPT_PAUSE: Final = 0.1
MAX_STRANGERS: Final = limits.MAX_HTTP_STRANGERS
"""Most connections of unauthenticated clients; beyond it the oldest of the fullest origin is aborted."""
_READ_SIZE: Final = 64 * 1024
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

Listener: TypeAlias = trio.abc.Listener[trio.SocketStream] | trio.abc.Listener[TlsStream]
DerpHandler: TypeAlias = Callable[[ServerStream, RequestHead, bytes], Awaitable[None]]
"""Owner of a connection: called with its stream, the request's head, and the bytes that were read past it."""

_log = structlog.get_logger(__name__)


class _HeadTooLarge(Exception):
    """The error of a head with more than ``MAX_HEAD_SIZE`` bytes or ``MAX_FIELDS`` fields."""


async def serve_http(
    listeners: Sequence[Listener],
    app: ASGIApp,
    *,
    derp: DerpHandler,
    websockets: Mapping[str, TextRoute] = MappingProxyType({}),
    counters: Counters | None = None,
    proxies: TrustedProxies = NO_PROXIES,
    drain: Drain | None = None,
    is_apps_host: Callable[[str], bool] = lambda _host: False,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until cancelled, then aborts every stream and closes the listeners.

    Args:
        listeners: TCP listeners, or TLS ones that offer no ALPN but ``http/1.1``.
        app: answers all other HTTP requests and WebSockets, with ``relay_routes`` in it. Its lifespan is not
            run.
        derp: owns a connection that asked for DERP until it returns.
        websockets: by path, the WebSockets that are served without the app if they are a connection's first
            request.
        counters: ``http.connections``, ``http.connections.closed``, and ``http.drop.*`` by reason.
        proxies: trusted to report a client's address, to relay and app alike.
        drain: once it is asked for, the listeners close; open connections go on.
        is_apps_host: by a Host field, whether the app serves every path there, ``/derp`` and those of
            ``websockets`` too.
        task_status: started once all listeners are being accepted from.

    Connections of unauthenticated clients are limited (``MAX_STRANGERS``, at most half the open files):
    beyond that, of the origin with most of them (an address; of IPv6 a /48) the oldest is aborted. Relay
    links and coordination count as authenticated once they are admitted.
    """
    drain = Drain() if drain is None else drain
    server = _Server(
        app, derp, websockets, Counters() if counters is None else counters, proxies, drain, is_apps_host
    )
    async with trio.open_nursery() as nursery:
        try:
            async with trio.open_nursery() as doors:
                for listener in listeners:
                    doors.start_soon(server.accept, listener, nursery)
                task_status.started()
                await drain.wait_asked()
                doors.cancel_scope.cancel()
            await trio.sleep_forever()
        finally:
            server.abort_all()


class _Server:
    """The open connections of one ``serve_http``, and the count of those with unauthenticated clients."""

    def __init__(
        self,
        app: ASGIApp,
        derp: DerpHandler,
        websockets: Mapping[str, TextRoute],
        counters: Counters,
        proxies: TrustedProxies,
        drain: Drain,
        is_apps_host: Callable[[str], bool],
    ) -> None:
        self._app = app
        self._derp = derp
        self._websockets = websockets
        self._counters = counters
        self._proxies = proxies
        self._drain = drain
        self._is_apps_host = is_apps_host
        self._streams: set[ServerStream] = set()
        self._strangers: dict[str, dict[ServerStream, None]] = {}
        """Connections of unauthenticated clients by origin, each origin's oldest first."""
        self._n_strangers = 0
        self._max_strangers = min(MAX_STRANGERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def abort_all(self) -> None:
        for stream in self._streams:
            stream.abort()

    async def accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    accepted = await listener.accept()
                except OSError as error:
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    self._counters["http.drop.out_of_resources"] += 1
                    await trio.sleep(ACCEPT_PAUSE)
                    continue
                nursery.start_soon(self._own, accepted)

    async def _own(self, accepted: AcceptedStream) -> None:
        """Serves one connection until it is closed; errors that a client causes are counted, not raised."""
        try:
            stream = ServerStream(accepted)
        except OSError:  # it has gone already
            await trio.aclose_forcefully(accepted)
            return
        self._counters["http.connections"] += 1
        self._streams.add(stream)
        self._receive_stranger(stream)
        try:
            await self._serve(stream)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._counters["http.drop.broken"] += 1
        except Exception as error:
            self._counters["http.drop.failed"] += 1
            _log.debug("http.connection_failed", error=_kind(error))
        finally:
            self._streams.discard(stream)
            stream.note_answered = _nothing
            stream.note_known()
            self._counters["http.connections.closed"] += 1
            stream.abort()

    def _receive_stranger(self, stream: ServerStream) -> None:
        place = Origin.of(stream.remote[0]).places[-1]
        stream.note_known = partial(self._forget_stranger, place, stream)
        stream.note_answered = partial(self._receive_stranger, stream)
        self._forget_stranger(place, stream)
        self._strangers.setdefault(place, {})[stream] = None
        self._n_strangers += 1
        if self._n_strangers > self._max_strangers:
            place, most = max(self._strangers.items(), key=lambda item: len(item[1]))
            oldest = next(iter(most))
            self._forget_stranger(place, oldest)
            oldest.abort()
            self._counters["http.drop.stranger"] += 1

    def _forget_stranger(self, place: str, stream: ServerStream) -> None:
        """Stops counting a connection as unauthenticated, if it still is."""
        here = self._strangers.get(place, {})
        if stream in here:
            del here[stream]
            self._n_strangers -= 1
            if not here:
                del self._strangers[place]

    async def _serve(self, stream: ServerStream) -> None:
        try:
            with trio.fail_after(HEAD_TIMEOUT):
                await self._shake_hands(stream)
            with trio.fail_after(HEAD_TIMEOUT):
                received = await _read_head(stream)
        except trio.TooSlowError:
            self._counters["http.drop.slow_head"] += 1
            return
        except _HeadTooLarge:
            self._counters["http.drop.head_too_large"] += 1
            await _refuse(stream, b"431 Request Header Fields Too Large")
            return
        if received is not None:
            await self._dispatch(stream, *received)

    async def _shake_hands(self, stream: ServerStream) -> None:
        """Does the TLS handshake, if the port has TLS; a failed one is counted.

        Raises trio.BrokenResourceError.
        """
        try:
            await stream.handshake()
        except trio.BrokenResourceError:
            self._counters["http.drop.tls_handshake"] += 1
            raise

    async def _dispatch(self, stream: ServerStream, head: bytes, leftover: bytes) -> None:
        try:
            request = parse_request_head(head)
        except MalformedPacket:
            self._counters["http.drop.malformed"] += 1
            await _refuse(stream, b"400 Bad Request")
            return
        if not self._is_apps_host(request.field("host")):
            if request.wants_derp():
                stream.remote = (self._proxies.client_of(stream.remote[0], request.fields), stream.remote[1])
                await self._derp(stream, request, leftover)
                return
            if (route := self._websockets.get(request.path)) is not None and ws_handshake.is_request(request):
                stream.remote = (self._proxies.client_of(stream.remote[0], request.fields), stream.remote[1])
                await route.serve(StreamSocket(stream, request, leftover, max_message=route.max_message))
                return
        stream.replay(_without_h2c(request, head) + leftover)
        await serve_web(stream, self._app, self._proxies, self._drain)


async def _read_head(stream: ServerStream) -> tuple[bytes, bytes] | None:
    """Returns the first head, and the bytes that were read past it; None where the client leaves first.

    Raises: _HeadTooLarge.
    """
    received = bytearray()
    while True:
        data = await stream.receive_some(_READ_SIZE)
        if not data:
            return None
        searched = len(received)
        received += data
        if not received[:1].isalpha():
            # No method begins so (a TLS ClientHello does). Taken for a whole head it is refused at once.
            return bytes(received), b""
        end = find_head_end(received, searched)
        if end > MAX_HEAD_SIZE or (end < 0 and len(received) > MAX_HEAD_SIZE):
            raise _HeadTooLarge
        if end > 0 and received.count(b"\n", 0, end) > MAX_FIELDS + 2:
            raise _HeadTooLarge
        if end > 0:
            return bytes(received[:end]), bytes(received[end:])


def _without_h2c(request: RequestHead, head: bytes) -> bytes:
    """Returns the head without its upgrade to HTTP/2 (h2c), which a server may ignore (RFC 9110 §7.8)."""
    if not request.has_token("upgrade", "h2c"):
        return head
    lines = head.split(b"\n")
    return b"\n".join(
        line for line in lines if not line.lower().startswith((b"upgrade:", b"http2-settings:"))
    )


async def _refuse(stream: ServerStream, status: bytes) -> None:
    """Answers with a bare status, then reads until the client closes, for ``REFUSAL_TIMEOUT`` seconds.

    A socket closed with unread bytes sends a reset, by which the client may lose the answer.
    """
    with trio.move_on_after(REFUSAL_TIMEOUT):
        await stream.send_all(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        if not stream.is_tls:
            await stream.send_eof()
        while await stream.receive_some(_READ_SIZE):
            pass


def _nothing() -> None:
    """Ignores that a request was answered: a closed connection is not counted."""


def _kind(error: BaseException) -> str:
    """Returns the class names of an error or of a group's errors; values may come from a client."""
    if isinstance(error, BaseExceptionGroup):
        return "+".join(_kind(inner) for inner in error.exceptions)
    return type(error).__name__


open_tcp_listeners = partial(trio.open_tcp_listeners, backlog=1024)
"""``trio.open_tcp_listeners`` with a backlog of 1024 connections, for ``serve_http``."""
