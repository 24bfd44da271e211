"""Users and their nodes, as the store returns them, and the rules for their names."""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from uuid import UUID

from coderd.model.addresses import tailnet_address
from coderd.model.dns_label import is_label
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathRule
from coderd.model.ports import PortSet
from coderd.model.roles import UserRole


@dataclass(frozen=True, slots=True)
class User:
    """A person."""

    user_id: UUID
    name: str
    role: UserRole = UserRole.MEMBER


@dataclass(frozen=True, slots=True)
class Actor:
    """The user or program that makes a change, for the audit log."""

    name: str
    user_id: UUID | None = None
    source: str = ""
    """The address that the request came from."""
    token_id: UUID | None = None
    """The token that the request presented, which becomes the parent of tokens that the change creates."""


SERVER = Actor("server")
"""The server itself, as the author of its own changes."""


@dataclass(frozen=True, slots=True)
class Share:
    """Lets another user meet a workspace: a share that its guest has accepted and that has not ended."""

    user: User
    ports: PortSet
    """What the guest may reach of it, by tunnel and by browser; of one that follows the apps, what these
    name now."""
    terminal: bool
    """Whether the guest may open a shell."""
    expires_at: float | None = None
    """Wall-clock seconds; None: until it is taken back or left."""


@dataclass(frozen=True, slots=True)
class Node:
    """A device or a workspace: anything that may join the network."""

    node_id: UUID
    kind: NodeKind
    name: str
    """A DNS label, unique among its owner's nodes of this kind."""
    owner: User
    created_at: float
    """Wall-clock seconds."""
    path: PathRule = PathRule.DIRECT
    """Of a workspace."""
    shares: tuple[Share, ...] = ()
    """Who else may meet a workspace, by name, and what of it."""
    is_waiting: bool = False
    """Whether the device waits for an admin's approval and has no peers until then."""

    @property
    def shared_with(self) -> tuple[User, ...]:
        """Who else may meet a workspace, by name."""
        return tuple(share.user for share in self.shares)

    @property
    def full_name(self) -> str:
        """``owner/name``; of the server, its name alone."""
        return self.name if self.kind is NodeKind.SERVER else f"{self.owner.name}/{self.name}"

    @property
    def address(self) -> IPv6Address:
        """The tailnet address, which the id alone decides."""
        return tailnet_address(self.node_id)


class IdentityError(Exception):
    """A request that the store refuses. ``code`` is for machines, message and ``hint`` for people."""

    code = "refused"
    hint = ""


class BadName(IdentityError):
    """Not a DNS label."""

    code = "bad_name"
    hint = "Use 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end."


class NameTaken(IdentityError):
    """The owner has one of this name already."""

    code = "name_taken"
    hint = "Choose another name, or delete the old one first."


class KeyTaken(IdentityError):
    """A node key that belongs to another identity."""

    code = "key_taken"
    hint = "Run `coderctl logout` on this machine first, or delete its old device or workspace."


class LastOwner(IdentityError):
    """The last owner can be neither removed nor demoted, as only owners can manage owners."""

    code = "last_owner"
    hint = "Make another user an owner first."


class BadShare(IdentityError):
    """A workspace is not shared with its own owner."""

    code = "bad_share"


class TooManyShares(IdentityError):
    """A user has given and offered as many shares as one may."""

    code = "too_many_shares"
    hint = "Revoke one first; an offer that is not accepted lapses after 14 days."


class QuotaReached(IdentityError):
    """A user has as many things of a kind as one may: see ``model.quotas``.

    Args:
        who: the user's name.
        what: the kind, a field of ``Quotas``.
        most: how many one may have.
    """

    def __init__(self, who: str, what: str, most: int) -> None:
        super().__init__(f"{who} has {most} {what}, the most that one user may have")
        self.code = f"too_many_{what}"
        self.hint = (
            f"Delete some first (coderctl users show counts them), or have the operator raise --max-{what}."
        )


class TooManyAttempts(IdentityError):
    """Too many unknown tokens came from one address: see ``attempts``."""

    code = "too_many_attempts"
    hint = "Wait a minute, and check the token."


class TokenGone(IdentityError):
    """The presented token is not valid any more."""

    code = "unauthorized"
    hint = "Sign in with a valid session token."


class TooWide(IdentityError):
    """The requested token would have a wider scope than the presented one."""

    code = "too_wide"
    hint = "Use a token of a wider scope, or sign in."


class NotManaged(IdentityError):
    """The caller may not manage that user any more, or not in that way."""

    code = "forbidden"


class Enrolled(IdentityError):
    """A device that is enrolled already, shown a token that enrols new devices alone."""

    code = "already_enrolled"
    hint = "Sign in on this machine with a session token of scope all, or delete the old device first."


class AwaitsApproval(IdentityError):
    """A device that an admin has not approved yet."""

    code = "awaits_approval"
    hint = "Ask an admin for: coderctl devices approve"


class TimeIsUp(IdentityError):
    """The device has expired and must sign in again."""

    code = "expired"
    hint = "Sign in again: sudo coderctl up https://SERVER:3000"


class NotFound(IdentityError):
    """The object does not exist or is not the caller's; the error does not say which."""

    code = "not_found"


def check_label(name: str) -> str:
    """Returns the name itself, if it is a DNS label. Raises BadName."""
    if not is_label(name):
        raise BadName("the name is not a valid DNS label")
    return name


def check_user_name(name: str) -> str:
    """Returns the name itself, if a user may bear it: in paths ``me`` is the caller. Raises BadName."""
    if name == "me":
        raise BadName("the name me is reserved")
    return check_label(name)


def device_label(host_name: str) -> str:
    """Makes a DNS label of a machine's host name: its first label, cleaned; ``device`` if nothing is left."""
    cleaned = re.sub(r"[^a-z0-9-]+", "-", host_name.partition(".")[0].lower())[:63].strip("-")
    return cleaned or "device"


def numbered_label(label: str, number: int) -> str:
    """Returns the n-th label of one stem.

    ``laptop``, ``laptop-2``, ``laptop-3``, at most 63 characters long.
    """
    suffix = f"-{number}" if number > 1 else ""
    return label[: 63 - len(suffix)].rstrip("-") + suffix
