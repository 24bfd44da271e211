"""NATs in RFC 4787's words: which public port a mapping gets, and what may come in through it."""

from enum import Enum
from random import Random
from typing import NamedTuple

from coderd.model.addresses import AddrPort


class Mapping(Enum):
    """What the choice of a public port depends on (§4.1)."""

    ENDPOINT_INDEPENDENT = "eim"
    ADDRESS_DEPENDENT = "adm"
    ADDRESS_AND_PORT_DEPENDENT = "apdm"


class Filtering(Enum):
    """Which senders are let in to a mapping (§5). Strictest last."""

    ENDPOINT_INDEPENDENT = "eif"
    ADDRESS_DEPENDENT = "adf"
    ADDRESS_AND_PORT_DEPENDENT = "apdf"


class Kind(NamedTuple):
    """A kind of NAT."""

    mapping: Mapping
    filtering: Filtering


EASY = Kind(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
"""The usual home router."""
OPEN = Kind(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
HARD = Kind(Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
"""The strict company router."""
EVERY_KIND = [Kind(mapping, filtering) for mapping in Mapping for filtering in Filtering]


def is_direct(one: Kind | None, other: Kind | None) -> bool:
    """The oracle: whether two places can be joined without a relay, ports not being guessed. None: no NAT at all."""
    return _gets_in(one or OPEN, other or OPEN) or _gets_in(other or OPEN, one or OPEN)


def _gets_in(sender: Kind, receiver: Kind) -> bool:
    """Whether what one sends to the port that STUN saw of the other arrives, both having sent."""
    if receiver.filtering is Filtering.ENDPOINT_INDEPENDENT:
        return True
    if receiver.mapping is not Mapping.ENDPOINT_INDEPENDENT:
        return False  # that port is open to the STUN server alone
    if receiver.filtering is Filtering.ADDRESS_DEPENDENT:
        return True
    return sender.mapping is Mapping.ENDPOINT_INDEPENDENT


class Nat:
    """One public address, shared by what is behind it. Its ports are random."""

    def __init__(self, ip: str, kind: Kind, rng: Random) -> None:
        self.ip = ip
        self._kind = kind
        self._rng = rng
        self._port_of: dict[tuple[object, ...], int] = {}
        self._inside: dict[int, AddrPort] = {}
        self._contacted: dict[int, set[AddrPort]] = {}
        self._came_by: dict[tuple[AddrPort, AddrPort], int] = {}
        """By which port somebody's datagrams came in: what goes to them leaves by the same."""

    def forget(self) -> None:
        """Every mapping expires."""
        self._port_of.clear()
        self._inside.clear()
        self._contacted.clear()
        self._came_by.clear()

    def outbound(self, inside: AddrPort, to: AddrPort) -> AddrPort:
        """The public source of a datagram that leaves."""
        depends_on: tuple[object, ...] = {
            Mapping.ENDPOINT_INDEPENDENT: (inside,),
            Mapping.ADDRESS_DEPENDENT: (inside, to[0]),
            Mapping.ADDRESS_AND_PORT_DEPENDENT: (inside, to),
        }[self._kind.mapping]
        port = self._came_by.get((inside, to)) or self._port_of.get(depends_on)
        if port is None:
            port = self._port_of[depends_on] = self._free_port()
            self._inside[port] = inside
        self._contacted.setdefault(port, set()).add(to)
        return (self.ip, port)

    def inbound(self, sender: AddrPort, port: int) -> AddrPort | None:
        """Where a datagram that arrives goes; None: nowhere."""
        contacted = self._contacted.get(port, set())
        lets_in = {
            Filtering.ENDPOINT_INDEPENDENT: True,
            Filtering.ADDRESS_DEPENDENT: sender[0] in {ip for ip, _ in contacted},
            Filtering.ADDRESS_AND_PORT_DEPENDENT: sender in contacted,
        }[self._kind.filtering]
        inside = self._inside.get(port) if lets_in else None
        if inside is not None:
            self._came_by[inside, sender] = port
        return inside

    def _free_port(self) -> int:
        while (port := self._rng.randrange(20000, 60000)) in self._inside:
            pass
        return port
