"""``ping``: round trips to a peer by disco."""

from typing import Annotated

from msgspec import Meta

from coderd.control.messages.message import Message, PeerName
from coderd.model.paths import PathKind


class PingParams(Message, frozen=True, kw_only=True):
    """Parameters of ``ping``: disco pings, each on the best path of its moment."""

    peer: PeerName
    count: Annotated[int, Meta(ge=0, le=1_000_000)] = 10
    """0 = until the caller closes."""
    interval_s: Annotated[float, Meta(ge=0.01, le=3600)] = 1.0
    timeout_s: Annotated[float, Meta(ge=0.01, le=3600)] = 5.0
    """For each ping."""
    until_direct: bool = False
    """Whether to stop at the first direct pong."""


class Pong(Message, frozen=True, kw_only=True):
    """Result of one ping: a pong, or a timeout."""

    seq: int
    """From 1."""
    path: PathKind = PathKind.NONE
    via: str = ""
    latency_ms: float | None = None
    direct_after_s: float | None = None
    """With the first direct pong, where the path became direct meanwhile: how many seconds after the first
    ping."""
    timeout: bool = False


class PingResult(Message, frozen=True, kw_only=True):
    """Totals; ``direct`` says whether any pong came directly."""

    sent: int
    received: int
    direct: bool
    direct_after_s: float | None = None
    """Seconds after the first ping at which the path became direct, 0 where it was before; null where no
    pong was direct."""
