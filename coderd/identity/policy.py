"""Who may meet whom, and who may manage what: the one place that answers it.

A tunnel joins a device and a workspace, never two of a kind. The device's user must own the workspace or have it shared,
and the workspace must not be denied to everybody. No role opens a tunnel: an admin manages, and meets nobody by that.
The server itself may meet any workspace, and does when somebody who may use it comes by browser: see ``apps``.
"""

from uuid import UUID

from coderd.identity.people import Node, PathRule, User, UserRole
from coderd.model.netmap import NodeKind


def may_tunnel(one: Node, other: Node) -> bool:
    """Whether the server opens a tunnel between two nodes; the order does not matter."""
    if one.kind is other.kind:
        return False
    guest, workspace = (other, one) if one.kind is NodeKind.WORKSPACE else (one, other)
    if workspace.kind is not NodeKind.WORKSPACE or workspace.path is PathRule.DENY:
        return False
    return guest.kind is NodeKind.SERVER or may_use(guest.owner.user_id, workspace)


def may_use(user_id: UUID, workspace: Node) -> bool:
    """Whether a workspace is this user's, or shared with them."""
    return workspace.owner.user_id == user_id or any(
        user.user_id == user_id for user in workspace.shared_with
    )


def is_relayed_only(one: Node, other: Node) -> bool:
    """Whether two nodes that may meet must do so by relay."""
    return PathRule.RELAY_ONLY in (one.path, other.path)


def may_manage(manager: User, person: User) -> bool:
    """Whether one user may act on another, and on what is theirs: owners on all, admins on members, anybody on themselves."""
    return (
        manager.user_id == person.user_id
        or manager.role is UserRole.OWNER
        or (manager.role is UserRole.ADMIN and person.role is UserRole.MEMBER)
    )


def may_give_role(manager: User, role: UserRole) -> bool:
    """Whether one user may make somebody this: owners anything, admins members."""
    return manager.role is UserRole.OWNER or (manager.role is UserRole.ADMIN and role is UserRole.MEMBER)
