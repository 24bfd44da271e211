"""Signing in by browser, and being handed over to an app's host.

    browser            server's host                                   app's host
    GET /                                                              303 to the server's /apps/sign-in?to=...
    GET /apps/sign-in  not signed in: 303 to /login?next=...
    POST /login        token -> a session of the browser's own, in a cookie; 303 back
    GET /apps/sign-in  a page that posts a ticket to the app's host
    POST ticket                                                        good once: a pass in a cookie; 303 to where it wanted

Neither session nor pass is ever in a URL, and a pass is good for its host alone.
"""

from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from coderd.apps.access import Verdict, is_own_request
from coderd.apps.address import Wildcard
from coderd.apps.headers import APP_COOKIES, SESSION_COOKIES, cookie
from coderd.apps.io.gate import Backend, Gate, Wish, unix_now
from coderd.apps.pages import hand_over_page, message_page, policy, sign_in_page
from coderd.apps.passes import LIFETIME, make_pass, read_pass
from coderd.apps.tickets import Tickets
from coderd.config.url import ServerUrl
from coderd.http.body import BodyTooLarge, read_body
from coderd.model import RandomBytes

HAND_OVER: Final = "/.coderd/sign-in"
"""On an app's host, the one path that is not the app's."""
MAX_FORM: Final = 8192
FORM_TIMEOUT: Final = 10.0
_SERVER: Final = ""
"""What a browser's session with the server is sealed for, where a pass is for an app's host."""


class SignIn:
    """The server's own pages about who somebody is.

    Args:
        backend: identities.
        gate: judges who may open an app.
        access_url: where browsers reach the server.
        wildcard: the hosts of apps, None for none.
        key: seals cookies.
        rng: randomness for tickets.
    """

    def __init__(
        self,
        backend: Backend,
        gate: Gate,
        access_url: ServerUrl,
        wildcard: Wildcard | None,
        key: bytes,
        rng: RandomBytes,
    ) -> None:
        self._backend = backend
        self._gate = gate
        self._url = access_url
        self._wildcard = wildcard
        self._key = key
        self._tickets = Tickets(rng)

    # Where things are

    @property
    def origin(self) -> str:
        """The server's."""
        return _origin(self._url, self._url.host)

    def origin_of(self, host: str) -> str:
        """An app host's: by the same scheme and port as the server's."""
        return _origin(self._url, host)

    def login_url(self, target: str) -> str:
        """Where somebody signs in who wants a path of the server's."""
        return f"/login?next={quote(target, safe='')}"

    def hand_over_url(self, host: str, target: str) -> str:
        """Where somebody signs in who wants something of an app's host."""
        return f"{self.origin}/apps/sign-in?to={quote(self.origin_of(host) + target, safe='')}"

    def session_of(self, text: str) -> bytes | None:
        """The hash of the session that the server's cookie stands for."""
        known = read_pass(self._key, _SERVER, text, unix_now())
        return known.session_hash if known is not None else None

    # On the server's host

    async def answer(self, request: Request) -> Response | None:
        """What the server says at its own paths for it; None for any other."""
        match request.method, request.url.path:
            case (("GET" | "HEAD"), "/login"):
                return self._login_page(request)
            case "POST", "/login":
                return await self._login(request)
            case "POST", "/logout":
                return await self._logout(request)
            case (("GET" | "HEAD"), "/apps/sign-in"):
                return await self._hand_over(request)
        return None

    def _login_page(self, request: Request) -> Response:
        return page(sign_in_page(_local(request.query_params.get("next", "/"))), form_action="'self'")

    async def _login(self, request: Request) -> Response:
        form = await _form(request)
        if form is None or not self._is_own(request):
            return page(
                message_page("Not accepted", "This form did not come from the server's page."), status=403
            )
        target = _local(form.get("next", "/"))
        client = request.client.host if request.client is not None else ""
        session = await self._backend.sign_in(form.get("token", "").strip(), client)
        if isinstance(session, str):
            return page(sign_in_page(target, session), status=401, form_action="'self'")
        text = make_pass(self._key, _SERVER, session.session_hash, unix_now())
        response = RedirectResponse(target, 303, {"cache-control": "no-store"})
        self._set_cookie(response, session_cookie(self._url), text, min(session.lifetime, LIFETIME))
        return response

    async def _logout(self, request: Request) -> Response:
        if not self._is_own(request):
            return page(message_page("Not accepted", "This did not come from the server's page."), status=403)
        if (session := self._session(request)) is not None:
            await self._backend.sign_out(session)
        response = RedirectResponse("/login", 303, {"cache-control": "no-store"})
        self._set_cookie(response, session_cookie(self._url), "", 0)
        return response

    async def _hand_over(self, request: Request) -> Response:
        """Gives a ticket to who may open the app that is wanted. No other address is ever led to."""
        wanted = urlsplit(request.query_params.get("to", ""))
        address = self._wildcard.parse_host(wanted.netloc) if self._wildcard is not None else None
        host = self._wildcard.host_of(address) if self._wildcard is not None and address is not None else None
        if address is None or host is None or f"{wanted.scheme}://{wanted.netloc}" != self.origin_of(host):
            return page(message_page("Not found", "There is no such app."), status=404)
        session = self._session(request)
        verdict = (await self._gate.judge(Wish(address, session))).verdict
        if session is None or verdict is Verdict.SIGN_IN:
            here = f"{request.url.path}?{request.url.query}"
            return RedirectResponse(self.login_url(here), 303, {"cache-control": "no-store"})
        if verdict is not Verdict.OPEN:
            hint = "It may be another's, and not shared with you."
            return page(message_page("Not found", "There is no such app.", hint), status=404)
        target = (wanted.path or "/") + (f"?{wanted.query}" if wanted.query else "")
        ticket = self._tickets.issue(host, session, target, trio.current_time())
        action = self.origin_of(host) + HAND_OVER
        return page(
            hand_over_page(action, ticket), form_action=self.origin_of(host), has_script=True, refers=True
        )

    # On an app's host

    async def redeem(self, request: Request, host: str) -> Response:
        """Exchanges a ticket for a pass of this host."""
        form = await _form(request) if request.method == "POST" else None
        if form is None or request.headers.get("origin") != self.origin:
            return page(message_page("Not accepted", "This did not come from the server's page."), status=403)
        ticket = self._tickets.redeem(form.get("ticket", ""), host, trio.current_time())
        if ticket is None:
            return RedirectResponse(self.hand_over_url(host, "/"), 303, {"cache-control": "no-store"})
        response = RedirectResponse(_local(ticket.target), 303, {"cache-control": "no-store"})
        text = make_pass(self._key, host, ticket.session_hash, unix_now())
        self._set_cookie(response, app_cookie(self._url), text, LIFETIME)
        return response

    # Inside

    def _session(self, request: Request) -> bytes | None:
        return self.session_of(cookie(request.headers.raw, session_cookie(self._url)))

    def _is_own(self, request: Request) -> bool:
        headers = request.headers
        return is_own_request(
            request.method,
            headers.get("origin", ""),
            headers.get("sec-fetch-site", ""),
            headers.get("sec-fetch-mode", ""),
            self.origin,
        )

    def _set_cookie(self, response: Response, name: str, text: str, lifetime: float) -> None:
        response.set_cookie(
            name,
            text,
            max_age=int(lifetime),
            path="/",
            secure=self._url.is_tls,
            httponly=True,
            samesite="lax",
        )


def session_cookie(url: ServerUrl) -> str:
    """The name of the server's own cookie."""
    return SESSION_COOKIES[url.is_tls]


def app_cookie(url: ServerUrl) -> str:
    """The name of an app host's cookie of ours."""
    return APP_COOKIES[url.is_tls]


def target_of(scope: Scope) -> bytes:
    """Path and query as they were sent."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + (b"?" + query if query else b"")


def page(
    html: str,
    *,
    status: int = 200,
    form_action: str = "'none'",
    has_script: bool = False,
    refers: bool = False,
) -> HTMLResponse:
    """One of our pages: with no power but what it needs. ``refers``: a form of it must say where it comes from."""
    headers = {
        "content-security-policy": policy(form_action=form_action, has_script=has_script),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "strict-origin" if refers else "same-origin",
    }
    return HTMLResponse(html, status, headers)


def _origin(url: ServerUrl, host: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    is_usual = url.port == (443 if url.is_tls else 80)
    return f"{url.scheme}://{shown}" if is_usual else f"{url.scheme}://{shown}:{url.port}"


def _local(target: str) -> str:
    """A path of this host, for whatever else was asked for: the way on never leads elsewhere."""
    is_path = target.startswith("/") and target[1:2] not in ("/", "\\") and target.isprintable()
    return target if is_path and "\\" not in target else "/"


async def _form(request: Request) -> dict[str, str] | None:
    """A small form's fields; None for anything else."""
    if (
        request.headers.get("content-type", "").partition(";")[0].strip()
        != "application/x-www-form-urlencoded"
    ):
        return None
    try:
        body = await read_body(request, limit=MAX_FORM, timeout=FORM_TIMEOUT)
        fields = parse_qs(body.decode(), max_num_fields=8)
    except (BodyTooLarge, ClientDisconnect, trio.TooSlowError, ValueError):
        return None
    return {name: values[-1] for name, values in fields.items()}
