"""All web apps as one ASGI app, in front of everything else that the server answers.

    an app's host                          the app, or the ticket that a browser brings from the server
    the server's host, /@owner/ws/apps/A/  the app, in its sandbox
    the server's host, /apps/sign-in       hand-over to an app's host
    anything else                          passed on to ``rest``

A refusal does not reveal whether the workspace exists.
"""

import os
from typing import Final

import structlog
import trio
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from coderd.apps.access import Verdict
from coderd.apps.address import AppAddress, Wildcard, parse_path
from coderd.apps.exchange import BadAnswer, BadRequest
from coderd.apps.headers import Hop, bearer
from coderd.apps.io.connections import Connections
from coderd.apps.io.gate import AccessRequest, Answer, Backend, Gate, Revoked, TooManyOpen, unix_now
from coderd.apps.io.hand_over import HAND_OVER, HandOver, app_cookie, target_of
from coderd.apps.io.websocket import WebSocketRelaying
from coderd.browser.io.sign_in import SignIn, page
from coderd.browser.pages import message_page
from coderd.browser.passes import read_pass
from coderd.browser.requests import comes_from, cookie, header
from coderd.config.url import ServerUrl
from coderd.http.web import note_known
from coderd.identity.people import Node
from coderd.identity.tokens import hash_token
from coderd.metrics import Counters
from coderd.model.errors import UserError

_UNREACHABLE: Final = {"offline": 503, "no_web_apps": 503, "no_service": 502}
_POLICY_VIOLATION: Final = 1008
_TRY_AGAIN_LATER: Final = 1013

log = structlog.get_logger(__name__)


class AppSite:
    """Web apps, then ``rest``.

    Args:
        backend: identities and workspaces.
        sign_in: who is signed in at the server's host.
        access_url: where browsers reach the server.
        wildcard: the hosts of apps, None for none.
        has_path_apps: whether there is the path form.
        trusts_path_apps: whether apps in the path form may act as the server's own pages may: no sandbox.
        key: seals the cookies of apps' hosts.
        counters: ``apps.*``.
        rest: answers what is no app's.
    """

    def __init__(
        self,
        backend: Backend,
        sign_in: SignIn,
        *,
        access_url: ServerUrl,
        wildcard: Wildcard | None,
        has_path_apps: bool,
        trusts_path_apps: bool,
        key: bytes,
        counters: Counters,
        rest: ASGIApp,
    ) -> None:
        self._url = access_url
        self._wildcard = wildcard
        self._has_path_apps = has_path_apps
        self._trusts_path_apps = trusts_path_apps
        self._key = key
        self._counters = counters
        self._rest = rest
        self._gate = Gate(backend)
        self._note_opened = backend.note_opened
        self._connections = Connections(backend, counters)
        self._sign_in = sign_in
        self._hand_over = HandOver(sign_in, self._gate, access_url, wildcard, key, os.urandom)

    async def run(self) -> None:
        """Ends what is open and not allowed any more, or idle for too long, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._connections.run)
            nursery.start_soon(self._gate.run)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._rest(scope, receive, send)
            return
        host = header(scope["headers"], b"host")
        if self._wildcard is not None and self._wildcard.covers(host):
            await self._serve_host(self._wildcard.parse_host(host), scope, receive, send)
            return
        path = scope["raw_path"].decode("latin-1")
        if self._has_path_apps and (found := parse_path(path)) is not None:
            await self._serve_path(*found, scope, receive, send)
        elif scope["type"] == "http" and (answer := await self._hand_over.answer(Request(scope, receive))):
            await answer(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    # The two forms

    async def _serve_host(
        self, address: AppAddress | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        is_path = scope["raw_path"].startswith(b"/")  # and no whole URL, which would name another host
        if address is None or self._wildcard is None or not is_path:
            await self._refuse(Verdict.NOT_FOUND, "", scope, receive, send)
            return
        host = self._wildcard.host_of(address) or ""
        if scope["type"] == "http" and scope["path"] == HAND_OVER:
            answer = await self._hand_over.redeem(Request(scope, receive), host)
            await answer(scope, receive, send)
            return
        session = self._session(scope, self._hand_over.origin_of(host), host)
        where = self._hand_over.hand_over_url(host, target_of(scope).decode("latin-1"))
        hop = Hop(_client(scope), self._url.scheme)
        await self._serve(AccessRequest(address, session), where, target_of(scope), hop, scope, receive, send)

    async def _serve_path(
        self, address: AppAddress, rest: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        query = scope["query_string"]
        if not rest and scope["type"] == "http":
            where = f"{address.prefix}/" + (f"?{query.decode('latin-1')}" if query else "")
            await RedirectResponse(where, 307)(scope, receive, send)
            return
        session = self._session(scope, self._sign_in.origin, "")
        wish = AccessRequest(address, session, is_owners_only=self._trusts_path_apps)
        hop = Hop(_client(scope), self._url.scheme, address.prefix, not self._trusts_path_apps)
        target = rest.encode("latin-1") + (b"?" + query if query else b"")
        where = self._sign_in.login_url(target_of(scope).decode("latin-1"))
        await self._serve(wish, where, target, hop, scope, receive, send)

    def _session(self, scope: Scope, own_origin: str, app_host: str) -> bytes | None:
        """Returns the hash of a request's session, None without a valid one.

        A token counts from anywhere; a cookie only if the request comes from the app's own origin.
        """
        headers = scope["headers"]
        if token := bearer(headers):
            return hash_token(token)
        if not comes_from(headers, scope.get("method", "CONNECT"), own_origin):
            return None
        if not app_host:
            return self._sign_in.session_of(HTTPConnection(scope))
        known = read_pass(self._key, app_host, cookie(headers, app_cookie(self._url)), unix_now())
        return known.session_hash if known is not None else None

    # One request

    async def _serve(
        self,
        wish: AccessRequest,
        sign_in_url: str,
        target: bytes,
        hop: Hop,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if scope["type"] == "websocket":
            await receive()
        answer = await self._gate.judge(wish)
        if answer.verdict is not Verdict.OPEN:
            self._counters[f"apps.{answer.verdict.value}"] += 1
            await self._refuse(answer.verdict, sign_in_url, scope, receive, send)
            return
        self._counters["apps.opened"] += 1
        if answer.viewer is not None and answer.workspace is not None and answer.app is not None:
            self._note_opened(answer.viewer, answer.workspace, answer.app)
        if answer.viewer is not None:  # any text passes for a session where an app is public
            note_known(scope)
        watched = _Watched(send)
        try:
            with self._gate.opened(wish, answer), self._gate.visiting(answer):
                await self._relay(wish, answer, target, hop, scope, receive, watched.send)
        except TooManyOpen:
            self._counters["apps.too_many"] += 1
            if watched.is_begun:
                await _break_off(scope, send, _TRY_AGAIN_LATER)
            else:
                await _respond(_too_many(), scope, receive, send)
        except Revoked:
            self._counters["apps.revoked"] += 1
            if watched.is_begun:
                await _break_off(scope, send, _POLICY_VIOLATION)
            else:
                await self._refuse(Verdict.NOT_FOUND, "", scope, receive, send)

    async def _relay(
        self,
        wish: AccessRequest,
        answer: Answer,
        target: bytes,
        hop: Hop,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        assert answer.workspace is not None
        assert answer.app is not None
        workspace, port = answer.workspace, answer.app.port
        try:
            if scope["type"] == "websocket":
                await self._relay_websocket(workspace, port, target, hop, scope, receive, send)
            else:
                await self._connections.relay(
                    workspace, port, wish.session_hash, scope, target, hop, receive, send
                )
        except UserError as error:
            self._counters["apps.unreachable"] += 1
            await self._apologise(error, scope, receive, send)
        except BadAnswer:
            self._counters["apps.bad_answer"] += 1
            sentence = f"port {port} of the workspace does not answer with valid HTTP"
            await self._apologise(UserError(sentence, code="no_service"), scope, receive, send)
        except BadRequest:
            self._counters["apps.bad_request"] += 1
            sentence = "The request is not valid HTTP/1.1."
            await _respond(page(message_page("Bad request", sentence), status=400), scope, receive, send)

    async def _relay_websocket(
        self,
        workspace: Node,
        port: int,
        target: bytes,
        hop: Hop,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        relaying = WebSocketRelaying(scope, target, hop)
        connection = await self._connections.dial(workspace, port)
        try:
            await relaying.run(connection.stream, receive, send)
        finally:
            self._connections.close(connection)

    # Where there is nothing to relay

    async def _refuse(
        self, verdict: Verdict, sign_in_url: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        response: Response
        if verdict is Verdict.SIGN_IN and _is_navigation(scope):
            response = RedirectResponse(sign_in_url, 303, {"cache-control": "no-store"})
        elif verdict is Verdict.SIGN_IN:
            response = page(message_page("Sign in", "You are not signed in to this app."), status=401)
        else:
            hint = "It may be another user's and not shared with you."
            response = page(message_page("Not found", "There is no such app.", hint), status=404)
        await _respond(response, scope, receive, send)

    async def _apologise(self, error: UserError, scope: Scope, receive: Receive, send: Send) -> None:
        log.info("app_unreachable", code=error.code)
        status = _UNREACHABLE.get(error.code, 504)
        await _respond(
            page(message_page("No answer", error.sentence, error.hint), status=status), scope, receive, send
        )


class _Watched:
    """Notes whether anything has been sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_begun = False

    async def send(self, message: "dict[str, object] | object") -> None:
        self.is_begun = True
        await self._send(message)  # type: ignore[arg-type]


async def _break_off(scope: Scope, send: Send, code: int) -> None:
    """Ends what was begun: a WebSocket by a code, an answer by leaving it incomplete.

    An incomplete answer does not look whole to the browser.
    """
    if scope["type"] == "websocket":
        with trio.move_on_after(1):
            await send({"type": "websocket.close", "code": code})


def _too_many() -> Response:
    sentence = (
        "You have reached the limit of requests and connections to web apps that one user may have open."
    )
    return page(
        message_page("Too many", sentence, "Close some pages of web apps, then load this one again."),
        status=429,
    )


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _is_navigation(scope: Scope) -> bool:
    """Returns whether a request is a browser's navigation, which may be redirected to the sign-in page."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    mode = header(scope["headers"], b"sec-fetch-mode")
    return mode == "navigate" if mode else "text/html" in header(scope["headers"], b"accept")


async def _respond(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Sends a response in place of an app's; a WebSocket's handshake is refused with its status."""
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    start = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": bytes(response.body)})
