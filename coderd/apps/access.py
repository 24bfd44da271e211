"""Who may open an app. Pure."""

from enum import Enum

from coderd.identity.apps import App, AppShare
from coderd.identity.people import Node, User
from coderd.identity.policy import access_of
from coderd.model.paths import PathRule


class Verdict(Enum):
    """Decision on a request."""

    OPEN = "open"
    SIGN_IN = "sign-in"
    """The request is unauthenticated, and its user may have access once signed in."""
    NOT_FOUND = "not-found"
    """The app does not exist or the user may not open it; the answer does not reveal which."""


def judge(app: App, workspace: Node | None, viewer: User | None) -> Verdict:
    """Decides whether a user may open an app.

    Args:
        app: the app, with its share setting.
        workspace: the app's workspace; None if there is none of that name.
        viewer: the authenticated user; None for an unauthenticated browser.
    """
    share = app.share
    is_open = workspace is not None and workspace.path is not PathRule.DENY
    if workspace is not None and is_open and share is AppShare.PUBLIC:
        return Verdict.OPEN
    if viewer is None:
        return Verdict.SIGN_IN
    if workspace is None or not is_open:
        return Verdict.NOT_FOUND
    if share is AppShare.AUTHENTICATED or workspace.owner.user_id == viewer.user_id:
        return Verdict.OPEN
    access = access_of(viewer.user_id, workspace) if share is AppShare.SHARED else None
    return Verdict.OPEN if access is not None and app.port in access.ports else Verdict.NOT_FOUND
