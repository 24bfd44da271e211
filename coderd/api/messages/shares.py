"""Shares of workspaces and offers of them, as the owner and as the guest is shown them."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from coderd.api.messages.message import ApiMessage, Lifetime
from coderd.model.ports import MAX_TEXT as MAX_PORTS_TEXT

PortsText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PORTS_TEXT)]


class ShareInfo(ApiMessage, frozen=True):
    """A share or an offer, as the workspace's owner is shown it."""

    user: str
    """The guest's name. An offer does not prove that there is such a user."""
    state: Literal["offered", "accepted"]
    ports: str
    """What the guest may reach: ``all``, ``none``, a list such as ``22,8000-8999``, or ``apps``."""
    open_ports: str
    """The ports that ``ports`` opens now.

    Of ``apps``, those of the workspace's apps that others than its owner may open.
    """
    terminal: bool
    """Whether the guest may open a shell."""
    created_at: float
    lapses_at: float | None
    """Of an offer: when it lapses unless it is accepted."""
    expires_at: float | None
    """When the share expires; null: it lasts until it is revoked or left."""


class OfferInfo(ApiMessage, frozen=True):
    """A share or an offer, as its guest is shown it."""

    owner: str
    workspace: str
    state: Literal["offered", "declined", "accepted"]
    ports: str
    """As in ``ShareInfo``."""
    open_ports: str
    terminal: bool
    created_at: float
    lapses_at: float | None
    expires_at: float | None


class OfferList(ApiMessage, frozen=True):
    """Lists workspaces that are shared with the caller, by name, then offers, the newest first."""

    offers: list[OfferInfo]


class OfferShare(ApiMessage, frozen=True):
    """Terms of a share; null leaves a term as it is, and gives a new share the narrow default."""

    ports: PortsText | None = None
    """``all``, ``none``, a list, or ``apps``, which is the default."""
    terminal: bool | None = None
    """Whether the guest may open a shell; by default no."""
    lifetime: Lifetime | None = None
    """Seconds from now until the share expires; by default it does not."""
    endless: bool = False
    """Whether to remove an expiry that was set."""
