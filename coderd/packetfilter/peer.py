"""State that the filter keeps of peers: policy, flows, rate limits, former policies, served UDP ports."""

from coderd.model.ports import ALL_PORTS
from coderd.packetfilter.flow import Flow, FlowTable
from coderd.packetfilter.policy import InboundPolicy

ECHO_RATE = 5.0
"""Echo requests of one peer admitted per second, and in one burst."""
REFUSAL_RATE = 10.0
"""Refusals and resets sent to one peer per second, and in one burst."""
QUESTION_RATE = 10.0
"""TCP probes of this host that one peer's segments of unknown connections cause per second, and in one
burst."""
MOST_FORMER = 16
"""Former policies kept of one address; after one more, every port counts as accepted formerly."""
MOST_ADDRESSES = 65_536
"""Addresses of which former policies, or served ports, are kept; the oldest is evicted."""
MOST_SERVED = 1024
"""UDP ports kept as served to one address; at this number every port counts as served."""


class Bucket:
    """Token bucket of ``rate`` tokens per second, and as many in one burst."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: float) -> None:
        self._rate = self._tokens = rate
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Takes a token and returns whether there was one."""
        self._tokens = min(self._rate, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class PeerFlows:
    """One peer: address, policy, flow table, rate limits."""

    __slots__ = ("address", "echoes", "flows", "head", "policy", "questions", "refusals", "steady")

    def __init__(self, address: bytes, policy: InboundPolicy) -> None:
        self.address = address
        self.policy = policy
        self.flows = FlowTable()
        self.steady: Flow | None = None
        """Flow of the last packet, if a next packet with equal ``head`` needs no lookup in the table."""
        self.head: bytes | None = None
        self.echoes, self.refusals = Bucket(ECHO_RATE), Bucket(REFUSAL_RATE)
        self.questions = Bucket(QUESTION_RATE)


class FormerPolicies:
    """Policies no longer in force, by peer address.

    A connection may outlive its flow, its policy and the peer's key.
    """

    def __init__(self) -> None:
        self._of: dict[bytes, tuple[InboundPolicy, ...]] = {}

    def note(self, address: bytes, policy: InboundPolicy) -> None:
        """Adds a policy that is no longer in force for an address."""
        former = self._of.get(address, ())
        if policy in former or policy == InboundPolicy():
            return
        self._of[address] = (*former, policy) if len(former) < MOST_FORMER else (InboundPolicy(ALL_PORTS),)
        if len(self._of) > MOST_ADDRESSES:
            del self._of[next(iter(self._of))]

    def accepted(self, address: bytes, protocol: int, port: int) -> bool:
        """Returns whether a former policy let this address open a flow to a port."""
        return any(policy.accepts(protocol, port) for policy in self._of.get(address, ()))


class ServedPorts:
    """UDP ports on which peers have opened flows, by peer address.

    What this host sends from there is an answer.
    """

    def __init__(self) -> None:
        self._of: dict[bytes, set[int]] = {}

    def note(self, address: bytes, port: int) -> None:
        """Adds a port to which an address opens a flow."""
        ports = self._of.setdefault(address, set())
        if len(ports) < MOST_SERVED:
            ports.add(port)
        if len(self._of) > MOST_ADDRESSES:
            del self._of[next(iter(self._of))]

    def has(self, address: bytes, port: int) -> bool:
        """Returns whether this address has opened a flow to a port.

        True for all where it has ``MOST_SERVED``.
        """
        ports = self._of.get(address, ())
        return port in ports or len(ports) >= MOST_SERVED
