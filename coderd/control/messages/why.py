"""``why``: why a peer is reached as it is."""

from typing import Literal

from coderd.control.messages.message import Message, PeerName
from coderd.control.messages.status import PeerPath
from coderd.netcheck.facts import Facts


class WhyParams(Message, frozen=True, kw_only=True):
    """Parameters of ``why``."""

    peer: PeerName


class Cause(Message, frozen=True, kw_only=True):
    """One reason why there is no direct path."""

    cause: str
    """A word for programs."""
    side: Literal["this", "peer", "both", "network"]
    sentence: str
    fix: str


class Why(Message, frozen=True, kw_only=True):
    """Path to a peer and, if it is not direct, the causes, the deciding one first."""

    name: str
    """The peer's full name."""
    path: PeerPath
    causes: tuple[Cause, ...] = ()
    this: Facts
    peer: Facts | None = None
    """Null where the peer could not be asked: see ``not_asked``."""
    not_asked: str = ""
    """Why the peer could not be asked."""
    notes: tuple[str, ...] = ()
    """Remarks that are no cause of the path, one sentence each."""
