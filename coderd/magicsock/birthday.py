"""The birthday: a random port on one side, found by many tries on both.

Off unless both ends enable it.

The side whose NAT maps at random opens 256 sockets towards the other's address: 256 ports of its NAT let the
other in. The side whose port is known then sends up to 1,024 pings to random ports of that NAT. It meets one
of the 256 among 64,512 with a probability of 98 %: 1 - (1 - 256/64512)^1024. What arrives is an ordinary ping
to an ordinary socket.

Both users have asked for it, as the NetMap says of the peer; no message does: the NATs' behavior says who has
which part. A node whose NAT maps at random names one outer address with several ports in its call-me-maybe,
which only the holder of its disco key can have sealed. The searcher waits for two seconds of such calls,
while easier ways are tried and the other side opens its sockets. Where both name several ports, neither
plays. An address is searched at most once in two minutes, for all peers together: it may be a third party's.

Source: Tailscale, "How NAT traversal works", on the birthday paradox.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coderd.model import RandomBytes
from coderd.model.addresses import AddressScope, AddrPort, address_scope, is_ipv6
from coderd.model.deadline import Deadline, earliest
from coderd.model.keys import NodePublic
from coderd.model.transport import MAIN_SOCKET, SocketId

N_SOCKETS = 256
N_PROBES = 1024
PROBES_AT_ONCE = 64
PROBE_INTERVAL = 0.05
"""Seconds between two volleys: 1,280 small pings in a second."""
SEARCH_AFTER = 2.0
"""Seconds of calls that name several ports before the search."""
RETRY = 120.0
"""Least seconds between two birthdays with one peer, on either side."""

_FIRST_PORT = 1024
"""NATs hand out the ports above the well-known ones (RFC 4787 §4.2)."""
_PORTS = 65536


class Scatter(NamedTuple):
    """Wish to send one small ping to many addresses, or by many sockets.

    What comes back is a ping of the peer's.
    """

    peer: NodePublic
    ways: tuple[tuple[SocketId, AddrPort], ...]
    """Socket and address of each."""


class _Search:
    """Ports of a peer's NAT that are still to be tried."""

    def __init__(self, ip: str, ports: Sequence[int], now: float) -> None:
        self.ip = ip
        self.ports = deque(ports)
        self.next_at = now


class Birthdays:
    """Peers willing to search by birthday, sockets being opened for them, and the current searches.

    ``Punching`` owns the sockets.

    Args:
        is_enabled: whether this node's user allows it.
        rng: for ports.
    """

    def __init__(self, *, is_enabled: bool, rng: RandomBytes) -> None:
        self._is_enabled = is_enabled
        self._rng = rng
        self._willing: set[NodePublic] = set()
        """Peers whose users allow it, too."""
        self._opening: dict[SocketId, AddrPort] = {}
        """Sockets that are being opened, and the address that they are for."""
        self._hard_since: dict[NodePublic, float] = {}
        """When a peer first named one address with several ports."""
        self._played_at: dict[NodePublic, float] = {}
        self._played_with: dict[str, float] = {}
        """When each outer address was last searched, for all peers together."""
        self._searches: dict[NodePublic, _Search] = {}

    # The side of many sockets

    def should_open(self, peer: NodePublic, targets: Sequence[AddrPort], now: float) -> bool:
        """Returns whether to open ``N_SOCKETS`` towards the first of a peer's addresses.

        They are opened if the peer's ports are known and ours are random.
        """
        return self._is_enabled and _is_easy(targets) and self._may_play(peer, targets[0][0], now)

    def begin_opening(self, peer: NodePublic, sockets: Iterable[SocketId], to: AddrPort, now: float) -> None:
        """Notes the sockets that are being opened towards a peer's address."""
        self._note_played(peer, to[0], now)
        self._opening |= dict.fromkeys(sockets, to)

    def pop_opening(self, socket: SocketId) -> AddrPort | None:
        """Takes out a socket that was opened or closed.

        Returns the address that it is for, None if it is for no birthday.
        """
        return self._opening.pop(socket, None)

    # The side of many pings

    def search(self, peer: NodePublic, named: Iterable[AddrPort], now: float) -> Scatter | None:
        """Examines the addresses that a peer, not direct, names of itself.

        Returns the first pings of a search, or None.
        """
        hard = [ip for ip, ports in public_ports(named).items() if len(ports) > 1]
        if not self._is_enabled or not hard:
            self._hard_since.pop(peer, None)
            return None
        since = self._hard_since.setdefault(peer, now)
        if now - since < SEARCH_AFTER or self._searches or not self._may_play(peer, hard[0], now):
            return None
        self._note_played(peer, hard[0], now)
        search = self._searches[peer] = _Search(hard[0], random_ports(N_PROBES, self._rng), now)
        return self._volley(peer, search, now)

    def handle_timeout(self, now: float) -> list[Scatter]:
        """Returns the pings of searches that are due."""
        due = [(peer, search) for peer, search in self._searches.items() if search.next_at <= now]
        return [self._volley(peer, search, now) for peer, search in due]

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``."""
        return earliest(*(Deadline(each.next_at, "search for a port") for each in self._searches.values()))

    # Both

    def set_willing(self, peer: NodePublic, *, is_willing: bool) -> None:
        """Sets whether a peer's user allows it."""
        (self._willing.add if is_willing else self._willing.discard)(peer)

    def handle_direct(self, peer: NodePublic) -> None:
        """Ends the search for a peer to which a path was found."""
        self._searches.pop(peer, None)
        self._hard_since.pop(peer, None)

    def forget_peer(self, peer: NodePublic) -> None:
        """Forgets what was tried with a peer, but not the addresses that it was tried with."""
        for table in (self._hard_since, self._played_at, self._searches):
            table.pop(peer, None)

    @property
    def peers(self) -> tuple[NodePublic, ...]:
        """Returns the peers with whom something was tried."""
        return (*self._played_at, *self._hard_since)

    def _may_play(self, peer: NodePublic, ip: str, now: float) -> bool:
        """Returns whether the peer plays, and neither it nor the address has done so within ``RETRY``."""
        played = (self._played_at.get(peer), self._played_with.get(ip))
        return peer in self._willing and all(at is None or now - at >= RETRY for at in played)

    def _note_played(self, peer: NodePublic, ip: str, now: float) -> None:
        self._played_with = {each: at for each, at in self._played_with.items() if now - at < RETRY}
        self._played_at[peer] = self._played_with[ip] = now

    def _volley(self, peer: NodePublic, search: _Search, now: float) -> Scatter:
        n = min(PROBES_AT_ONCE, len(search.ports))
        ways = tuple((MAIN_SOCKET, (search.ip, search.ports.popleft())) for _ in range(n))
        search.next_at = now + PROBE_INTERVAL
        if not search.ports:
            del self._searches[peer]
        return Scatter(peer, ways)


def public_ports(addrs: Iterable[AddrPort]) -> dict[str, list[int]]:
    """Groups a list's ports by public IPv4 address."""
    ports: dict[str, list[int]] = {}
    for addr in addrs:
        if not is_ipv6(addr) and address_scope(addr[0]) is AddressScope.PUBLIC:
            ports.setdefault(addr[0], []).append(addr[1])
    return ports


def random_ports(n: int, rng: RandomBytes) -> list[int]:
    """Draws ``n`` different ports that a NAT may have chosen."""
    ports: dict[int, None] = {}
    while len(ports) < n:
        at = int.from_bytes(rng(4), "big") % (_PORTS - _FIRST_PORT)
        ports[_FIRST_PORT + at] = None
    return list(ports)


def _is_easy(targets: Sequence[AddrPort]) -> bool:
    """Returns whether a peer's NAT has endpoint-independent mapping: each outer address has one port."""
    ports = public_ports(targets)
    return bool(ports) and all(len(each) == 1 for each in ports.values())
