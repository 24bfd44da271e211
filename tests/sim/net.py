"""What every simulation's network is made of: one clock with its agenda, wires, and NATs in RFC 4787's words.

Nothing here waits: who runs a clock jumps from one event to the next, so that a virtual day takes as long as
its events do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random

from coderd.model.addresses import AddrPort


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

    def every(self, interval: float, action: Callable[[], None]) -> None:
        """Plans something for now and for ever after, once in so many seconds."""

        def again() -> None:
            action()
            self.at(self.now + interval, again)

        self.at(self.now, again)

    def next_at(self) -> float:
        """Returns when the next thing is planned; infinity for never."""
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
    """What happens to a datagram on its way. Probabilities are from 0 to 1, times in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.02
    jitter: float = 0.0
    is_cut: bool = False

    def delays(self, rng: Random) -> Iterator[float]:
        """Yields the delay of each copy of one datagram that arrives."""
        for _ in range(2 if rng.random() < self.duplicate else 1):
            if not self.is_cut and rng.random() >= self.loss:
                yield self.delay + rng.random() * self.jitter


class Mapping(Enum):
    """What a NAT's choice of public port depends on (RFC 4787 §4.1)."""

    ENDPOINT_INDEPENDENT = "eim"
    ADDRESS_DEPENDENT = "adm"
    ADDRESS_AND_PORT_DEPENDENT = "apdm"


class Filtering(Enum):
    """Which senders a NAT lets in to a mapping (RFC 4787 §5). Strictest last."""

    ENDPOINT_INDEPENDENT = "eif"
    ADDRESS_DEPENDENT = "adf"
    ADDRESS_AND_PORT_DEPENDENT = "apdf"


class Nat:
    """One public address, shared by what is behind it. Ports are random, or (``step``) in sequence."""

    def __init__(
        self,
        ip: str,
        mapping: Mapping,
        filtering: Filtering,
        step: int | None = None,
        *,
        rng: Random | None = None,
    ) -> None:
        self.ip = ip
        self._mapping = mapping
        self._filtering = filtering
        self._port_of: dict[tuple[object, ...], int] = {}
        self._flows: dict[tuple[AddrPort, AddrPort], int] = {}
        """Public port by inner and outer end, whoever began.

        An answer leaves by the way on which its question came.
        """
        self._inside: dict[int, AddrPort] = {}
        self._contacted: dict[int, set[AddrPort]] = {}
        self._step = step
        self._rng = rng or Random(ip)
        self._port = 20000

    def forget(self) -> None:
        """Expires every mapping."""
        for table in (self._port_of, self._flows, self._inside, self._contacted):
            table.clear()

    def _next_port(self) -> int:
        """Any that is free, or the next in order, whatever the step."""
        if self._step is not None:
            self._port = (self._port + self._step) % 65536
            return self._port
        return next(
            port for port in iter(lambda: self._rng.randrange(1024, 65536), 0) if port not in self._inside
        )

    def outbound(self, inside: AddrPort, to: AddrPort) -> AddrPort:
        """The public source of a datagram that leaves."""
        port = self._flows.get((inside, to))
        if port is None:
            port = self._flows[inside, to] = self._map(inside, to)
        self._contacted.setdefault(port, set()).add(to)
        return (self.ip, port)

    def _map(self, inside: AddrPort, to: AddrPort) -> int:
        """The public port of a flow that an inner host begins."""
        depends_on: tuple[object, ...] = {
            Mapping.ENDPOINT_INDEPENDENT: (inside,),
            Mapping.ADDRESS_DEPENDENT: (inside, to[0]),
            Mapping.ADDRESS_AND_PORT_DEPENDENT: (inside, to),
        }[self._mapping]
        port = self._port_of.get(depends_on)
        if port is None:
            port = self._port_of[depends_on] = self._next_port()
            self._inside[port] = inside
        return port

    def inbound(self, sender: AddrPort, port: int) -> AddrPort | None:
        """Where a datagram that arrives goes; None: nowhere."""
        contacted = self._contacted.get(port, set())
        lets_in = {
            Filtering.ENDPOINT_INDEPENDENT: True,
            Filtering.ADDRESS_DEPENDENT: sender[0] in {ip for ip, _ in contacted},
            Filtering.ADDRESS_AND_PORT_DEPENDENT: sender in contacted,
        }[self._filtering]
        inside = self._inside.get(port) if lets_in else None
        if inside is not None:
            self._flows.setdefault((inside, sender), port)
        return inside
