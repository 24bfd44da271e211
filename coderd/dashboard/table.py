"""The dashboard's pages and forms, as tables. Pure.

A page or form exists only as a line of these tables. Each names operations of the API's table
(``api.rules``), which says who may use them: a user does not see links to pages that ask for more.
"""

from typing import Final, NamedTuple

from coderd.api.rules import RULES, Rule

RULE_OF: Final[dict[str, Rule]] = {rule.operation: rule for rule in RULES}


class Ask(NamedTuple):
    """Operation of the API that a page asks."""

    operation: str
    parameters: tuple[str, ...] = ()
    """Parameters of the page's own query that are passed on."""
    keys: tuple[str, ...] = ()
    """Parameters of the page's own query that are parts of the operation's path."""


class Page(NamedTuple):
    """Page of the dashboard."""

    path: str
    title: str
    template: str
    asks: tuple[Ask, ...]
    """Operations that the page asks; the template has each answer under the operation's name."""
    is_listed: bool = True
    """Whether the page is in the navigation."""

    @property
    def own_path(self) -> str:
        """Path under which the page's own script and forms ask for it.

        Unlike ``/``, no prefix of other paths.
        """
        return HOME if self.path == "/" else self.path


class Action(NamedTuple):
    """Form of the dashboard."""

    path: str
    operation: str
    keys: tuple[str, ...] = ()
    """Fields that are parts of the operation's path."""
    fields: tuple[str, ...] = ()
    """Fields of the operation's body; an empty one is not sent."""
    page: str = "/"
    """Page that follows, also after a refusal."""
    answer: str = ""
    """Template that shows what is shown only once; empty: the page follows at once."""


HOME: Final = "/machines"
"""Path of the page at ``/``, which in a Content-Security-Policy would permit all paths."""

PAGES: Final = (
    Page(
        "/",
        "Machines",
        "machines.html",
        (Ask("list_workspaces", ("all",)), Ask("list_devices", ("all",))),
    ),
    Page("/shared", "Shared", "shared.html", (Ask("list_shares"),)),
    Page(
        "/connections",
        "Connections",
        "connections.html",
        (Ask("get_workspace", keys=("key",)), Ask("list_connections", keys=("key",))),
        is_listed=False,
    ),
    Page("/paths", "Paths", "paths.html", (Ask("list_paths", ("all",)),)),
    Page("/relays", "Relays", "relays.html", (Ask("list_relays", ("all",)),)),
    Page("/users", "Users", "users.html", (Ask("list_users"),)),
    Page(
        "/users/tokens",
        "Tokens of a user",
        "user_tokens.html",
        (Ask("get_user", keys=("key",)), Ask("list_user_tokens", keys=("key",))),
        is_listed=False,
    ),
    Page("/tokens", "Tokens", "tokens.html", (Ask("list_tokens"),)),
    Page("/health", "Health", "health.html", (Ask("health"),)),
    Page("/audit", "Audit", "audit.html", (Ask("audit", ("before",)),)),
    Page("/used", "Used", "used.html", (Ask("openings", ("before",)),)),
)

ACTIONS: Final = (
    Action("/workspaces/create", "create_workspace", fields=("name",), answer="workspace_made.html"),
    Action("/workspaces/rename", "change_workspace", keys=("key",), fields=("name",)),
    Action("/workspaces/path", "change_workspace", keys=("key",), fields=("path",)),
    Action("/workspaces/delete", "delete_workspace", keys=("key",)),
    Action(
        "/workspaces/share",
        "share_workspace",
        keys=("key", "user"),
        fields=("ports", "terminal", "lifetime", "endless"),
    ),
    Action("/workspaces/unshare", "unshare_workspace", keys=("key", "user")),
    Action("/shared/accept", "accept_share", keys=("key",), page="/shared"),
    Action("/shared/leave", "leave_share", keys=("key",), page="/shared"),
    Action("/workspaces/app", "set_app", keys=("key",), fields=("name", "port", "share")),
    Action("/devices/rename", "change_device", keys=("key",), fields=("name",)),
    Action("/devices/approve", "approve_device", keys=("key",)),
    Action("/devices/delete", "delete_device", keys=("key",)),
    Action("/users/create", "create_user", fields=("name", "role"), page="/users", answer="user_made.html"),
    Action("/users/role", "change_user", keys=("key",), fields=("role",), page="/users"),
    Action("/users/sign-in", "give_sign_in", keys=("key",), page="/users", answer="user_made.html"),
    Action("/users/tokens/revoke", "revoke_user_token", keys=("key", "id"), fields=("nodes",), page="/users"),
    Action("/users/delete", "delete_user", keys=("key",), page="/users"),
    Action(
        "/tokens/create",
        "create_token",
        fields=("kind", "name", "scope", "lifetime", "reusable"),
        page="/tokens",
        answer="token_made.html",
    ),
    Action("/tokens/revoke", "revoke_token", keys=("id",), fields=("nodes",), page="/tokens"),
)
