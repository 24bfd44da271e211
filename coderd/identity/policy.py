"""Access policy: which nodes may connect, who may manage what, and which tokens a token may create.

A tunnel joins a device and a workspace, never two of a kind. The device's user must own the workspace or have
it shared, and the workspace's path rule must not be ``deny``; a share opens the ports that it names, and a
terminal if it says so. No role opens a tunnel: an admin manages nodes without access to them. The server
itself may connect to any workspace, and does when a browser's user may use it: see ``apps``.

A *sign-in* is a session that stands for a person having been let in: the first token of a user, one that an
admin, or the server's own machine, has given them since, or a browser's session that was opened with one of
these. There are no passwords, so nothing else is. Any other token was made with a token, and may do no more
than that one, nor for longer (``end_of_made``).
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from coderd.identity.people import Node, TooWide, User
from coderd.identity.tokens import TokenKind, TokenRecord
from coderd.model.netmap import NodeKind, PeerAccess
from coderd.model.paths import PathRule
from coderd.model.ports import NO_PORTS
from coderd.model.roles import Scope, UserRole

NOTHING: Final = PeerAccess(NO_PORTS, terminal=False)

DAY: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Terms:
    """Lifetimes of sessions, tokens and devices, in seconds, as the operator sets them."""

    session_lifetime: float = 30 * DAY
    """Of a sign-in, used or unused."""
    max_token_lifetime: float = 365 * DAY
    """Of a token that is made with a sign-in, at most."""
    device_lifetime: float | None = None
    """Of a device, after which it signs in again; None = for ever."""
    needs_approval: bool = False
    """Whether a new device waits for an admin."""


def may_tunnel(one: Node, other: Node) -> bool:
    """Returns whether the server opens a tunnel between two nodes; the order does not matter."""
    if one.kind is other.kind or one.is_waiting or other.is_waiting:
        return False
    guest, workspace = (other, one) if one.kind is NodeKind.WORKSPACE else (one, other)
    if workspace.kind is not NodeKind.WORKSPACE or workspace.path is PathRule.DENY:
        return False
    return guest.kind is NodeKind.SERVER or may_use(guest.owner.user_id, workspace)


def may_use(user_id: UUID, workspace: Node) -> bool:
    """Returns whether a workspace is this user's, or shared with them."""
    return access_of(user_id, workspace) is not None


def access_of(user_id: UUID, workspace: Node) -> PeerAccess | None:
    """Returns what of a workspace a user may reach.

    The owner reaches everything, a guest what the share names, others nothing (None).

    The NetMap carries the result to the workspace, where the packet filter and the node API enforce it; the
    server itself enforces it for the apps and terminals that it relays to browsers.
    """
    if workspace.owner.user_id == user_id:
        return PeerAccess()
    for share in workspace.shares:
        if share.user.user_id == user_id:
            return PeerAccess(share.ports, share.terminal)
    return None


def access_for(viewer: Node, peer: Node) -> PeerAccess:
    """Returns what a peer may reach of a node that it may connect to, as the node's NetMap says."""
    if peer.kind is NodeKind.SERVER:
        return PeerAccess(is_server=True)
    if viewer.kind is not NodeKind.WORKSPACE:
        return PeerAccess()  # a device decides for itself
    return access_of(peer.owner.user_id, viewer) or NOTHING


def is_relayed_only(one: Node, other: Node) -> bool:
    """Returns whether two nodes that may meet must do so by relay."""
    return PathRule.RELAY_ONLY in (one.path, other.path)


def may_manage(manager: User, person: User) -> bool:
    """Returns whether one user may act on another, and on what is theirs.

    Owners on all, admins on members, any user on themselves.
    """
    return (
        manager.user_id == person.user_id
        or manager.role is UserRole.OWNER
        or (manager.role is UserRole.ADMIN and person.role is UserRole.MEMBER)
    )


def may_give_role(manager: User, role: UserRole) -> bool:
    """Returns whether one user may give another this role: owners any role, admins that of a member."""
    return manager.role is UserRole.OWNER or (manager.role is UserRole.ADMIN and role is UserRole.MEMBER)


def end_of_made(
    maker: TokenRecord, scope: Scope, wanted: float | None, now: float, max_lifetime: float
) -> float:
    """Returns when a token expires that is created with another token, in wall-clock seconds.

    Args:
        maker: the token that is shown.
        scope: what the new one is to be good for.
        wanted: when it should end, in wall-clock seconds; None = as late as possible.
        now: wall-clock seconds.
        max_lifetime: seconds.

    Raises:
        TooWide: the presented token has a narrower scope.
    """
    if maker.kind is not TokenKind.SESSION or maker.scope not in (Scope.ALL, scope):
        raise TooWide(f"a token of scope {maker.scope.value} cannot create one of scope {scope.value}")
    ends = [now + max_lifetime, wanted, None if maker.is_sign_in else maker.expires_at]
    return min(end for end in ends if end is not None)
