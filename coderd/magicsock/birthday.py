"""The birthday: a random port on one side, found by many tries on both. Off unless both ends were told to play.

The side whose NAT maps at random opens 256 sockets towards the other's address: 256 ports of its NAT let the other in.
The side whose port is known then sends up to 1,024 pings to random ports of that NAT, and with 98 in 100 meets one of them.
What arrives is an ordinary ping to an ordinary socket, and the rest is as ever.

Both users have asked for it, as the NetMap says of the peer; no message does: the NATs' habits say who has which part. Who maps at random names one outer address with several
ports in its call-me-maybe, which only the holder of its disco key can have sealed. The searcher waits for two seconds of
such calls, while easier ways are tried and the other side opens its sockets. Where both name several ports, nobody plays. An
address is searched once in two minutes, whoever names it: it may be somebody else's.
"""

from collections.abc import Iterable

from coderd.model import RandomBytes
from coderd.model.addresses import AddrPort, Scope, address_scope, is_ipv6

N_SOCKETS = 256
N_PROBES = 1024
PROBES_AT_ONCE = 64
PROBE_INTERVAL = 0.05
"""Seconds between two volleys: 1,280 small pings in a second."""
SEARCH_AFTER = 2.0
"""Seconds of hopeless calls before the search."""
RETRY = 120.0
"""Least seconds between two birthdays with one peer, on either side."""

_FIRST_PORT = 1024
_PORTS = 65536


def public_ports(addrs: Iterable[AddrPort]) -> dict[str, list[int]]:
    """The ports that a list names, by outer IPv4 address."""
    ports: dict[str, list[int]] = {}
    for addr in addrs:
        if not is_ipv6(addr) and address_scope(addr[0]) is Scope.PUBLIC:
            ports.setdefault(addr[0], []).append(addr[1])
    return ports


def random_ports(n: int, rng: RandomBytes) -> list[int]:
    """So many different ports that a NAT may have chosen."""
    ports: dict[int, None] = {}
    while len(ports) < n:
        at = int.from_bytes(rng(4), "big") % (_PORTS - _FIRST_PORT)
        ports[_FIRST_PORT + at] = None
    return list(ports)
