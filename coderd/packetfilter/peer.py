"""One peer as the filter knows it: what it may begin, its flows, its limits."""

from coderd.model.ports import ALL_PORTS
from coderd.packetfilter.flow import Flow, FlowTable
from coderd.packetfilter.policy import InboundPolicy

ECHO_RATE = 5.0
"""Echo requests of a peer that pass in a second, and at once."""
REFUSAL_RATE = 10.0
"""Refusals that a peer is told in a second, and at once."""
QUESTION_RATE = 10.0
"""Segments of unknown connections of a peer's on which this host is asked in a second, and at once."""
MOST_FORMER = 16
"""Policies of before that are kept of one address; of more, everything counts as once accepted."""
MOST_ADDRESSES = 65_536
"""Addresses of which such things are kept; the one that came first makes room."""
MOST_SERVED = 1024
"""Ports that are remembered as served to one address by UDP; of more, all count as served."""


class Bucket:
    """A token bucket: ``rate`` a second, and as many at once."""

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
    """One peer: what it may, its flows, its limits."""

    __slots__ = ("address", "echoes", "flows", "head", "policy", "questions", "refusals", "steady")

    def __init__(self, address: bytes, policy: InboundPolicy) -> None:
        self.address = address
        self.policy = policy
        self.flows = FlowTable()
        self.steady: Flow | None = None
        """The flow of the last packet, where the next with the same head needs no look at the table."""
        self.head: bytes | None = None
        self.echoes, self.refusals = Bucket(ECHO_RATE), Bucket(REFUSAL_RATE)
        self.questions = Bucket(QUESTION_RATE)


class FormerPolicies:
    """What peers could begin before, by address.

    Their connections may outlive the flow, the policy, and the key.
    """

    def __init__(self) -> None:
        self._of: dict[bytes, tuple[InboundPolicy, ...]] = {}

    def note(self, address: bytes, policy: InboundPolicy) -> None:
        """Notes that a policy is not in force any more."""
        former = self._of.get(address, ())
        if policy in former or policy == InboundPolicy():
            return
        self._of[address] = (*former, policy) if len(former) < MOST_FORMER else (InboundPolicy(ALL_PORTS),)
        if len(self._of) > MOST_ADDRESSES:
            del self._of[next(iter(self._of))]

    def accepted(self, address: bytes, protocol: int, port: int) -> bool:
        """Returns whether a former policy let this address begin a flow to a port."""
        return any(policy.accepts(protocol, port) for policy in self._of.get(address, ()))


class ServedPorts:
    """On which UDP ports peers have begun, by address.

    What this host sends from there is an answer, however late.
    """

    def __init__(self) -> None:
        self._of: dict[bytes, set[int]] = {}

    def note(self, address: bytes, port: int) -> None:
        """Notes that a peer begins a flow to a port."""
        ports = self._of.setdefault(address, set())
        if len(ports) < MOST_SERVED:
            ports.add(port)
        if len(self._of) > MOST_ADDRESSES:
            del self._of[next(iter(self._of))]

    def has(self, address: bytes, port: int) -> bool:
        """Returns whether this address has begun a flow to a port."""
        ports = self._of.get(address, ())
        return port in ports or len(ports) >= MOST_SERVED
