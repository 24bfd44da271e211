"""Who may open an app. Pure."""

from enum import Enum

from coderd.identity.apps import AppShare
from coderd.identity.people import Node, PathRule, User
from coderd.identity.policy import may_use


class Verdict(Enum):
    """What becomes of a request."""

    OPEN = "open"
    SIGN_IN = "sign-in"
    """Nobody is signed in, who may well have the right."""
    NOT_FOUND = "not-found"
    """No right, or no such thing: the difference is nobody's business."""


def judge(share: AppShare, workspace: Node | None, viewer: User | None) -> Verdict:
    """Whether somebody may open an app.

    Args:
        share: whom the app is for.
        workspace: where it runs, None if there is none of that name.
        viewer: who is signed in.
    """
    is_open = workspace is not None and workspace.path is not PathRule.DENY
    if workspace is not None and is_open and share is AppShare.PUBLIC:
        return Verdict.OPEN
    if viewer is None:
        return Verdict.SIGN_IN
    if workspace is None or not is_open:
        return Verdict.NOT_FOUND
    if share is AppShare.AUTHENTICATED or workspace.owner.user_id == viewer.user_id:
        return Verdict.OPEN
    if share is AppShare.SHARED and may_use(viewer.user_id, workspace):
        return Verdict.OPEN
    return Verdict.NOT_FOUND
