"""Clients of the API: blocking for commands, async for the daemon. A token goes to the URL that it was given with, only.

No redirect is ever followed, every answer is bounded in size and time, and whatever goes wrong is a ``UserError``.
"""

import ssl
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Literal, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx

from coderd.api.health import HealthReport
from coderd.api.messages import (
    MAX_ANSWER,
    MAX_LIST,
    PREFIX,
    ApiMessage,
    AppInfo,
    AppList,
    AuditPage,
    ChangeDevice,
    ChangeUser,
    ChangeWorkspace,
    ConnectionInfo,
    ConnectionList,
    CreateToken,
    CreateUser,
    CreateWorkspace,
    DeviceEnrolled,
    DeviceInfo,
    DeviceList,
    EnrolDevice,
    ErrorBody,
    GiveSignIn,
    Health,
    JoinWorkspace,
    ListPage,
    Nothing,
    OfferInfo,
    OfferList,
    OfferShare,
    PathList,
    ReachInfo,
    Reflection,
    ServerCounters,
    SetApp,
    ShareText,
    SignInGiven,
    TokenCreated,
    TokenInfo,
    TokenList,
    UserCreated,
    UserInfo,
    UserList,
    WorkspaceCreated,
    WorkspaceInfo,
    WorkspaceList,
    encode_message,
    parse_message,
)
from coderd.config.url import ServerUrl, parse_server_url
from coderd.http.pinned import BadAuthorities, server_context, why_untrusted
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.model.keys import NodePublic
from coderd.model.paths import PathRule
from coderd.model.roles import Scope, UserRole

TIMEOUT = httpx.Timeout(10.0)

MAX_PAGES = 10_000
"""Pages of a list that a client reads."""

M = TypeVar("M", bound=ApiMessage)
L = TypeVar("L", bound=ListPage)
T = TypeVar("T")

_EXITS: dict[int, Exit] = {
    HTTPStatus.UNAUTHORIZED: Exit.REFUSED,
    HTTPStatus.FORBIDDEN: Exit.REFUSED,
}


class ApiClient:
    """One server and one token; blocking.

    Args:
        url: the server's access URL.
        token: a session token; empty for what anybody may ask.
        tls: trust for https; the URL's when None.
    """

    def __init__(self, url: str, token: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        self._url = parse_server_url(url)
        self._token = token
        self._tls = tls

    def health(self) -> Health:
        """Returns whether the server is up."""
        return self._ask(Health, "GET", "/healthz")

    def me(self) -> UserInfo:
        """Returns the user and the token in use."""
        return self._ask(UserInfo, "GET", "/users/me")

    # Users: for admins and owners

    def list_users(self) -> list[UserInfo]:
        """Returns all users, sorted by name."""
        return [user for page in self._pages(UserList, "/users") for user in page.users]

    def create_user(self, name: str, role: UserRole = UserRole.MEMBER) -> UserCreated:
        """Creates a user; the session token is shown this once."""
        return self._ask(UserCreated, "POST", "/users", CreateUser(name=name, role=role))

    def get_user(self, key: str) -> UserInfo:
        """Returns a user by name or id; the caller if none is given."""
        return self._ask(UserInfo, "GET", f"/users/{_quoted(key)}")

    def change_user(self, key: str, *, name: str | None = None, role: UserRole | None = None) -> UserInfo:
        """Changes a user's name or role."""
        return self._ask(UserInfo, "PATCH", f"/users/{_quoted(key)}", ChangeUser(name=name, role=role))

    def delete_user(self, key: str) -> None:
        """Deletes a user with all that is theirs."""
        self._ask(Nothing, "DELETE", f"/users/{_quoted(key)}")

    # Workspaces, by id, name or owner/name

    def list_workspaces(self, *, everybodys: bool = False) -> list[WorkspaceInfo]:
        """Returns the caller's workspaces and those shared with the caller."""
        pages = self._pages(WorkspaceList, _listing("/workspaces", everybodys))
        return [workspace for page in pages for workspace in page.workspaces]

    def create_workspace(self, name: str) -> WorkspaceCreated:
        """Creates a workspace; its token is shown this once."""
        return self._ask(WorkspaceCreated, "POST", "/workspaces", CreateWorkspace(name=name))

    def get_workspace(self, key: str) -> WorkspaceInfo:
        """Returns a workspace, by name or id. Raises UserError."""
        return self._ask(WorkspaceInfo, "GET", f"/workspaces/{_quoted(key)}")

    def change_workspace(
        self, key: str, *, name: str | None = None, path: PathRule | None = None
    ) -> WorkspaceInfo:
        """Changes a workspace's name or path rule."""
        wish = ChangeWorkspace(name=name, path=path)
        return self._ask(WorkspaceInfo, "PATCH", f"/workspaces/{_quoted(key)}", wish)

    def share_workspace(
        self,
        key: str,
        user: str,
        *,
        ports: str | None = None,
        terminal: bool | None = None,
        lifetime: float | None = None,
        endless: bool = False,
    ) -> WorkspaceInfo:
        """Offers a workspace to another user, or changes the terms: see ``OfferShare``."""
        wish = OfferShare(ports=ports, terminal=terminal, lifetime=lifetime, endless=endless)
        return self._ask(WorkspaceInfo, "PUT", f"/workspaces/{_quoted(key)}/shares/{_quoted(user)}", wish)

    def list_connections(self, key: str) -> list[ConnectionInfo]:
        """Returns who is connected to a workspace, and how."""
        return self._ask(ConnectionList, "GET", f"/workspaces/{_quoted(key)}/connections").connections

    # Shares by others, by id of the workspace or owner/name

    def list_shares(self) -> list[OfferInfo]:
        """Lists workspaces that are shared with the caller, and offers."""
        return self._ask(OfferList, "GET", "/shares").offers

    def accept_share(self, key: str) -> OfferInfo:
        """Accepts the offer of a workspace."""
        return self._ask(OfferInfo, "PUT", f"/shares/{_quoted(key)}")

    def leave_share(self, key: str) -> None:
        """Leaves a share, or declines an offer."""
        self._ask(Nothing, "DELETE", f"/shares/{_quoted(key)}")

    def unshare_workspace(self, key: str, user: str) -> WorkspaceInfo:
        """Takes a share or an offer back."""
        return self._ask(WorkspaceInfo, "DELETE", f"/workspaces/{_quoted(key)}/shares/{_quoted(user)}")

    def list_apps(self, key: str) -> list[AppInfo]:
        """Returns the web apps that were set of a workspace."""
        return self._ask(AppList, "GET", f"/workspaces/{_quoted(key)}/apps").apps

    def set_app(self, key: str, name: str, share: ShareText, port: int | None = None) -> AppInfo:
        """Names a port of a workspace, and says who may open it by browser."""
        wish = SetApp(name=name, share=share, port=port)
        return self._ask(AppInfo, "POST", f"/workspaces/{_quoted(key)}/apps", wish)

    def delete_app(self, key: str, name: str) -> None:
        """Deletes a web app's settings."""
        self._ask(Nothing, "DELETE", f"/workspaces/{_quoted(key)}/apps/{_quoted(name)}")

    def delete_workspace(self, key: str) -> None:
        """Deletes a workspace, by name or id."""
        self._ask(Nothing, "DELETE", f"/workspaces/{_quoted(key)}")

    def join(self, name: str) -> WorkspaceCreated:
        """Exchanges this client's join key for a workspace's token; ``name`` is the machine's."""
        return self._ask(WorkspaceCreated, "POST", "/join", JoinWorkspace(name=name))

    # Devices, by id, name or owner/name

    def list_devices(self, *, everybodys: bool = False) -> list[DeviceInfo]:
        """Returns the caller's devices, or everyone's."""
        pages = self._pages(DeviceList, _listing("/devices", everybodys))
        return [device for page in pages for device in page.devices]

    def get_device(self, key: str) -> DeviceInfo:
        """Returns a device by its id."""
        return self._ask(DeviceInfo, "GET", f"/devices/{_quoted(key)}")

    def rename_device(self, key: str, name: str) -> DeviceInfo:
        """Changes the name of a device."""
        return self._ask(DeviceInfo, "PATCH", f"/devices/{_quoted(key)}", ChangeDevice(name=name))

    def enrol_device(self, name: str, node_key: NodePublic, own_token: str = "") -> DeviceEnrolled:
        """Makes the machine with this node key a device of the caller's; its token is shown this once."""
        body = EnrolDevice(name=name, node_key=node_key.text, device_token=own_token or None)
        return self._ask(DeviceEnrolled, "POST", "/devices", body)

    def approve_device(self, key: str) -> DeviceInfo:
        """Lets a device in that waits for it."""
        return self._ask(DeviceInfo, "PUT", f"/devices/{_quoted(key)}/approval")

    def delete_device(self, key: str) -> None:
        """Deletes a device, by its id."""
        self._ask(Nothing, "DELETE", f"/devices/{_quoted(key)}")

    # Tokens, by id

    def list_tokens(self) -> list[TokenInfo]:
        """Returns the caller's tokens and those of the caller's nodes."""
        return [token for page in self._pages(TokenList, "/tokens") for token in page.tokens]

    def create_token(
        self,
        kind: Literal["session", "join"],
        name: str = "",
        *,
        scope: Scope = Scope.ALL,
        lifetime: float | None = None,
        reusable: bool = False,
        workspace: str | None = None,
    ) -> TokenCreated:
        """Creates a session token or a join key, shown this once."""
        wish = CreateToken(
            kind=kind, name=name, scope=scope, lifetime=lifetime, reusable=reusable, workspace=workspace
        )
        return self._ask(TokenCreated, "POST", "/tokens", wish)

    def token_descent(
        self, token_id: str, *, user: str | None = None, nodes: bool = False
    ) -> list[TokenInfo]:
        """Returns a token and the tokens that were made with it."""
        return self._ask(TokenList, "GET", _token_path(token_id, user, "/made", nodes)).tokens

    def revoke_token(self, token_id: str, *, user: str | None = None, nodes: bool = False) -> list[TokenInfo]:
        """Revokes a token of the caller's, or of a user's, and what was made with it; returns all that ended."""
        return self._ask(TokenList, "DELETE", _token_path(token_id, user, "", nodes)).tokens

    def list_user_tokens(self, user: str) -> list[TokenInfo]:
        """Returns a user's tokens and those of the user's nodes."""
        return self._ask(TokenList, "GET", f"/users/{_quoted(user)}/tokens").tokens

    def give_sign_in(self, user: str) -> SignInGiven:
        """Creates a new sign-in for a user, shown this once."""
        return self._ask(SignInGiven, "POST", f"/users/{_quoted(user)}/sign-ins", GiveSignIn())

    # Looking

    def health_report(self) -> HealthReport:
        """Returns what is wrong with the server; admins only."""
        return self._ask(HealthReport, "GET", "/health")

    def audit(self, *, before: int | None = None, limit: int = 100, opened: bool = False) -> AuditPage:
        """Returns a page of the audit log or of the access log."""
        older = f"&before={before}" if before is not None else ""
        return self._ask(AuditPage, "GET", f"/{'openings' if opened else 'audit'}?limit={limit}{older}")

    def list_paths(self, *, everybodys: bool = False) -> list[ReachInfo]:
        """Returns the paths that the caller's nodes, or everyone's, report."""
        return self._ask(PathList, "GET", _listing("/paths", everybodys)).paths

    def reflection(self) -> Reflection:
        """Returns how this request reached the server."""
        return self._ask(Reflection, "GET", "/reflection")

    def counters(self) -> ServerCounters:
        """Returns what the server has moved and refused; admins only."""
        return self._ask(ServerCounters, "GET", "/debug/counters")

    def _pages(self, kind: type[L], path: str) -> Iterator[L]:
        """All pages of a list. A server that knows none sends all in one, within ``MAX_ANSWER``."""
        after = ""
        for _ in range(MAX_PAGES):
            query = f"limit={MAX_LIST}" + (f"&after={quote(after, safe='')}" if after else "")
            page = self._ask(kind, "GET", f"{path}{'&' if '?' in path else '?'}{query}")
            yield page
            if page.next is None:
                return
            if page.next <= after:
                break
            after = page.next
        raise _not_understood("its list does not end")

    def _ask(self, kind: type[M], method: str, path: str, body: ApiMessage | None = None) -> M:
        try:
            request = _build_request(self._url, self._token, method, path, body)
            with (
                httpx.Client(timeout=TIMEOUT, verify=_trust(self._url, self._tls)) as client,
                client.stream(
                    request.method, request.url, headers=request.headers, content=request.content
                ) as response,
            ):
                data = bytearray()
                for chunk in response.iter_raw():
                    _append(data, chunk)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            if why := why_untrusted(error):
                raise _not_trusted(self._url, why) from None
            raise _unreachable(self._url, error) from None
        except BadAuthorities as error:
            raise UserError(str(error), exit_code=Exit.USAGE, code="bad_ca_file") from None
        return _parse_answer(kind, response.status_code, bytes(data), path)


async def enrol_device(
    url: str,
    token: str,
    *,
    name: str,
    node_key: NodePublic,
    own_token: str = "",
    tls: ssl.SSLContext | None = None,
) -> DeviceEnrolled:
    """Makes this machine the device of the user whose session token is given; ``own_token`` is the device's of before.

    Raises:
        UserError: Exit.REFUSED for a bad token, Exit.UNREACHABLE for a server that does not answer, Exit.FAILED if
            the key belongs to another identity.
    """
    client = ApiClient(url, token, tls=tls)
    return await _in_thread(partial(client.enrol_device, name, node_key, own_token))


async def remove_device(
    url: str, token: str, device_id: UUID | str, *, tls: ssl.SSLContext | None = None
) -> None:
    """Makes the server forget a device; its own device token will do. Raises UserError as ``enrol_device``."""
    client = ApiClient(url, token, tls=tls)
    await _in_thread(partial(client.delete_device, str(device_id)))


async def ask_reflection(url: str, token: str, *, tls: ssl.SSLContext | None = None) -> Reflection:
    """Asks the server how it sees a request of this machine."""
    return await _in_thread(ApiClient(url, token, tls=tls).reflection)


async def join_workspace(
    url: str, key: str, *, name: str, tls: ssl.SSLContext | None = None
) -> WorkspaceCreated:
    """Exchanges a join key for a workspace's token. Raises UserError as ``enrol_device``."""
    client = ApiClient(url, key, tls=tls)
    return await _in_thread(partial(client.join, name))


async def _in_thread(question: Callable[[], T]) -> T:
    """The daemon asks rarely: a thread, left behind when the asker is cancelled, is simpler than a second client."""
    import trio  # late: commands import this module, and trio alone costs them a tenth of a second

    return await trio.to_thread.run_sync(question, abandon_on_cancel=True)


def _build_request(
    url: ServerUrl, token: str, method: str, path: str, body: ApiMessage | None
) -> httpx.Request:
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise UserError(
                "the token cannot be used: it contains characters that no token has",
                exit_code=Exit.REFUSED,
                hint="Copy it again, without spaces or line breaks.",
                code="unauthorized",
            )
        headers["authorization"] = f"Bearer {token}"
    content = b"" if body is None else encode_message(body)
    if body is not None:
        headers["content-type"] = "application/json"
    return httpx.Request(method, f"{url}{PREFIX}{path}", headers=headers, content=content)


def _quoted(key: str) -> str:
    """A key as a path may carry it: ``owner/name`` becomes ``owner~name``."""
    return quote(key.replace("/", "~"), safe="~")


def _token_path(token_id: str, user: str | None, rest: str, nodes: bool) -> str:
    whose = "" if user is None else f"/users/{_quoted(user)}"
    return f"{whose}/tokens/{_quoted(token_id)}{rest}{'?nodes=true' if nodes else ''}"


def _listing(path: str, everybodys: bool) -> str:
    return f"{path}?all=true" if everybodys else path


def _trust(url: ServerUrl, tls: ssl.SSLContext | None) -> ssl.SSLContext:
    if tls is not None:
        return tls
    # Reading the system's certificates takes longer than a command: http gets a context that trusts nobody.
    return server_context(url) if url.is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _append(data: bytearray, chunk: bytes) -> None:
    data += chunk
    if len(data) > MAX_ANSWER:
        raise _not_understood("it is too long")


def _parse_answer(kind: type[M], status: int, data: bytes, path: str) -> M:
    try:
        if status < 300:
            return parse_message(kind, data)
        error = parse_message(ErrorBody, data)
    except MalformedPacket:
        raise _not_understood(f"its status is {status}") from None
    exit_code = _EXITS.get(status, Exit.FAILED)
    if error.code == "not_found" and path.startswith("/workspaces/"):
        exit_code = Exit.NO_SUCH_WORKSPACE
    raise UserError(error.message, exit_code=exit_code, hint=error.hint, code=error.code)


def _not_understood(why: str) -> UserError:
    return UserError(
        f"the server's answer cannot be understood: {why}",
        hint="Check that the URL is that of a coderd server.",
        code="bad_answer",
    )


def _not_trusted(url: ServerUrl, why: str) -> UserError:
    return UserError(
        f"the server at {url} is not trusted: {why}",
        exit_code=Exit.REFUSED,
        hint="Nothing was sent. The server prints its certificate's pin when it starts: give it with --pin."
        " A private authority's file goes with --ca-file.",
        code="wrong_certificate",
    )


def _unreachable(url: ServerUrl, error: Exception) -> UserError:
    why = "it does not answer in time" if isinstance(error, httpx.TimeoutException) else str(error)
    return UserError(
        f"the server at {url} cannot be reached: {why or type(error).__name__}",
        exit_code=Exit.UNREACHABLE,
        hint="Check the URL, and that the server runs.",
        code="unreachable",
    )
