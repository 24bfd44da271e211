"""Shares as their giver and their guest see them.

An offer first, with terms, and in force once it is accepted. Pure.

    share ──> offered ──accept──> accepted ──leave, withdraw, expiry──> gone
                 │ └──decline──> declined, shown to its giver as offered until it lapses
                 └──14 days, withdraw──> gone

An offer does not reveal whether a user of that name exists: an offer to an unused name is kept, shown,
counted and lapses like any other, and so is one that was declined or that a deleted user had received.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from coderd.identity.people import IdentityError, User
from coderd.model import limits
from coderd.model.ports import ALL_PORTS, MAX_RANGES, NO_PORTS, PortSet, parse_ports, port_set

OFFER_LIFETIME: Final = limits.OFFER_LIFETIME
APP_PORTS: Final = "apps"
"""Instead of a list of ports: whatever ports the workspace's apps name for others than its owner, as they
change."""


class ShareState(Enum):
    """State of a share."""

    OFFERED = "offered"
    DECLINED = "declined"
    """Declined, which only the guest sees."""
    ACCEPTED = "accepted"


class BadPorts(IdentityError):
    """Not a set of ports."""

    code = "bad_ports"
    hint = "Use all, none, apps, or ports and ranges with commas: 22,8000-8999."


@dataclass(frozen=True, slots=True)
class Wish:
    """Requested terms of a share; None keeps a term, or takes the narrow default for a new share."""

    ports: str | None = None
    """``apps``, or what ``parse_ports`` reads. A new share: ``apps``."""
    terminal: bool | None = None
    """A new share: no."""
    lifetime: float | None = None
    """Seconds from now. A new share: without end."""
    is_endless: bool = False
    """Whether to remove the expiry that was set before."""


@dataclass(frozen=True, slots=True)
class GivenShare:
    """A share or an offer, as the workspace's owner is shown it."""

    guest: str
    """The guest's name; of an offer, the name as the owner wrote it."""
    is_accepted: bool
    ports: str
    """``apps``, or a set of ports."""
    open_ports: PortSet
    """Ports that the share opens now."""
    terminal: bool
    created_at: float
    lapses_at: float | None
    """Of an offer, wall-clock seconds."""
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class OfferedShare:
    """A share or an offer, as its guest is shown it: nothing of the workspace beside its name."""

    owner: User
    workspace: str
    state: ShareState
    ports: str
    open_ports: PortSet
    terminal: bool
    created_at: float
    lapses_at: float | None
    expires_at: float | None


def check_ports(text: str) -> str:
    """Returns a share's ports in canonical text. Raises BadPorts."""
    if text.strip() == APP_PORTS:
        return APP_PORTS
    try:
        return str(parse_ports(text))
    except ValueError as error:
        raise BadPorts(str(error)) from None


def open_ports(text: str, apps: Iterable[int]) -> PortSet:
    """Returns the ports that a share opens.

    Args:
        text: what ``check_ports`` returned.
        apps: ports of the workspace's apps that are for others than its owner. Of very many, the lowest
            count.
    """
    if text == "all":
        return ALL_PORTS
    if text == "none":
        return NO_PORTS
    if text != APP_PORTS:
        return parse_ports(text)
    return port_set([(port, port) for port in sorted(set(apps))[:MAX_RANGES]])
