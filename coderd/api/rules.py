"""Table of the API's routes, from which router and OpenAPI document are generated.

A route exists only as a line of this table. ``roles`` are the callers who may use it, ``reach`` the resources
that its path may name; anything beyond is answered as not found, so that its existence is not revealed.
"""

from enum import Enum
from typing import NamedTuple

from coderd.api.health import HealthReport
from coderd.api.messages import (
    ApiMessage,
    AppInfo,
    AppList,
    AuditPage,
    AuditQuery,
    ChangeDevice,
    ChangeUser,
    ChangeWorkspace,
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
    ListQuery,
    Nothing,
    OfferInfo,
    OfferList,
    OfferShare,
    PageQuery,
    PathList,
    Reflection,
    RelayList,
    RevokeQuery,
    ServerCounters,
    SetApp,
    SignInGiven,
    TokenCreated,
    TokenList,
    UserCreated,
    UserInfo,
    UserList,
    WorkspaceCreated,
    WorkspaceInfo,
    WorkspaceList,
)
from coderd.model.roles import Role, Scope


class ResourceScope(Enum):
    """Which resources the key in a route's path may refer to, relative to the caller."""

    NOTHING = "names nothing"
    OWN = "the caller's own"
    MANAGED = "the caller's own; for admins also members', for owners everyone's"
    OFFERED = "what is offered to the caller or shared with them"
    SEEN = "the caller's own and what is shared with them; for admins and owners everyone's"


ANYBODY = frozenset(Role)
MANAGERS = frozenset({Role.ADMIN, Role.OWNER})
SESSION = MANAGERS | {Role.MEMBER}
KNOWN = ANYBODY - {Role.NOBODY}


class Rule(NamedTuple):
    """One line of the table."""

    operation: str
    """The handler's name, and the OpenAPI document's ``operationId``."""
    method: str
    path: str
    roles: frozenset[Role]
    summary: str
    answer: type[ApiMessage] | None
    """None: any JSON object."""
    request: type[ApiMessage] | None = None
    query: type[ApiMessage] | None = None
    reach: ResourceScope = ResourceScope.NOTHING
    status: int = 200
    is_body_optional: bool = False
    """Whether a request without a body is one with nothing set."""
    other_scopes: frozenset[Scope] = frozenset()
    """Beside ALL, and READ where the method is GET."""
    needs_sign_in: bool = False
    """Whether a token that was made with another one is not enough."""

    def allows(self, role: Role, scope: Scope) -> bool:
        """Returns whether a caller of this role, with a token of this scope, may use the route."""
        if role not in self.roles:
            return False
        return scope in {Scope.ALL, *self.other_scopes} or (scope is Scope.READ and self.method == "GET")


_CREATED = 201
_ANY_SCOPE = frozenset(Scope)
_ENROL = frozenset({Scope.ENROL})
_SEEN, _MANAGED, _OWN, _OFFERED = (
    ResourceScope.SEEN,
    ResourceScope.MANAGED,
    ResourceScope.OWN,
    ResourceScope.OFFERED,
)

_USERS, _USER = "/users", "/users/{key}"
_WORKSPACES, _WORKSPACE, _SHARE = "/workspaces", "/workspaces/{key}", "/workspaces/{key}/shares/{user}"
_CONNECTIONS, _OFFER = "/workspaces/{key}/connections", "/shares/{key}"
_APPS, _APP = "/workspaces/{key}/apps", "/workspaces/{key}/apps/{app}"
_DEVICES, _DEVICE = "/devices", "/devices/{key}"

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("healthz", "GET", "/healthz", ANYBODY, "Whether the server is up", Health),
    Rule("openapi", "GET", "/openapi.json", ANYBODY, "This API, as OpenAPI 3.1", None),

    Rule("me", "GET", "/users/me", SESSION, "The user that the token belongs to", UserInfo, other_scopes=_ENROL),
    Rule("end_session", "DELETE", "/sessions/me", SESSION, "Revokes the token used", Nothing, other_scopes=_ANY_SCOPE),
    Rule("list_users", "GET", _USERS, MANAGERS, "All users", UserList, query=PageQuery),
    Rule("create_user", "POST", _USERS, MANAGERS, "Creates a user, with a session token that is shown only once; only owners may give another role than member", UserCreated, CreateUser, status=_CREATED, needs_sign_in=True),
    Rule("get_user", "GET", _USER, SESSION, "A user: oneself, or for admins and owners any user", UserInfo, reach=_SEEN),
    Rule("change_user", "PATCH", _USER, MANAGERS, "Changes a user's name or role", UserInfo, ChangeUser, reach=_MANAGED, needs_sign_in=True),
    Rule("delete_user", "DELETE", _USER, MANAGERS, "Deletes a user with their workspaces, devices and tokens", Nothing, reach=_MANAGED),
    Rule("list_user_tokens", "GET", "/users/{key}/tokens", SESSION, "A user's sessions and join keys, and the tokens of their nodes", TokenList, reach=_MANAGED),
    Rule("user_token_descent", "GET", "/users/{key}/tokens/{id}/made", SESSION, "A token of a user, and what is revoked with it", TokenList, query=RevokeQuery, reach=_MANAGED),
    Rule("revoke_user_token", "DELETE", "/users/{key}/tokens/{id}", SESSION, "Revokes a user's token and what was created with it; returns all that was revoked", TokenList, query=RevokeQuery, reach=_MANAGED),
    Rule("give_sign_in", "POST", "/users/{key}/sign-ins", SESSION, "Creates a new sign-in for a user, shown only once", SignInGiven, GiveSignIn, reach=_MANAGED, status=_CREATED, needs_sign_in=True),

    Rule("list_workspaces", "GET", _WORKSPACES, SESSION, "The caller's workspaces and those shared with them; all: everyone's, for admins and owners", WorkspaceList, query=ListQuery),
    Rule("create_workspace", "POST", _WORKSPACES, SESSION, "Creates a workspace of the caller's, with a token that is shown only once", WorkspaceCreated, CreateWorkspace, status=_CREATED),
    Rule("get_workspace", "GET", _WORKSPACE, SESSION, "A workspace", WorkspaceInfo, reach=_SEEN),
    Rule("change_workspace", "PATCH", _WORKSPACE, SESSION, "Changes a workspace's name or path rule", WorkspaceInfo, ChangeWorkspace, reach=_MANAGED),
    Rule("delete_workspace", "DELETE", _WORKSPACE, SESSION, "Deletes a workspace and ends its connections", Nothing, reach=_MANAGED),
    Rule("share_workspace", "PUT", _SHARE, SESSION, "Offers a workspace to another user, or changes the terms; the answer is the same whether there is such a user or not", WorkspaceInfo, OfferShare, reach=_OWN, is_body_optional=True),
    Rule("unshare_workspace", "DELETE", _SHARE, SESSION, "Revokes a user's share of a workspace, or the offer, and closes the user's connections to it at once", WorkspaceInfo, reach=_OWN),
    Rule("list_connections", "GET", _CONNECTIONS, SESSION, "Who is connected to a workspace, how and since when", ConnectionList, reach=_OWN),
    Rule("list_shares", "GET", "/shares", SESSION, "What is shared with the caller, and what is offered", OfferList),
    Rule("accept_share", "PUT", _OFFER, SESSION, "Accepts an offer: the workspace and the caller's devices become peers", OfferInfo, reach=_OFFERED),
    Rule("leave_share", "DELETE", _OFFER, SESSION, "Leaves a share at once, or declines an offer; the owner is not notified", Nothing, reach=_OFFERED),
    Rule("list_apps", "GET", _APPS, SESSION, "The web apps that are set for a workspace", AppList, reach=_OWN),
    Rule("set_app", "POST", _APPS, SESSION, "Sets a web app: its name, its port, and who may open it in a browser", AppInfo, SetApp, reach=_OWN),
    Rule("delete_app", "DELETE", _APP, SESSION, "Deletes a web app's settings: afterwards only the owner may open its port", Nothing, reach=_OWN),
    Rule("join", "POST", "/join", frozenset({Role.JOIN}), "Exchanges a join key for a workspace's token, which is shown only once", WorkspaceCreated, JoinWorkspace, status=_CREATED),

    Rule("list_devices", "GET", _DEVICES, SESSION, "The caller's devices; all: everyone's, for admins and owners", DeviceList, query=ListQuery),
    Rule("enrol_device", "POST", _DEVICES, SESSION, "Enrols a machine as the caller's device; its token is shown only once", DeviceEnrolled, EnrolDevice, status=_CREATED, other_scopes=_ENROL),
    Rule("get_device", "GET", _DEVICE, SESSION, "A device", DeviceInfo, reach=_SEEN),
    Rule("change_device", "PATCH", _DEVICE, SESSION, "Changes a device's name", DeviceInfo, ChangeDevice, reach=_MANAGED),
    Rule("approve_device", "PUT", "/devices/{key}/approval", MANAGERS, "Approves a device that waits for approval", DeviceInfo, reach=_MANAGED),
    Rule("delete_device", "DELETE", _DEVICE, SESSION | {Role.DEVICE}, "Deletes a device and ends its connections; a device may delete itself", Nothing, reach=_MANAGED),

    Rule("list_tokens", "GET", "/tokens", SESSION, "The caller's tokens and those of their nodes, without their secrets", TokenList, query=PageQuery),
    Rule("create_token", "POST", "/tokens", SESSION, "Creates a session token or a join key, shown only once; it expires no later than the token used, or, if that is a sign-in, than the server allows", TokenCreated, CreateToken, status=_CREATED),
    Rule("token_descent", "GET", "/tokens/{id}/made", SESSION, "A token, and what is revoked with it", TokenList, query=RevokeQuery, reach=_OWN),
    Rule("revoke_token", "DELETE", "/tokens/{id}", SESSION, "Revokes a token and what was created with it; revoking a node's token closes its connections; returns all that was revoked", TokenList, query=RevokeQuery, reach=_OWN),

    Rule("list_paths", "GET", "/paths", SESSION, "The paths by which the caller's nodes reach their peers, as they report; all: everyone's, for admins and owners", PathList, query=ListQuery),
    Rule("list_relays", "GET", "/relays", SESSION, "The regions of the relay map, and their latency from the caller's nodes; all: everyone's, for admins and owners", RelayList, query=ListQuery),
    Rule("health", "GET", "/health", MANAGERS, "What is wrong with the server, and what to do about it", HealthReport),
    Rule("audit", "GET", "/audit", MANAGERS, "Who changed what, newest first", AuditPage, query=AuditQuery),
    Rule("openings", "GET", "/openings", MANAGERS, "Who used which tunnels, web apps and terminals, newest first", AuditPage, query=AuditQuery),
    Rule("reflection", "GET", "/reflection", KNOWN, "How this request reached the server", Reflection, other_scopes=_ANY_SCOPE),
    Rule("counters", "GET", "/debug/counters", MANAGERS, "The server's counters, and its relay's clients", ServerCounters),
)
# fmt: on
"""A path's ``{key}`` is an id, a name, or ``owner~name`` if another user owns it."""
