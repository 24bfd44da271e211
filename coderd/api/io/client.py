"""Client of the API: a method for each operation that a command or a daemon needs."""

import ssl
from typing import Literal
from urllib.parse import quote

from coderd.api.health import HealthReport
from coderd.api.io.exchange import Exchange
from coderd.api.messages import (
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
    GiveSignIn,
    Health,
    JoinWorkspace,
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
)
from coderd.model.keys import NodePublic
from coderd.model.paths import PathRule
from coderd.model.roles import Scope, UserRole


class ApiClient:
    """Operations of one server with one token; blocking. Each raises ``UserError``.

    Args:
        url: the server's access URL.
        token: a session token; empty for an unauthenticated client.
        tls: trust for https; the URL's when None.
    """

    def __init__(self, url: str, token: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        self._exchange = Exchange(url, token, tls=tls)

    def health(self) -> Health:
        """Returns whether the server is up."""
        return self._exchange.ask(Health, "GET", "/healthz")

    def me(self) -> UserInfo:
        """Returns the user and the token in use."""
        return self._exchange.ask(UserInfo, "GET", "/users/me")

    # Users: for admins and owners

    def list_users(self) -> list[UserInfo]:
        """Returns all users, sorted by name."""
        return [user for page in self._exchange.pages(UserList, "/users") for user in page.users]

    def create_user(self, name: str, role: UserRole = UserRole.MEMBER) -> UserCreated:
        """Creates a user; the session token is shown this once."""
        return self._exchange.ask(UserCreated, "POST", "/users", CreateUser(name=name, role=role))

    def get_user(self, key: str) -> UserInfo:
        """Returns a user by name or id; the caller if none is given."""
        return self._exchange.ask(UserInfo, "GET", f"/users/{_quoted(key)}")

    def change_user(self, key: str, *, name: str | None = None, role: UserRole | None = None) -> UserInfo:
        """Changes a user's name or role."""
        return self._exchange.ask(
            UserInfo, "PATCH", f"/users/{_quoted(key)}", ChangeUser(name=name, role=role)
        )

    def delete_user(self, key: str) -> None:
        """Deletes a user with all that is theirs."""
        self._exchange.ask(Nothing, "DELETE", f"/users/{_quoted(key)}")

    # Workspaces, by id, name or owner/name

    def list_workspaces(self, *, everyones: bool = False) -> list[WorkspaceInfo]:
        """Returns the caller's workspaces and those shared with the caller."""
        pages = self._exchange.pages(WorkspaceList, _listing("/workspaces", everyones))
        return [workspace for page in pages for workspace in page.workspaces]

    def create_workspace(self, name: str) -> WorkspaceCreated:
        """Creates a workspace; its token is shown this once."""
        return self._exchange.ask(WorkspaceCreated, "POST", "/workspaces", CreateWorkspace(name=name))

    def get_workspace(self, key: str) -> WorkspaceInfo:
        """Returns a workspace, by name or id. Raises UserError."""
        return self._exchange.ask(WorkspaceInfo, "GET", f"/workspaces/{_quoted(key)}")

    def change_workspace(
        self, key: str, *, name: str | None = None, path: PathRule | None = None
    ) -> WorkspaceInfo:
        """Changes a workspace's name or path rule."""
        wish = ChangeWorkspace(name=name, path=path)
        return self._exchange.ask(WorkspaceInfo, "PATCH", f"/workspaces/{_quoted(key)}", wish)

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
        return self._exchange.ask(
            WorkspaceInfo, "PUT", f"/workspaces/{_quoted(key)}/shares/{_quoted(user)}", wish
        )

    def list_connections(self, key: str) -> list[ConnectionInfo]:
        """Returns who is connected to a workspace, and how."""
        return self._exchange.ask(
            ConnectionList, "GET", f"/workspaces/{_quoted(key)}/connections"
        ).connections

    # Shares by others, by id of the workspace or owner/name

    def list_shares(self) -> list[OfferInfo]:
        """Lists workspaces that are shared with the caller, and offers."""
        return self._exchange.ask(OfferList, "GET", "/shares").offers

    def accept_share(self, key: str) -> OfferInfo:
        """Accepts the offer of a workspace."""
        return self._exchange.ask(OfferInfo, "PUT", f"/shares/{_quoted(key)}")

    def leave_share(self, key: str) -> None:
        """Leaves a share, or declines an offer."""
        self._exchange.ask(Nothing, "DELETE", f"/shares/{_quoted(key)}")

    def unshare_workspace(self, key: str, user: str) -> WorkspaceInfo:
        """Takes a share or an offer back."""
        return self._exchange.ask(
            WorkspaceInfo, "DELETE", f"/workspaces/{_quoted(key)}/shares/{_quoted(user)}"
        )

    def list_apps(self, key: str) -> list[AppInfo]:
        """Returns the web apps that were set of a workspace."""
        return self._exchange.ask(AppList, "GET", f"/workspaces/{_quoted(key)}/apps").apps

    def set_app(self, key: str, name: str, share: ShareText, port: int | None = None) -> AppInfo:
        """Names a port of a workspace, and says who may open it by browser."""
        wish = SetApp(name=name, share=share, port=port)
        return self._exchange.ask(AppInfo, "POST", f"/workspaces/{_quoted(key)}/apps", wish)

    def delete_app(self, key: str, name: str) -> None:
        """Deletes a web app's settings."""
        self._exchange.ask(Nothing, "DELETE", f"/workspaces/{_quoted(key)}/apps/{_quoted(name)}")

    def delete_workspace(self, key: str) -> None:
        """Deletes a workspace, by name or id."""
        self._exchange.ask(Nothing, "DELETE", f"/workspaces/{_quoted(key)}")

    def join(self, name: str) -> WorkspaceCreated:
        """Exchanges this client's join key for a workspace's token; ``name`` is the machine's."""
        return self._exchange.ask(WorkspaceCreated, "POST", "/join", JoinWorkspace(name=name))

    # Devices, by id, name or owner/name

    def list_devices(self, *, everyones: bool = False) -> list[DeviceInfo]:
        """Returns the caller's devices, or everyone's."""
        pages = self._exchange.pages(DeviceList, _listing("/devices", everyones))
        return [device for page in pages for device in page.devices]

    def get_device(self, key: str) -> DeviceInfo:
        """Returns a device by its id."""
        return self._exchange.ask(DeviceInfo, "GET", f"/devices/{_quoted(key)}")

    def rename_device(self, key: str, name: str) -> DeviceInfo:
        """Changes the name of a device."""
        return self._exchange.ask(DeviceInfo, "PATCH", f"/devices/{_quoted(key)}", ChangeDevice(name=name))

    def enrol_device(self, name: str, node_key: NodePublic, own_token: str = "") -> DeviceEnrolled:
        """Makes the machine with this node key a device of the caller's; its token is shown this once."""
        body = EnrolDevice(name=name, node_key=node_key.text, device_token=own_token or None)
        return self._exchange.ask(DeviceEnrolled, "POST", "/devices", body)

    def approve_device(self, key: str) -> DeviceInfo:
        """Lets a device in that waits for it."""
        return self._exchange.ask(DeviceInfo, "PUT", f"/devices/{_quoted(key)}/approval")

    def delete_device(self, key: str) -> None:
        """Deletes a device, by its id."""
        self._exchange.ask(Nothing, "DELETE", f"/devices/{_quoted(key)}")

    # Tokens, by id

    def list_tokens(self) -> list[TokenInfo]:
        """Returns the caller's tokens and those of the caller's nodes."""
        return [token for page in self._exchange.pages(TokenList, "/tokens") for token in page.tokens]

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
        return self._exchange.ask(TokenCreated, "POST", "/tokens", wish)

    def token_descent(
        self, token_id: str, *, user: str | None = None, nodes: bool = False
    ) -> list[TokenInfo]:
        """Returns a token and the tokens that were made with it."""
        return self._exchange.ask(TokenList, "GET", _token_path(token_id, user, "/made", nodes)).tokens

    def revoke_token(self, token_id: str, *, user: str | None = None, nodes: bool = False) -> list[TokenInfo]:
        """Revokes a token of the caller's, or of a user's, and what was made with it.

        Returns all tokens that ended.
        """
        return self._exchange.ask(TokenList, "DELETE", _token_path(token_id, user, "", nodes)).tokens

    def list_user_tokens(self, user: str) -> list[TokenInfo]:
        """Returns a user's tokens and those of the user's nodes."""
        return self._exchange.ask(TokenList, "GET", f"/users/{_quoted(user)}/tokens").tokens

    def give_sign_in(self, user: str) -> SignInGiven:
        """Creates a new sign-in for a user, shown this once."""
        return self._exchange.ask(SignInGiven, "POST", f"/users/{_quoted(user)}/sign-ins", GiveSignIn())

    # Looking

    def health_report(self) -> HealthReport:
        """Returns what is wrong with the server; admins only."""
        return self._exchange.ask(HealthReport, "GET", "/health")

    def audit(self, *, before: int | None = None, limit: int = 100, opened: bool = False) -> AuditPage:
        """Returns a page of the audit log or of the access log."""
        older = f"&before={before}" if before is not None else ""
        return self._exchange.ask(
            AuditPage, "GET", f"/{'openings' if opened else 'audit'}?limit={limit}{older}"
        )

    def list_paths(self, *, everyones: bool = False) -> list[ReachInfo]:
        """Returns the paths that the caller's nodes, or everyone's, report."""
        return self._exchange.ask(PathList, "GET", _listing("/paths", everyones)).paths

    def reflection(self) -> Reflection:
        """Returns how this request reached the server."""
        return self._exchange.ask(Reflection, "GET", "/reflection")

    def counters(self) -> ServerCounters:
        """Returns what the server has moved and refused; admins only."""
        return self._exchange.ask(ServerCounters, "GET", "/debug/counters")


def _quoted(key: str) -> str:
    """Quotes a key for a path: ``owner/name`` becomes ``owner~name``."""
    return quote(key.replace("/", "~"), safe="~")


def _token_path(token_id: str, user: str | None, rest: str, nodes: bool) -> str:
    """Returns the path of a token of the caller's, or of a user's."""
    prefix = "" if user is None else f"/users/{_quoted(user)}"
    return f"{prefix}/tokens/{_quoted(token_id)}{rest}{'?nodes=true' if nodes else ''}"


def _listing(path: str, everyones: bool) -> str:
    """Returns the path of a list of the caller's things, or of everyone's."""
    return f"{path}?all=true" if everyones else path
