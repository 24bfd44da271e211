"""Candidate addresses of one peer, in a bounded table."""

from collections.abc import Iterable, Iterator
from itertools import islice

from coderd.magicsock.candidate import Candidate, may_be_candidate
from coderd.model.addresses import AddrPort
from coderd.model.transport import MAIN_SOCKET, SocketId

MOST_CANDIDATES = 100
"""Addresses kept of one peer: an authenticated peer, too, may be hostile."""
MOST_NAMED = 64
"""Addresses taken from one call-me-maybe or NetMap."""
_MOST_LOOKED_AT = 2 * MOST_NAMED
"""Entries examined of a list that holds invalid ones too: a relayed call-me-maybe has room for thousands."""


class Candidates:
    """Table of one peer's addresses."""

    def __init__(self) -> None:
        self._by_addr: dict[AddrPort, Candidate] = {}

    def __contains__(self, addr: object) -> bool:
        return addr in self._by_addr

    def __iter__(self) -> Iterator[Candidate]:
        return iter(tuple(self._by_addr.values()))

    def get(self, addr: AddrPort) -> Candidate | None:
        """Returns what is known of an address; None if it is no candidate."""
        return self._by_addr.get(addr)

    def add(self, addr: AddrPort) -> Candidate:
        """Returns the entry of an address, adding it if there is none.

        In a full table the oldest that the server did not name makes room.
        """
        if (candidate := self._by_addr.get(addr)) is None:
            if len(self._by_addr) >= MOST_CANDIDATES:
                learned = (c.addr for c in self._by_addr.values() if not c.in_netmap)
                del self._by_addr[next(learned, next(iter(self._by_addr)))]
            candidate = self._by_addr[addr] = Candidate(addr)
        return candidate

    def name_in_netmap(self, endpoints: Iterable[AddrPort]) -> bool:
        """Takes the server's whole list. Returns whether an address in it is new."""
        named = valid_addresses(endpoints)
        is_news = any(addr not in self._by_addr for addr in named)
        for candidate in self._by_addr.values():
            candidate.in_netmap = False
        for addr in named:
            self.add(addr).in_netmap = True
        return is_news

    def name_in_call(self, endpoints: Iterable[AddrPort], now: float) -> None:
        """Takes the peer's own whole list, in place of an earlier one."""
        for candidate in self._by_addr.values():
            candidate.call_me_maybe_at = None
        for addr in valid_addresses(endpoints):
            self.add(addr).call_me_maybe_at = now

    def delete_unvouched(self, now: float) -> None:
        """Deletes the addresses that neither the server, the peer nor a recent ping names."""
        for candidate in self:
            if candidate.is_deletable(now):
                del self._by_addr[candidate.addr]

    def forget_pings(self, now: float) -> None:
        """Lets every address that has answered be pinged at once."""
        for candidate in self._by_addr.values():
            if candidate.has_answered(now):
                candidate.pinged_at = None

    def forget_socket(self, socket: SocketId) -> None:
        """Lets the main sockets reach what a closed spare socket reached."""
        for candidate in self._by_addr.values():
            if candidate.socket == socket:
                candidate.socket = MAIN_SOCKET

    def forget_probes(self) -> None:
        """Forgets what was measured, not who named the addresses."""
        for candidate in self._by_addr.values():
            candidate.forget_probes()

    def keep_netmap_only(self) -> None:
        """Deletes all addresses but the server's, and forgets what the peer itself said and did."""
        self._by_addr = {addr: c for addr, c in self._by_addr.items() if c.in_netmap}
        for candidate in self._by_addr.values():
            candidate.call_me_maybe_at = candidate.ping_heard_at = None
        self.forget_probes()


def valid_addresses(endpoints: Iterable[AddrPort]) -> list[AddrPort]:
    """Selects the addresses of a list that may be a peer's, once each, at most ``MOST_NAMED``.

    The rest is not examined.
    """
    fair = islice(endpoints, _MOST_LOOKED_AT)
    return list(dict.fromkeys(addr for addr in fair if may_be_candidate(addr)))[:MOST_NAMED]
