"""Messages of ``/api/v1``: JSON objects, unknown fields ignored, every text bounded.

``rules`` says which operation has which, and who may call it. A refusal has a status of 400 or more and an
``ErrorBody``. Tokens travel as ``Authorization: Bearer``, nowhere else.

message     bounds, errors and pages of a list; encoding as JSON
users       users and their sign-ins
workspaces  workspaces, and who is connected to one
shares      shares and offers
apps        web apps
devices     devices
tokens      session tokens, join keys, and tokens of nodes
paths       paths between nodes, and relays
audit       the audit log and the access log
diagnosis   the server's own state
"""

from coderd.api.messages.apps import AppInfo, AppList, SetApp, ShareText
from coderd.api.messages.audit import AuditEntry, AuditPage, AuditQuery
from coderd.api.messages.devices import (
    ChangeDevice,
    DeviceEnrolled,
    DeviceInfo,
    DeviceList,
    EnrolDevice,
    KeyText,
)
from coderd.api.messages.diagnosis import Health, Reflection, RelayClient, ServerCounters
from coderd.api.messages.message import (
    MAX_ANSWER,
    MAX_BODY,
    MAX_LIST,
    MAX_PAGE,
    PREFIX,
    ApiMessage,
    ErrorBody,
    Lifetime,
    ListPage,
    ListQuery,
    NameText,
    Nothing,
    PageQuery,
    encode_message,
    parse_message,
    parse_query,
)
from coderd.api.messages.paths import PathList, ReachInfo, RelayList, RelayLoad, RelayRegionInfo
from coderd.api.messages.shares import OfferInfo, OfferList, OfferShare, PortsText, ShareInfo
from coderd.api.messages.tokens import CreateToken, RevokeQuery, TokenCreated, TokenInfo, TokenList
from coderd.api.messages.users import (
    ChangeUser,
    CreateUser,
    GiveSignIn,
    SignInGiven,
    Usage,
    UserCreated,
    UserInfo,
    UserList,
)
from coderd.api.messages.workspaces import (
    ChangeWorkspace,
    ConnectionInfo,
    ConnectionList,
    CreateWorkspace,
    JoinWorkspace,
    WorkspaceCreated,
    WorkspaceInfo,
    WorkspaceList,
)

__all__ = [
    "MAX_ANSWER",
    "MAX_BODY",
    "MAX_LIST",
    "MAX_PAGE",
    "PREFIX",
    "ApiMessage",
    "AppInfo",
    "AppList",
    "AuditEntry",
    "AuditPage",
    "AuditQuery",
    "ChangeDevice",
    "ChangeUser",
    "ChangeWorkspace",
    "ConnectionInfo",
    "ConnectionList",
    "CreateToken",
    "CreateUser",
    "CreateWorkspace",
    "DeviceEnrolled",
    "DeviceInfo",
    "DeviceList",
    "EnrolDevice",
    "ErrorBody",
    "GiveSignIn",
    "Health",
    "JoinWorkspace",
    "KeyText",
    "Lifetime",
    "ListPage",
    "ListQuery",
    "NameText",
    "Nothing",
    "OfferInfo",
    "OfferList",
    "OfferShare",
    "PageQuery",
    "PathList",
    "PortsText",
    "ReachInfo",
    "Reflection",
    "RelayClient",
    "RelayList",
    "RelayLoad",
    "RelayRegionInfo",
    "RevokeQuery",
    "ServerCounters",
    "SetApp",
    "ShareInfo",
    "ShareText",
    "SignInGiven",
    "TokenCreated",
    "TokenInfo",
    "TokenList",
    "Usage",
    "UserCreated",
    "UserInfo",
    "UserList",
    "WorkspaceCreated",
    "WorkspaceInfo",
    "WorkspaceList",
    "encode_message",
    "parse_message",
    "parse_query",
]
