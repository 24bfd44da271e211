"""Web apps of workspaces."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from coderd.api.messages.message import ApiMessage, NameText

ShareText: TypeAlias = Literal["owner", "shared", "authenticated", "public"]


class AppInfo(ApiMessage, frozen=True):
    """A web app of a workspace, as it was set; any other port is an app for the owner alone."""

    name: str
    """Its port in digits, or a slug."""
    port: int
    """On the workspace's loopback."""
    share: ShareText
    """Who may open it, beside the workspace's owner."""
    path: str
    """Its path on the server's host."""
    host: str = ""
    """Its own host, if apps have hosts and its names allow one."""


class AppList(ApiMessage, frozen=True):
    """Web apps by name."""

    apps: list[AppInfo]


class SetApp(ApiMessage, frozen=True):
    """New settings of a web app."""

    name: NameText
    share: ShareText = "owner"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    """Null where the name is the port."""
