"""The virtual internet under every simulation: one clock with its agenda, wires, and hosts behind NATs.

```
 host a --- NAT a ---+                +--- NAT b --- host b     between two public places: ``wire``
                     +--- internet ---+
                                      +--- STUN servers         to each and back: ``stun_servers``
```

Nothing here waits: time jumps from one event to the next, so that a virtual day takes as long as its events do, and
one seed decides everything.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Protocol

from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline
from coderd.model.errors import MalformedPacket
from coderd.model.transport import SocketId, UdpSource
from coderd.stun import encode_response, parse_request
from tests.sim.nat import Nat


class Clock:
    """Virtual time, and what is planned in it.

    What is due together happens in the order in which it was planned.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._order = count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Plans something for an instant."""
        heappush(self._agenda, (when, next(self._order), action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Plans something for so many seconds from now."""
        self.at(self.now + delay, action)

    def every(self, interval: float, action: Callable[[], None]) -> None:
        """Plans something for now, and again after each interval."""

        def again() -> None:
            action()
            self.at(self.now + interval, again)

        self.at(self.now, again)

    def next_at(self) -> float:
        """Returns when the next thing is due; infinity for never."""
        return self._agenda[0][0] if self._agenda else inf

    def run_next(self) -> None:
        """Does the next thing that is planned."""
        heappop(self._agenda)[2]()

    def run_due(self) -> None:
        """Does everything that is planned up to now."""
        while self.next_at() <= self.now:
            self.run_next()


@dataclass
class Wire:
    """What happens to a datagram on its way. Probabilities are from 0 to 1, times in seconds, sizes in bytes."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.02
    jitter: float = 0.0
    is_cut: bool = False
    congestion: float = 0.0
    """Probability that a datagram arrives with CE, "congestion experienced" (RFC 3168 §5)."""
    largest: int = 65535
    """Longest UDP payload that is carried."""

    def delays(self, rng: Random) -> Iterator[float]:
        """Yields the delay of each copy of one datagram that arrives."""
        for _ in range(2 if rng.random() < self.duplicate else 1):
            if not self.is_cut and rng.random() >= self.loss:
                yield self.delay + rng.random() * self.jitter


class Host(Protocol):
    """A machine on the network."""

    nat: Nat | None

    @property
    def is_reachable(self) -> bool:
        """Whether what arrives is read."""
        ...

    def socket_at(self, inside: AddrPort) -> SocketId | None:
        """Returns which of its sockets is bound to an address; None: none."""
        ...

    def handle_datagram(self, source: UdpSource, datagram: bytes, *, is_congested: bool) -> None:
        """Takes a datagram that has arrived."""
        ...

    def poll_timeout(self) -> Deadline | None:
        """Returns when ``handle_timeout`` is due; None: never."""
        ...

    def handle_timeout(self) -> None:
        """Fires its timers."""
        ...


class Network(Clock):
    """Hosts, what is between any two public places, and STUN servers.

    Args:
        seed: decides losses and jitter.
        wire: between two public places.
        now: where the clock begins.

    Attributes:
        stun_servers: STUN servers by address, and the wire from any public place to each, and back.
    """

    def __init__(self, seed: int, *, wire: Wire, now: float = 1000.0) -> None:
        super().__init__(now)
        self.rng = Random(seed)
        self.wire = wire
        self.stun_servers: dict[AddrPort, Wire] = {}

    def hosts(self) -> Sequence[Host]:
        """Returns every machine, in a fixed order."""
        raise NotImplementedError

    # Time

    def run_for(self, seconds: float) -> None:
        """Lets time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], limit: float) -> float:
        """Runs until a condition holds. Returns the seconds that took, ``limit`` where it never did."""
        began, end = self.now, self.now + limit
        while not condition():
            deadlines = [
                (due.when, host) for host in self.hosts() if (due := host.poll_timeout()) is not None
            ]
            when = min([self.next_at(), *(at for at, _ in deadlines)])
            if when > end:
                self.now = end
                break
            self.now = max(self.now, when)
            self.run_due()
            for at, host in deadlines:
                if at <= self.now and host.poll_timeout() is not None:  # it may have been killed meanwhile
                    host.handle_timeout()
        return self.now - began

    # Datagrams

    def transmit(self, host: Host, inside: AddrPort, to: AddrPort, datagrams: Iterable[bytes]) -> None:
        """Carries datagrams from a host's socket, through its NAT, to a public address."""
        source = host.nat.outbound(inside, to) if host.nat is not None else inside
        for datagram in datagrams:
            if (stun := self.stun_servers.get(to)) is not None:
                for delay in stun.delays(self.rng):
                    self.after(delay, partial(self._answer_stun, source, to, datagram))
            elif len(datagram) <= self.wire.largest:
                for delay in self.wire.delays(self.rng):
                    self.after(delay, partial(self._land, source, to, datagram, self._is_congested()))

    def _is_congested(self) -> bool:
        return self.wire.congestion > 0 and self.rng.random() < self.wire.congestion

    def _answer_stun(self, source: AddrPort, server: AddrPort, datagram: bytes) -> None:
        try:
            response = encode_response(parse_request(datagram), source)
        except MalformedPacket:
            return
        for delay in self.stun_servers[server].delays(self.rng):
            self.after(delay, partial(self._land, server, source, response))

    def _land(self, source: AddrPort, to: AddrPort, datagram: bytes, is_congested: bool = False) -> None:
        for host in self.hosts():
            if host.is_reachable and (socket := _socket_at(host, source, to)) is not None:
                host.handle_datagram(UdpSource(source, socket), datagram, is_congested=is_congested)


def _socket_at(host: Host, source: AddrPort, to: AddrPort) -> SocketId | None:
    """Returns which of a host's sockets a datagram reaches; None: none."""
    inside: AddrPort | None = to
    if host.nat is not None:
        inside = host.nat.inbound(source, to[1]) if host.nat.ip == to[0] else None
    return host.socket_at(inside) if inside is not None else None
