"""Sets of TCP and UDP ports, as people write them: ``all``, ``none`` or ``22,8000-8999``.

A share names the ports of a workspace that its guests may reach, and ``coderctl up --accept-inbound`` those
of a device: one notation for the command line, the API, the store, the NetMap and the packet filter.
"""

from collections.abc import Iterable
from dataclasses import dataclass

MAX_PORT = 65_535
MAX_RANGES = 64
"""Ranges in one set: a longer list is a mistake, and would not fit the places that store it."""
MAX_TEXT = 800
"""Characters of the longest text that ``parse_ports`` reads: 64 ranges of two five-digit ports."""


@dataclass(frozen=True, slots=True)
class PortSet:
    """A set of ports: sorted ranges ``(first, last)``, both ends included, that neither overlap nor touch.

    Make one with ``parse_ports`` or ``port_set``, which merge and sort; equal sets then compare equal.
    """

    ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, port: int) -> bool:
        """Whether a port is in the set."""
        return any(first <= port <= last for first, last in self.ranges)

    def __bool__(self) -> bool:
        """Whether the set has any port."""
        return bool(self.ranges)

    def __str__(self) -> str:
        """Canonical text, which ``parse_ports`` reads back."""
        if not self.ranges:
            return "none"
        if self.ranges == ((0, MAX_PORT),):
            return "all"
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)


NO_PORTS = PortSet()
ALL_PORTS = PortSet(((0, MAX_PORT),))


def port_set(ranges: Iterable[tuple[int, int]]) -> PortSet:
    """Merges ranges of ports into a set.

    Raises:
        ValueError: a range is reversed or leaves 0 to 65535, or more than ``MAX_RANGES`` remain after
            merging.
    """
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if not 0 <= first <= last <= MAX_PORT:
            raise ValueError(f"{first}-{last} is not a range of ports")
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    if len(merged) > MAX_RANGES:
        raise ValueError(f"more than {MAX_RANGES} ranges of ports")
    return PortSet(tuple(merged))


def parse_ports(text: str) -> PortSet:
    """Parses ``all``, ``none``, or ports and ranges with commas between them: ``22,8000-8999``.

    Raises:
        ValueError: anything else; the message says what is wrong and repeats at most 40 characters of the
            text.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"a list of ports has at most {MAX_TEXT} characters")
    match text.strip():
        case "all":
            return ALL_PORTS
        case "none":
            return NO_PORTS
        case stripped:
            return port_set(_parse_range(part.strip()) for part in stripped.split(","))


def _parse_range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not _is_port(first) or (dash and not _is_port(last)):
        raise ValueError(f"{text[:40]!r} is not a port from 1 to {MAX_PORT}, nor a range such as 8000-8999")
    return int(first), int(last if dash else first)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_PORT
