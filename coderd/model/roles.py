"""Roles of users and callers, and scopes of tokens, as the store, the API and the command line name them."""

from enum import StrEnum


class UserRole(StrEnum):
    """Role of a user, which decides what they may manage beyond their own; see ``identity.policy``."""

    OWNER = "owner"
    """May do anything; there is always at least one owner."""
    ADMIN = "admin"
    """Manages members and what is theirs, and reads the audit log."""
    MEMBER = "member"


class Role(StrEnum):
    """What a caller of the API is by its token.

    A session token has its user's role, so these hold ``UserRole``.
    """

    NOBODY = "nobody"
    """No token, or an unknown one."""
    JOIN = "join"
    """A join key."""
    WORKSPACE = "workspace"
    DEVICE = "device"
    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"

    @property
    def user_role(self) -> UserRole:
        """The role with which a caller acts as a user; a node or a join key acts as a member."""
        return UserRole(self) if self in (Role.OWNER, Role.ADMIN) else UserRole.MEMBER


class Scope(StrEnum):
    """What a session token may be used for, of all that its user may do."""

    ALL = "all"
    READ = "read"
    """Reads, and changes nothing."""
    ENROL = "enrol"
    """Enrols a device, and nothing else."""
