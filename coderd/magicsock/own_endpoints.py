"""Where this node may be reached: what STUN servers saw, then its own interface addresses.

A mapping that is seen no more is still published for a while: one silent STUN server must not close a path
that works.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias

from coderd.model.addresses import AddrPort, is_ipv6
from coderd.netcheck import Report

MAPPING_LIFETIME = 310.0
"""Seconds that a mapping is published after it was last seen."""
_MOST_PER_IP = 6


class EndpointType(IntEnum):
    """How an endpoint became known, by its number on the wire."""

    LOCAL = 1
    STUN = 2
    PORT_MAPPED = 3
    STUN_LOCAL_PORT = 4
    """The STUN address with the local port: a guess that a router forwards the port unchanged."""
    EXPLICIT = 5


OwnEndpoint: TypeAlias = tuple[AddrPort, int]


class OwnEndpoints:
    """List of own endpoints, in the order in which it is published."""

    def __init__(self) -> None:
        self._v4_port: int | None = None
        self._v6_port: int | None = None
        self._addresses: tuple[str, ...] = ()
        self._seen_at: dict[AddrPort, float] = {}
        """Mappings, in order of first sight."""
        self._mapping_varies: bool | None = None

    def set_local(self, v4_port: int | None, v6_port: int | None, addresses: Sequence[str]) -> bool:
        """Takes the bound ports, None for a family without a socket, and the interfaces' addresses.

        Returns whether they changed.
        """
        was = (self._v4_port, self._v6_port, self._addresses)
        self._v4_port, self._v6_port, self._addresses = v4_port, v6_port, tuple(addresses)
        return was != (v4_port, v6_port, self._addresses)

    def port_for(self, addr: AddrPort) -> int | None:
        """Returns the local port of an address's family; None if that family has no socket."""
        return self._v6_port if is_ipv6(addr) else self._v4_port

    def has_family(self, *, ipv6: bool) -> bool:
        """Returns whether there is a socket of a family and an address to use it with."""
        port = self._v6_port if ipv6 else self._v4_port
        return port is not None and any((":" in ip) == ipv6 for ip in self._addresses)

    def note_mapping(self, addr: AddrPort, now: float) -> None:
        """Notes an address at which a STUN server saw this node."""
        self._seen_at[addr] = now

    def note_report(self, report: Report, now: float) -> None:
        """Takes the mappings of a finished netcheck that were seen more than once."""
        self._mapping_varies = report.mapping_varies_by_dest
        for counters in (report.global_v4_counters, report.global_v6_counters):
            for addr, n_seen in counters.items():
                if n_seen > 1:
                    self._seen_at[addr] = now

    def forget_mappings(self) -> None:
        """Forgets all mappings: the network changed."""
        self._seen_at.clear()
        self._mapping_varies = None

    def gather(self, now: float) -> tuple[OwnEndpoint, ...]:
        """Returns all own endpoints, no address twice."""
        mapped = self._current_mappings(now)
        found: dict[AddrPort, int] = dict.fromkeys(mapped, int(EndpointType.STUN))
        if self._mapping_varies and self._v4_port is not None:
            for ip in dict.fromkeys(addr[0] for addr in mapped if not is_ipv6(addr)):
                found.setdefault((ip, self._v4_port), int(EndpointType.STUN_LOCAL_PORT))
        for ip in self._addresses:
            port = self.port_for((ip, 0))
            if port is not None:
                found.setdefault((ip, port), int(EndpointType.LOCAL))
        return tuple(found.items())

    def _current_mappings(self, now: float) -> list[AddrPort]:
        """Yields the mappings still published, of each address the most recent first; IPv4 before IPv6."""
        live = {addr: at for addr, at in self._seen_at.items() if now - at <= MAPPING_LIFETIME}
        newest_first = sorted(live, key=lambda addr: (is_ipv6(addr), -live[addr]))
        kept: dict[str, list[AddrPort]] = {}
        for addr in newest_first:
            if len(kept.setdefault(addr[0], [])) < _MOST_PER_IP:
                kept[addr[0]].append(addr)
        self._seen_at = {addr: at for addr, at in live.items() if addr in kept[addr[0]]}
        return [addr for addr in newest_first if addr in self._seen_at]
