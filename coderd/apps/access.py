"""Who may open an app, and for which requests of a browser that counts. Pure."""

from enum import Enum
from typing import Final

from coderd.identity.apps import AppShare
from coderd.identity.people import Node, PathRule, User
from coderd.identity.policy import may_use

_OWN: Final = frozenset({"same-origin", "none"})


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


def is_own_request(method: str, origin: str, fetch_site: str, fetch_mode: str, own_origin: str) -> bool:
    """Whether a cookie counts for a request: one of the app's own pages made it, or a person went there.

    Other apps live on the same site, so that SameSite keeps none of their requests away: a page of one must not read from,
    post to or open a WebSocket with another in the name of whoever looks at it.

    Args:
        method: of the request.
        origin: the Origin header; empty where it is absent.
        fetch_site: Sec-Fetch-Site, empty where it is absent.
        fetch_mode: Sec-Fetch-Mode, likewise.
        own_origin: the app's.
    """
    if origin and origin != own_origin:
        return False
    if not fetch_site or fetch_site in _OWN:
        return True
    return fetch_mode == "navigate" and method in ("GET", "HEAD")
