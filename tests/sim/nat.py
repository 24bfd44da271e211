"""NATs in RFC 4787's words: which public port a mapping gets, and what may come in through it."""

from enum import Enum
from random import Random
from typing import NamedTuple

from coderd.model.addresses import AddrPort


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


class Kind(NamedTuple):
    """Mapping and filtering of a NAT."""

    mapping: Mapping
    filtering: Filtering


EASY = Kind(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
"""The usual home router."""
OPEN = Kind(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
HARD = Kind(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
"""The strict company router."""
EVERY_KIND = [Kind(mapping, filtering) for mapping in Mapping for filtering in Filtering]


def is_direct(one: Kind | None, other: Kind | None) -> bool:
    """Returns whether two places can be joined without a relay or guessed ports; None is no NAT at all."""
    return _gets_in(one or OPEN, other or OPEN) or _gets_in(other or OPEN, one or OPEN)


def _gets_in(sender: Kind, receiver: Kind) -> bool:
    """Returns whether a datagram to the port that STUN saw of the receiver arrives, once both have sent."""
    if receiver.filtering is Filtering.ENDPOINT_INDEPENDENT:
        return True
    if receiver.mapping is not Mapping.ENDPOINT_INDEPENDENT:
        return False  # that port is open to the STUN server alone
    if receiver.filtering is Filtering.ADDRESS_DEPENDENT:
        return True
    return sender.mapping is Mapping.ENDPOINT_INDEPENDENT


class Nat:
    """One public address, shared by the hosts behind it.

    Args:
        ip: the public address.
        mapping: what a public port depends on.
        filtering: which senders are let in.
        step: difference between two consecutive ports; None: ports are random.
        rng: chooses the ports; by default one that is seeded by the address.
    """

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
        """Public port by inner and outer end: an answer leaves by the port at which its question came in."""
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
        """Returns a free port, or the next in sequence."""
        if self._step is not None:
            self._port = (self._port + self._step) % 65536
            return self._port
        return next(
            port for port in iter(lambda: self._rng.randrange(1024, 65536), 0) if port not in self._inside
        )

    def outbound(self, inside: AddrPort, to: AddrPort) -> AddrPort:
        """Returns the public source of a datagram that leaves."""
        port = self._flows.get((inside, to))
        if port is None:
            port = self._flows[inside, to] = self._map(inside, to)
        self._contacted.setdefault(port, set()).add(to)
        return (self.ip, port)

    def _map(self, inside: AddrPort, to: AddrPort) -> int:
        """Returns the public port of a flow that an inner host begins."""
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
        """Returns the inner destination of a datagram that arrives; None: it is dropped."""
        contacted = self._contacted.get(port, set())
        lets_in = {
            Filtering.ENDPOINT_INDEPENDENT: True,
            Filtering.ADDRESS_DEPENDENT: sender[0] in {ip for ip, _ in contacted},
            Filtering.ADDRESS_AND_PORT_DEPENDENT: sender in contacted,
        }[self._filtering]
        inside = self._inside.get(port) if lets_in else None
        if inside is not None:
            self._flows[inside, sender] = port
        return inside
