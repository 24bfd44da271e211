"""How often addresses may be pinged that have not answered.

A peer that names a third party's must not make this node a weapon.

A peer's call-me-maybe, the server's NetMap and the source of a ping name addresses, and any of them may be a
stranger's. So a ping to an address that has not answered is small, and counts here thrice:

```
per peer            16 in any second, to all the addresses that are said to be its
per target          5 in any second, of all peers and ports, until that IP (IPv6: its /64) has answered
in all              2,048 in any second: thousands of invented peers could aim at a whole network
```
An address that was pinged within the second leaves two of the five to others, unless a ping has just come
from there: then both firewalls are open. What has no room waits for its turn. A target's turns go round the
peers that wait for it, so that neither a peer that names many ports, nor a dead one behind the same NAT, has
a second turn before the others have had one. The first answer from a target lifts its limit, and all that
wait for it go at once, within their peers'.

The answers themselves are limited too: 32 pongs in any second to sources of one peer that have not answered.
And a peer is called upon 16 times in any second, since each call costs a look at all of its addresses.

Pure. Its owner is ``Conn``; an ``Endpoint`` asks it, and is called when a turn has come.
"""

from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TypeAlias

from coderd.model.addresses import AddrPort, is_ipv6
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic

PINGS_PER_PEER = 16
"""Unanswered pings in any second to the addresses of one peer."""
PINGS_PER_TARGET = 5
"""Unanswered pings in any second to one IP (of IPv6: one /64), for all peers together."""
PINGS_IN_ALL = 2048
"""Unanswered pings in any second to all addresses: 300 KB with headers, room for 300 peers of six addresses
each.
"""
KEPT_FOR_OTHERS = 2
"""Pings of these that are kept for addresses not pinged within the second."""
PONGS_PER_PEER = 32
"""Pongs in any second to sources of one peer that have not answered."""
CALLS_PER_PEER = 16
"""Call-me-maybes of one peer that are acted on in any second."""
ANSWER_LIFETIME = 60.0
"""Seconds for which an answer lifts the limits of the IP that it came from."""
TURN_INTERVAL = 0.02
"""Least seconds between two looks at the waiting addresses: a look costs as much as there are targets."""

_WINDOW = 1.0
_MOST_ANSWERED = 4096
"""Targets remembered as having answered; the oldest makes room."""

Target: TypeAlias = str
"""An IPv4 address, or the first address of an IPv6 /64."""
_Waiting: TypeAlias = dict[NodePublic, dict[AddrPort, bool]]
"""Peers that wait for one target, the next in turn first.

Each with its addresses, and whether that is no repetition.
"""


class PingBudget:
    """Limits on pings to unanswered addresses, and the queue of those that wait."""

    def __init__(self) -> None:
        self._all: deque[float] = deque(maxlen=PINGS_IN_ALL)
        self._by_peer: dict[NodePublic, deque[float]] = {}
        self._by_target: dict[Target, deque[tuple[float, AddrPort]]] = {}
        """What was pinged there and when; the target that was pinged longest ago comes first."""
        self._pongs: dict[NodePublic, deque[float]] = {}
        self._calls: dict[NodePublic, deque[float]] = {}
        self._answered: dict[Target, float] = {}
        """When each last answered, the longest ago first."""
        self._waiting: dict[Target, _Waiting] = {}
        self._next_at: float | None = None
        self._looked_at = float("-inf")

    # Commands

    def ask(self, peer: NodePublic, addr: AddrPort, now: float, *, is_new_flow: bool = False) -> bool:
        """Returns whether a peer's address may be pinged now, and counts it; else it waits for its turn.

        Args:
            peer: the peer that the address is said to be of.
            addr: an address that has not answered.
            now: the instant.
            is_new_flow: a ping has just come from there, or another of our sockets is to be tried: this is no
                repetition.
        """
        target = target_of(addr)
        if target not in self._waiting and self.take(peer, addr, now, is_new_flow=is_new_flow):
            return True
        addrs = self._waiting.setdefault(target, {}).setdefault(peer, {})
        addrs[addr] = is_new_flow or addrs.get(addr, False)
        self._plan(self._free_at(peer, target, addr, now, is_new_flow=addrs[addr]), now)
        return False

    def take(self, peer: NodePublic, addr: AddrPort, now: float, *, is_new_flow: bool = False) -> bool:
        """Takes room for one ping now, or returns False: for pings that cannot wait in the queue."""
        target = target_of(addr)
        if self._free_at(peer, target, addr, now, is_new_flow=is_new_flow) > now:
            return False
        self._all.append(now)
        self._by_peer.setdefault(peer, deque(maxlen=PINGS_PER_PEER)).append(now)
        if not self.has_answered(target, now):
            self._note(target, addr, now)
        return True

    def take_pong(self, peer: NodePublic, now: float) -> bool:
        """Returns whether a ping from a source that has not answered may be answered, and counts it."""
        return _take(self._pongs.setdefault(peer, deque(maxlen=PONGS_PER_PEER)), now)

    def take_call(self, peer: NodePublic, now: float) -> bool:
        """Returns whether a peer's call-me-maybe is to be acted on, and counts it."""
        return _take(self._calls.setdefault(peer, deque(maxlen=CALLS_PER_PEER)), now)

    def handle_answer(self, addr: AddrPort, now: float) -> None:
        """Lifts the limit of an address's target: a ping that was sent there was answered."""
        target = target_of(addr)
        self._answered.pop(target, None)
        self._answered[target] = now
        if len(self._answered) > _MOST_ANSWERED:
            del self._answered[next(iter(self._answered))]
        if target in self._waiting:
            self._plan(now, now)

    def handle_rebound(self) -> None:
        """Forgets all answers: the network changed, and an address may be a third party's now."""
        self._answered.clear()

    def forget_peer(self, peer: NodePublic) -> None:
        """Forgets a removed peer and its waiting addresses."""
        self._by_peer.pop(peer, None)
        self._pongs.pop(peer, None)
        self._calls.pop(peer, None)
        for target, peers in list(self._waiting.items()):
            peers.pop(peer, None)
            if not peers:
                del self._waiting[target]

    # What to do next

    def pop_turns(self, now: float) -> list[tuple[NodePublic, AddrPort]]:
        """Takes out and returns the peers and addresses whose turn it is; each is counted."""
        if self._next_at is None or now < self._next_at:
            return []
        self._looked_at, self._next_at = now, None
        turns = [turn for target in list(self._waiting) for turn in self._turns_at(target, now)]
        due = (self._due(target, now) for target in self._waiting)
        if (when := min(due, default=None)) is not None:
            self._plan(when, now)
        return turns

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``pop_turns``; None if none waits."""
        return Deadline(self._next_at, "turn to ping") if self._next_at is not None else None

    # Looking

    def has_answered(self, target: Target, now: float) -> bool:
        """Returns whether any address at a target has answered within ``ANSWER_LIFETIME``."""
        at = self._answered.get(target)
        return at is not None and now - at <= ANSWER_LIFETIME

    # Inside

    def _turns_at(self, target: Target, now: float) -> list[tuple[NodePublic, AddrPort]]:
        """Selects as many as there is room for: round the peers, each once, then from the first again."""
        peers = self._waiting[target]
        turns: list[tuple[NodePublic, AddrPort]] = []
        n_blocked = 0
        while n_blocked < len(peers):
            peer = next(iter(peers))
            addrs = peers.pop(peer)
            addr = next(
                (a for a, is_new_flow in addrs.items() if self.take(peer, a, now, is_new_flow=is_new_flow)),
                None,
            )
            if addr is None:
                n_blocked += 1
            else:
                n_blocked = 0
                turns.append((peer, addr))
                del addrs[addr]
            if addrs:
                peers[peer] = addrs
        if not peers:
            del self._waiting[target]
        return turns

    def _due(self, target: Target, now: float) -> float:
        """Returns when the next turn at a target comes, at the earliest."""
        return min(
            self._free_at(peer, target, addr, now, is_new_flow=is_new_flow)
            for peer, addrs in self._waiting[target].items()
            for addr, is_new_flow in addrs.items()
        )

    def _free_at(
        self, peer: NodePublic, target: Target, addr: AddrPort, now: float, *, is_new_flow: bool
    ) -> float:
        """Returns when all limits have room."""
        in_all = self._all[0] + _WINDOW if len(self._all) == PINGS_IN_ALL else now
        of_peer = max(in_all, _room_at(self._by_peer.get(peer, ()), PINGS_PER_PEER, now))
        pings = self._by_target.get(target)
        if pings is None or self.has_answered(target, now):
            return of_peer
        is_again = not is_new_flow and any(pinged == addr and now - at < _WINDOW for at, pinged in pings)
        most = PINGS_PER_TARGET - KEPT_FOR_OTHERS if is_again else PINGS_PER_TARGET
        return max(of_peer, _room_at([at for at, _ in pings], most, now))

    def _plan(self, when: float, now: float) -> None:
        when = max(when, self._looked_at + TURN_INTERVAL, now)
        self._next_at = when if self._next_at is None else min(self._next_at, when)

    def _note(self, target: Target, addr: AddrPort, now: float) -> None:
        """Counts a ping to a target, and forgets targets that were not pinged for a second."""
        pings = self._by_target.pop(target, None) or deque(maxlen=PINGS_PER_TARGET)
        pings.append((now, addr))
        self._by_target[target] = pings
        while now - self._by_target[oldest := next(iter(self._by_target))][-1][0] >= _WINDOW:
            del self._by_target[oldest]


@lru_cache(maxsize=4096)
def target_of(addr: AddrPort) -> Target:
    """Returns the unit of limits that an address belongs to: an IPv4 address, or an IPv6 /64."""
    if not is_ipv6(addr):
        return addr[0]
    return str(IPv6Address(int(IPv6Address(addr[0])) >> 64 << 64))


def _take(window: deque[float], now: float) -> bool:
    if _room_at(window, window.maxlen or 0, now) > now:
        return False
    window.append(now)
    return True


def _room_at(instants: Iterable[float], most: int, now: float) -> float:
    """Returns when there is room for one more of at most so many in any second: now, or later."""
    lately = [at for at in instants if now - at < _WINDOW]
    return now if len(lately) < most else lately[-most] + _WINDOW
