"""``up``, ``down`` and ``logout``: joins, leaves, and forgets the enrolment."""

from typing import Annotated

from msgspec import Meta

from coderd.control.messages.message import Message, Text


class UpParams(Message, frozen=True, kw_only=True):
    """``up``: join. Without ``url`` as this node was enrolled before; with ``url`` and ``token`` enrol anew."""

    url: Text | None = None
    token: Text | None = None
    """A session token of the user. Never logged; the daemon exchanges it for its own device token."""
    name: Annotated[str, Meta(max_length=63)] | None = None
    """The device's name, a DNS label; the host's name by default."""
    accept_inbound: Text | None = None
    """Ports that peers may connect to: ``all``, ``none``, or ``22,8000-8999``. None leaves them as they are, of a device that is new at none."""

    def __repr__(self) -> str:
        return f"UpParams(url={self.url!r}, token={'<redacted>' if self.token else None}, name={self.name!r})"


class UpResult(Message, frozen=True, kw_only=True):
    """Joined: who this node is now."""

    name: str
    address: str
    url: str


class DownParams(Message, frozen=True, kw_only=True):
    """``down``: leave, but keep the enrolment."""


class LogoutParams(Message, frozen=True, kw_only=True):
    """``logout``: leave and forget keys, tokens and map."""
