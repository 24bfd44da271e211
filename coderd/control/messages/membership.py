"""``up``, ``down`` and ``logout``: joins, leaves, and forgets the enrolment."""

from typing import Annotated

from msgspec import Meta

from coderd.control.messages.message import Message, Text


class UpParams(Message, frozen=True, kw_only=True):
    """Parameters of ``up``. Without ``url`` the node joins as it was enrolled, else it enrols anew."""

    url: Text | None = None
    token: Text | None = None
    """A session token of the user. Never logged; the daemon exchanges it for its own device token."""
    name: Annotated[str, Meta(max_length=63)] | None = None
    """The device's name, a DNS label; the host's name by default."""
    accept_inbound: Text | None = None
    """Ports that peers may connect to: ``all``, ``none``, or a list such as ``22,8000-8999``.

    Null leaves them as they are, for a new device at ``none``.
    """

    def __repr__(self) -> str:
        return f"UpParams(url={self.url!r}, token={'<redacted>' if self.token else None}, name={self.name!r})"


class UpResult(Message, frozen=True, kw_only=True):
    """This node's name and address, and its server, once it has joined."""

    name: str
    address: str
    url: str


class DownParams(Message, frozen=True, kw_only=True):
    """Parameters of ``down``: none. The node leaves and keeps its enrolment."""


class LogoutParams(Message, frozen=True, kw_only=True):
    """Parameters of ``logout``: none. The node leaves and deletes its keys, tokens and map."""
