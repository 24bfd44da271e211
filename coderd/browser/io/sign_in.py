"""Who is signed in at the server's own host, and the pages to sign in and out.

    GET /login?next=/path   a form
    POST /login             token -> a session of the browser's own, in a cookie; 303 to where it wanted
    POST /logout            revokes the session; 303 to /login

These pages are served only under the access URL's own Host; under any other name that points to the server
the answer is one sentence.
"""

from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qs, quote

import trio
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from coderd.browser.pages import message_page, policy, sign_in_page
from coderd.browser.passes import LIFETIME, make_pass, read_pass
from coderd.browser.policy import exact
from coderd.browser.requests import (
    FORM_TOKEN,
    SESSION_COOKIES,
    comes_from,
    cookie,
    form_token,
    is_form_token,
)
from coderd.config.url import ServerUrl
from coderd.http.body import BodyTooLarge, read_body
from coderd.model import limits

LOGIN: Final = "/login"
LOGOUT: Final = "/logout"
MAX_FORM: Final = limits.MAX_FORM
FORM_TIMEOUT: Final = limits.FORM_TIMEOUT
MAX_FIELDS: Final = limits.MAX_FORM_FIELDS
_SERVER: Final = ""
"""What a browser's session with the server is sealed for, where a pass is for an app's host."""


class NewSession(NamedTuple):
    """A session that was made for a browser."""

    session_hash: bytes
    lifetime: float
    """Seconds."""


class Sessions(Protocol):
    """What is asked of the server."""

    async def sign_in(self, token: str, source: str) -> NewSession | str:
        """Exchanges a session token for a session of the browser's own.

        Returns None if the token is invalid.
        """

    async def sign_out(self, session_hash: bytes, source: str) -> None:
        """Revokes a browser's session in the store."""

    def unix_now(self) -> float:
        """Returns the time in wall-clock seconds."""


class SignIn:
    """Sessions of browsers at the server's own host.

    Args:
        sessions: where sessions are made and revoked.
        access_url: where browsers reach the server.
        key: seals cookies and forms.
    """

    def __init__(self, sessions: Sessions, access_url: ServerUrl, key: bytes) -> None:
        self._sessions = sessions
        self._url = access_url
        self._key = key

    @property
    def origin(self) -> str:
        """The server's."""
        return str(self._url)

    @property
    def url(self) -> ServerUrl:
        """Where browsers reach the server."""
        return self._url

    def is_own_host(self, connection: HTTPConnection) -> bool:
        """Returns whether the request is for the access URL's host."""
        return connection.headers.get("host", "").lower() == self._url.authority

    def is_own(self, connection: HTTPConnection) -> bool:
        """Returns whether the cookie counts: the request was made by one of the server's own pages."""
        method = connection.scope.get("method", "CONNECT")
        return comes_from(connection.headers.raw, method, self.origin)

    def session_of(self, connection: HTTPConnection) -> bytes | None:
        """Returns the hash of the session that a request's cookie names, or None."""
        text = cookie(connection.headers.raw, SESSION_COOKIES[self._url.is_tls])
        known = read_pass(self._key, _SERVER, text, self._sessions.unix_now())
        return known.session_hash if known is not None else None

    def form_token(self, session_hash: bytes) -> str:
        """Returns the hidden field ``csrf`` of this session's forms."""
        return form_token(self._key, session_hash)

    async def read_form(self, request: Request, session_hash: bytes) -> dict[str, str] | None:
        """Returns a form's fields if a page of this session sent it, else None."""
        form = await read_form(request)
        if form is None or not self.is_own(request):
            return None
        return form if is_form_token(self._key, session_hash, form.pop(FORM_TOKEN, "")) else None

    def login_url(self, target: str) -> str:
        """Returns the sign-in page's URL, which leads back to a path afterwards."""
        return f"{LOGIN}?next={quote(target, safe='')}"

    def wrong_host(self) -> Response:
        """Returns the page for a request to another host name."""
        text = message_page("Another name", "This server is reached at:", link=self.origin)
        return page(text, status=421)

    def before(self, rest: ASGIApp) -> ASGIApp:
        """Returns an application that serves the sign-in pages, and ``rest`` for all other paths."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            answer = await self.answer(Request(scope, receive)) if scope["type"] == "http" else None
            await (answer or rest)(scope, receive, send)

        return serve

    async def answer(self, request: Request) -> Response | None:
        """Answers a request to one of the sign-in paths; returns None at any other path."""
        path = request.url.path
        if path not in (LOGIN, LOGOUT):
            return None
        if not self.is_own_host(request):
            return self.wrong_host()
        match request.method, path:
            case (("GET" | "HEAD"), "/login"):
                return self._sign_in_page(local(request.query_params.get("next", "/")))
            case "POST", "/login":
                return await self._login(request)
            case "POST", "/logout":
                return await self._logout(request)
        return page(
            message_page("Method not allowed", "This page does not accept requests of this method."),
            status=405,
        )

    def _sign_in_page(self, target: str, error: str = "", status: int = 200) -> Response:
        return page(sign_in_page(target, error), status=status, form_action=exact(self._url, LOGIN))

    async def _login(self, request: Request) -> Response:
        form = await read_form(request)
        if form is None or not self.is_own(request):
            return not_accepted()
        target = local(form.get("next", "/"))
        session = await self._sessions.sign_in(form.get("token", "").strip(), _source(request))
        if isinstance(session, str):
            return self._sign_in_page(target, session, status=401)
        text = make_pass(self._key, _SERVER, session.session_hash, self._sessions.unix_now())
        response = RedirectResponse(target, 303, {"cache-control": "no-store"})
        set_cookie(
            response, self._url, SESSION_COOKIES[self._url.is_tls], text, min(session.lifetime, LIFETIME)
        )
        return response

    async def _logout(self, request: Request) -> Response:
        session = self.session_of(request)
        if session is not None:
            if await self.read_form(request, session) is None:
                return not_accepted()
            await self._sessions.sign_out(session, _source(request))
        response = RedirectResponse(LOGIN, 303, {"cache-control": "no-store"})
        set_cookie(response, self._url, SESSION_COOKIES[self._url.is_tls], "", 0)
        return response


def _source(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client is not None else ""


def not_accepted() -> Response:
    """Returns the answer to a form that no page of this server made."""
    hint = "Go back, load the page again and try once more."
    return page(
        message_page("Not accepted", "This form did not come from the server's page.", hint), status=403
    )


def set_cookie(response: Response, url: ServerUrl, name: str, text: str, lifetime: float) -> None:
    """Sets a cookie that no script can read and no other site can send."""
    response.set_cookie(
        name, text, max_age=int(lifetime), path="/", secure=url.is_tls, httponly=True, samesite="lax"
    )


def page(
    html: str, *, status: int = 200, form_action: str = "'none'", script: str = "", refers: bool = False
) -> HTMLResponse:
    """Returns a page that may load only what it needs."""
    headers = {
        "content-security-policy": policy(form_action=form_action, script=script),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "strict-origin" if refers else "same-origin",
    }
    return HTMLResponse(html, status, headers)


def local(target: str) -> str:
    """Returns the path if it is one of this host, else ``/``."""
    is_path = target.startswith("/") and target[1:2] not in ("/", "\\") and target.isprintable()
    return target if is_path and "\\" not in target else "/"


async def read_form(request: Request) -> dict[str, str] | None:
    """Parses a small form's fields; returns None for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        return None
    try:
        body = await read_body(request, limit=MAX_FORM, timeout=FORM_TIMEOUT)
        fields = parse_qs(body.decode(), max_num_fields=MAX_FIELDS)
    except (BodyTooLarge, ClientDisconnect, trio.TooSlowError, ValueError):
        return None
    return {name: values[-1] for name, values in fields.items()}
