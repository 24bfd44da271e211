"""``why``: why a peer is reached as it is."""

from typing import Literal

from coderd.control.messages.message import Message, PeerName
from coderd.control.messages.status import PeerPath
from coderd.netcheck.facts import Facts


class WhyParams(Message, frozen=True, kw_only=True):
    """``why``: why a peer is reached as it is."""

    peer: PeerName


class Cause(Message, frozen=True, kw_only=True):
    """One reason why there is no direct path."""

    cause: str
    """A word for programs."""
    side: Literal["this", "peer", "both", "network"]
    sentence: str
    fix: str


class Why(Message, frozen=True, kw_only=True):
    """How a peer is reached, and where not directly why: the deciding cause first."""

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
    """What is worth knowing besides, one sentence each: no cause of the path's being what it is."""
