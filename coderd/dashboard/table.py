"""The dashboard's pages and forms. Pure.

A page or form is a line of these tables or does not exist. Each names operations of the API's own table (``api.rules``), which says
who may have them: whoever may not have what a page asks is not shown the way to it.
"""

from typing import Final, NamedTuple

from coderd.api.rules import RULES, Rule

RULE_OF: Final[dict[str, Rule]] = {rule.operation: rule for rule in RULES}


class Ask(NamedTuple):
    """One question to the API."""

    operation: str
    parameters: tuple[str, ...] = ()
    """Of the page's own query, handed on."""
    keys: tuple[str, ...] = ()
    """Of the page's own query: the parts of the operation's path."""


class Page(NamedTuple):
    """One page."""

    path: str
    title: str
    template: str
    asks: tuple[Ask, ...]
    """The template knows each answer by its operation's name."""
    is_listed: bool = True
    """Whether it stands among the pages; else other pages lead there."""

    @property
    def own_path(self) -> str:
        """Where it is asked for by its own script and forms: a path that stands for no other."""
        return HOME if self.path == "/" else self.path


class Action(NamedTuple):
    """One form."""

    path: str
    operation: str
    keys: tuple[str, ...] = ()
    """Fields that name things: the parts of the operation's path."""
    fields: tuple[str, ...] = ()
    """Fields of its body. An empty one is not sent."""
    page: str = "/"
    """Where somebody is afterwards, or goes back to."""
    answer: str = ""
    """The template that shows what can be shown only now; else the page itself."""


HOME: Final = "/machines"
"""The page at ``/`` by a path of its own: in a Content-Security-Policy ``/`` is all paths."""

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
