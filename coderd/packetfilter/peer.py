"""One peer as the filter knows it: what it may begin, its flows, its limits."""

from coderd.packetfilter.flow import Flow, FlowTable
from coderd.packetfilter.policy import InboundPolicy

ECHO_RATE = 5.0
"""Echo requests of a peer that pass in a second, and at once."""
REFUSAL_RATE = 10.0
"""Refusals that a peer is told in a second, and at once."""


class Bucket:
    """A token bucket: ``rate`` a second, and as many at once."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: float) -> None:
        self._rate = self._tokens = rate
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more is within the rate."""
        self._tokens = min(self._rate, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class PeerState:
    """One peer: what it may, its flows, its limits."""

    __slots__ = ("address", "echoes", "flows", "head", "policy", "refusals", "steady")

    def __init__(self, address: bytes, policy: InboundPolicy) -> None:
        self.address = address
        self.policy = policy
        self.flows = FlowTable()
        self.steady: Flow | None = None
        """The flow of the last packet, where the next with the same head needs no look at the table."""
        self.head: bytes | None = None
        self.echoes, self.refusals = Bucket(ECHO_RATE), Bucket(REFUSAL_RATE)
