"""Hand-over of a user who is signed in at the server's host to an app's host.

    browser            server's host                                   app's host
    GET /                                                              303 to the server's /apps/sign-in?to=...
    GET /apps/sign-in  not signed in: 303 to /login?next=...
    GET /apps/sign-in  a page that posts a ticket to the app's host
    POST ticket                                                        valid once: a pass in a cookie; 303

Neither session nor pass is ever in a URL, and a pass is valid only for its host.
"""

from typing import Final
from urllib.parse import quote, urlsplit

import trio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from coderd.apps.access import Verdict
from coderd.apps.address import Wildcard
from coderd.apps.headers import APP_COOKIES
from coderd.apps.io.gate import AccessRequest, Gate, unix_now
from coderd.apps.pages import SUBMIT, hand_over_page
from coderd.apps.tickets import Tickets
from coderd.browser.io.sign_in import SignIn, local, not_accepted, page, read_form, set_cookie
from coderd.browser.pages import message_page
from coderd.browser.passes import LIFETIME, make_pass
from coderd.config.url import ServerUrl
from coderd.model import RandomBytes

SIGN_IN: Final = "/apps/sign-in"
"""On the server's host."""
HAND_OVER: Final = "/.coderd/sign-in"
"""On an app's host, the one path that is not the app's."""


class HandOver:
    """Hand-over of users from the server's host to an app's.

    Args:
        sign_in: the sessions at the server's host.
        gate: judges who may open an app.
        access_url: the URL at which browsers reach the server.
        wildcard: the hosts of apps; None: they have none.
        key: seals passes.
        rng: randomness for tickets.
    """

    def __init__(
        self,
        sign_in: SignIn,
        gate: Gate,
        access_url: ServerUrl,
        wildcard: Wildcard | None,
        key: bytes,
        rng: RandomBytes,
    ) -> None:
        self._sign_in = sign_in
        self._gate = gate
        self._url = access_url
        self._wildcard = wildcard
        self._key = key
        self._tickets = Tickets(rng)

    def origin_of(self, host: str) -> str:
        """Returns an app host's origin, with the access URL's scheme and port."""
        return str(ServerUrl(self._url.scheme, host, self._url.port))

    def hand_over_url(self, host: str, target: str) -> str:
        """Returns the access URL's page that signs a user in to an app's host."""
        return f"{self._sign_in.origin}{SIGN_IN}?to={quote(self.origin_of(host) + target, safe='')}"

    async def answer(self, request: Request) -> Response | None:
        """Gives a ticket to a user who may open the app that is wanted.

        Hands over to no other address than an app's. Returns None at other paths.
        """
        if request.url.path != SIGN_IN or request.method not in ("GET", "HEAD"):
            return None
        if not self._sign_in.is_own_host(request):
            return self._sign_in.wrong_host()
        wanted = urlsplit(request.query_params.get("to", ""))
        address = self._wildcard.parse_host(wanted.netloc) if self._wildcard is not None else None
        host = self._wildcard.host_of(address) if self._wildcard is not None and address is not None else None
        if address is None or host is None or f"{wanted.scheme}://{wanted.netloc}" != self.origin_of(host):
            return page(message_page("Not found", "There is no such app."), status=404)
        session = self._sign_in.session_of(request)
        verdict = (await self._gate.judge(AccessRequest(address, session))).verdict
        if session is None or verdict is Verdict.SIGN_IN:
            here = f"{request.url.path}?{request.url.query}"
            return RedirectResponse(self._sign_in.login_url(here), 303, {"cache-control": "no-store"})
        if verdict is not Verdict.OPEN:
            hint = "It may be another user's and not shared with you."
            return page(message_page("Not found", "There is no such app.", hint), status=404)
        target = (wanted.path or "/") + (f"?{wanted.query}" if wanted.query else "")
        ticket = self._tickets.issue(host, session, target, trio.current_time())
        where = self.origin_of(host) + HAND_OVER
        return page(hand_over_page(where, ticket), form_action=where, script=SUBMIT, refers=True)

    async def redeem(self, request: Request, host: str) -> Response:
        """Exchanges a ticket for a cookie, on an app's host."""
        form = await read_form(request) if request.method == "POST" else None
        if form is None or request.headers.get("origin") != self._sign_in.origin:
            return not_accepted()
        ticket = self._tickets.redeem(form.get("ticket", ""), host, trio.current_time())
        if ticket is None:
            return RedirectResponse(self.hand_over_url(host, "/"), 303, {"cache-control": "no-store"})
        response = RedirectResponse(local(ticket.target), 303, {"cache-control": "no-store"})
        text = make_pass(self._key, host, ticket.session_hash, unix_now())
        set_cookie(response, self._url, app_cookie(self._url), text, LIFETIME)
        return response


def app_cookie(url: ServerUrl) -> str:
    """Returns the name of our cookie on an app's host."""
    return APP_COOKIES[url.is_tls]


def target_of(scope: Scope) -> bytes:
    """Returns path and query as they were sent."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + (b"?" + query if query else b"")
