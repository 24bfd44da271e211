"""The dashboard as an ASGI app, before everything else that the server answers at its own host.

/static/...             the dashboard's files                       everyone
/login, /logout         signing in and out                          everyone
a page of PAGES         what the API answers, as a page             authenticated users
a form of ACTIONS       one call of the API, from our own page      authenticated users
anything else           passed on to ``rest``
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from coderd.api.io.routes import ApiError, Caller, Handler
from coderd.api.joining import join_line, sign_in_line
from coderd.browser.io.sign_in import LOGOUT, SignIn, not_accepted
from coderd.browser.policy import NO_FRAMES, exact
from coderd.config.url import ServerUrl
from coderd.dashboard.io.in_process_api import InProcessApi
from coderd.dashboard.io.render import make_environment
from coderd.dashboard.io.static import StaticFiles
from coderd.dashboard.table import ACTIONS, PAGES, Action, Page
from coderd.http.web import note_known

_HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
_OPEN: Final = "/open"
_PAGES: Final = {path: page for page in PAGES for path in (page.path, page.own_path)}
_ACTIONS: Final = {action.path: action for action in ACTIONS}
_FORMS: Final = (*_ACTIONS, *(page.own_path for page in PAGES), _OPEN, LOGOUT)

log = structlog.get_logger(__name__)


def policy(url: ServerUrl, live: str = "") -> str:
    """Returns the Content-Security-Policy of a page."""
    asked = exact(url, live) if live else "'none'"
    return (
        f"default-src 'none'; style-src {exact(url, '/static/dashboard.css')}; script-src {exact(url, '/static/live.js')};"
        f" connect-src {asked}; img-src data:; form-action {exact(url, *_FORMS)}; {NO_FRAMES}"
    )


class Callers(Protocol):
    """What is asked about sessions."""

    async def find_caller(self, session_hash: bytes, source: str) -> Caller | None:
        """Returns the caller whom the API takes the bearer of a session for, or None."""


class DashboardSite:
    """Dashboard of one server.

    Args:
        callers: find the caller of a session.
        sign_in: signs browsers in and out.
        handlers: the API's handlers by operation.
        access_url: the access URL, with the pin or ``--insecure`` that joining needs.
        version: the program's version.
        has_apps: returns whether web apps and terminals work at this moment.
        is_read_only: whether forms are refused, because web apps could act as these pages.
        rest: answers everything else.
    """

    def __init__(
        self,
        callers: Callers,
        sign_in: SignIn,
        handlers: Mapping[str, Handler],
        *,
        access_url: ServerUrl,
        version: str,
        has_apps: Callable[[], bool],
        is_read_only: bool,
        rest: ASGIApp,
    ) -> None:
        self._callers = callers
        self._sign_in = sign_in
        self._handlers = handlers
        self._url = access_url
        self._version = version
        self._has_apps = has_apps
        self._is_read_only = is_read_only
        self._rest = rest
        self._static = StaticFiles()
        self._templates = make_environment()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; WebSockets are all for ``rest``."""
        answer = None
        if scope["type"] == "http":
            request = Request(scope, receive)
            answer = self._static.answer(request) or await self._sign_in.answer(request)
            if answer is None and request.url.path in (*_PAGES, *_ACTIONS, _OPEN):
                answer = await self._answer(request)
        await (answer or self._rest)(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if not self._sign_in.is_own_host(request):
            return self._sign_in.wrong_host()
        session = self._sign_in.session_of(request)
        source = request.client.host if request.client is not None else ""
        caller = await self._callers.find_caller(session, source) if session is not None else None
        path, is_look = request.url.path, request.method in ("GET", "HEAD")
        if session is None or caller is None:
            where = path + (f"?{request.url.query}" if request.url.query else "")
            return _go(self._sign_in.login_url(where if is_look and path not in _ACTIONS else "/"))
        note_known(request.scope)
        view = _View(self, InProcessApi(self._handlers, caller), self._sign_in.form_token(session))
        try:
            if is_look and path == _OPEN:
                return await view.open_app(request.query_params)
            if is_look and path in _PAGES:
                return await view.show(_PAGES[path], request.query_params)
            if is_look:
                return _go(_ACTIONS[path].page)
            form = await self._sign_in.read_form(request, session) if request.method == "POST" else None
            if form is None or path not in _ACTIONS:
                return not_accepted()
            return await view.act(_ACTIONS[path], form)
        except ApiError as error:
            log.info("dashboard_refused", path=path, code=error.body.code, user_id=str(caller.user_id))
            back = _ACTIONS[path].page if path in _ACTIONS else "/"
            return view.page("refused.html", "Not done", error.status, error=error.body, back=back)

    @property
    def context(self) -> dict[str, Any]:
        """Variables of every template that describe the server."""
        return {
            "version": self._version,
            "origin": str(self._url),
            "sign_in_line": sign_in_line(self._url),
            "has_apps": self._has_apps(),
            "read_only": self._is_read_only,
        }

    def join_line(self, token: str) -> str:
        """Returns the command that joins a workspace's machine."""
        return join_line(self._url, token)

    def render(self, template: str, context: dict[str, Any]) -> str:
        """Renders a template to HTML text."""
        text: str = self._templates.get_template(template).render(context)
        return text

    @property
    def url(self) -> ServerUrl:
        """URL at which browsers reach the server."""
        return self._url

    @property
    def is_read_only(self) -> bool:
        """Whether forms are refused."""
        return self._is_read_only


class _View:
    """Dashboard for one request of an authenticated user."""

    def __init__(self, site: DashboardSite, api: InProcessApi, form_token: str) -> None:
        self._site = site
        self._api = api
        self._form_token = form_token

    async def show(self, page: Page, query: Mapping[str, str]) -> Response:
        """Renders a page. Raises ApiError."""
        answers: dict[str, Any] = {ask.operation: await self._api.ask(ask, query) for ask in page.asks}
        return self.page(
            page.template, page.title, here=page.path, own_path=page.own_path, query=dict(query), **answers
        )

    async def act(self, action: Action, form: Mapping[str, str]) -> Response:
        """Carries out a form's call and returns the page that follows. Raises ApiError."""
        if self._site.is_read_only:
            raise ApiError(
                HTTPStatus.FORBIDDEN,
                "read_only",
                "the dashboard is read-only while the server runs with --dangerous-trust-path-apps",
                "Use coderctl, or run the server without --dangerous-trust-path-apps.",
            )
        answer = await self._api.act(action, form)
        if not action.answer:
            return _go(action.page)
        token = getattr(answer, "token", "")
        line = self._site.join_line(token)
        return self.page(action.answer, "Made", here=action.page, made=answer, form=form, join_line=line)

    async def open_app(self, query: Mapping[str, str]) -> Response:
        """Leads to a port of a workspace, which a form without scripts cannot name in a path."""
        names = [query.get(name, "") for name in ("owner", "workspace", "app")]
        if not all(name and name.isascii() and name.replace("-", "").isalnum() for name in names):
            raise ApiError(
                HTTPStatus.BAD_REQUEST, "bad_request", "the app is neither a port nor a valid name"
            )
        owner, workspace, app = map(quote, names)
        return _go(f"/@{owner}/{workspace}/apps/{app}/")

    def page(self, template: str, title: str, status: int = HTTPStatus.OK, **more: Any) -> Response:
        """Renders a template, with what every page shows."""
        context = {
            **self._site.context,
            "title": title,
            "here": "",
            "own_path": "",
            "pages": [page for page in PAGES if page.is_listed and self._api.may_see(page)],
            "me": self._api.caller.user_name,
            "my_id": self._api.caller.user_id,
            "my_role": self._api.caller.role.name.lower(),
            "may": self._api.may,
            "csrf": self._form_token,
            **more,
        }
        allowed = {"content-security-policy": policy(self._site.url, context["own_path"])}
        return HTMLResponse(self._site.render(template, context), status, {**_HEADERS, **allowed})


def _go(where: str) -> Response:
    return RedirectResponse(where, HTTPStatus.SEE_OTHER, {"cache-control": "no-store"})
