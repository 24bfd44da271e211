"""One peer's addresses, and the pings to them: who is pinged now, how large, and what an answer shows.

An address may be a third party's until it has answered; so the first ping there is small, and leaves when
``PingBudget`` has room for it. What has answered is pinged padded to the tunnel's full size: only such a pong
can choose a path.
"""

from collections import deque
from typing import NamedTuple

from coderd.disco import TX_SIZE
from coderd.magicsock.candidate import Candidate, may_be_candidate
from coderd.magicsock.candidates import Candidates
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.pings import (
    PING_SIZE,
    HeardPings,
    PathMtuBlackHole,
    PingAnswered,
    Pings,
    Purpose,
    SendCallMeMaybe,
    SendPing,
    SentPing,
    Wish,
)
from coderd.model import RandomBytes
from coderd.model.addresses import AddressScope, AddrPort, address_scope, is_ipv6
from coderd.model.keys import NodePublic
from coderd.model.transport import MAIN_SOCKET, SocketId

_PING_GAP = 0.1
"""Least seconds between two discovery pings to one address."""
_PING_BACK_GAP = 1.0
"""Least seconds between two pings to an address that only answer the peer's own pings from there."""
_OPEN_GAP = 0.05
"""Least seconds between two pings to an address that has not answered, but from which the peer has pinged."""
_OPEN_FOR = 1.0
"""Seconds after a ping came from an address for which ours is likely to get there."""


class Answer(NamedTuple):
    """Result of a pong: the ping that it answers, the round trip in seconds, and where the pong came from."""

    ping: SentPing
    latency: float
    candidate: Candidate | None
    """None for the relay, and for an address that is no candidate any more."""
    is_first: bool
    """Whether the address had not answered of late."""


class Prober:
    """Candidates, pings in flight, and what is to be sent. Its owner is the peer's ``Endpoint``.

    Args:
        key: the peer.
        rng: for transaction ids.
        probe_size: UDP payload in bytes that a path must carry to be chosen.
        budget: limits pings to addresses that have not answered; shared by all peers.
    """

    def __init__(self, key: NodePublic, *, rng: RandomBytes, probe_size: int, budget: PingBudget) -> None:
        self.candidates = Candidates()
        self.black_hole = PathMtuBlackHole()
        self._key = key
        self._rng = rng
        self._probe_size = max(probe_size, PING_SIZE)
        self._budget = budget
        self._pings = Pings()
        self._heard = HeardPings()
        self._wishes: deque[Wish] = deque()
        self._answers: deque[PingAnswered] = deque()

    # Sending

    def ping(
        self,
        to: AddrPort | None,
        purpose: Purpose,
        now: float,
        token: int | None = None,
        *,
        is_new_flow: bool = False,
    ) -> None:
        """Pings now where the peer has answered, and by relay (None).

        Anywhere else when the budget has room.
        """
        if (
            to is None
            or self.has_answered(to, now)
            or self._budget.ask(self._key, to, now, is_new_flow=is_new_flow)
        ):
            self.send(to, purpose, now, token)

    def send(
        self,
        to: AddrPort | None,
        purpose: Purpose,
        now: float,
        token: int | None = None,
        socket: SocketId | None = None,
    ) -> None:
        """Sends a ping at once.

        It has full size if the answer may choose a path and the peer has answered before, else it is small.
        """
        is_full = (
            to is not None and purpose in (Purpose.DISCOVERY, Purpose.USER) and self.has_answered(to, now)
        )
        size = self._probe_size if is_full else PING_SIZE
        if to is not None and (candidate := self.candidates.get(to)) is not None:
            candidate.pinged_at = now
            socket = candidate.socket if socket is None else socket
        tx_id = self._rng(TX_SIZE)
        self._pings.add(SentPing(tx_id, to, now, purpose, size, token, socket or MAIN_SOCKET))
        self._wishes.append(SendPing(tx_id, to, size - PING_SIZE, socket or MAIN_SOCKET))

    def ping_all(self, now: float) -> None:
        """Pings every candidate that was not pinged just now.

        First those that the peer has just pinged from.
        """
        for candidate in sorted(self.candidates, key=lambda candidate: not _is_open(candidate, now)):
            is_open = _is_open(candidate, now)
            if _is_older(candidate.pinged_at, _OPEN_GAP if is_open else _PING_GAP, now):
                self.ping(candidate.addr, Purpose.DISCOVERY, now, is_new_flow=is_open)

    def retry_open(self, now: float) -> bool:
        """Pings once more where both firewalls are open, and yet no answer came: a datagram was lost.

        Returns: whether there is such an address.
        """
        silent = [each for each in self.candidates if _is_open(each, now) and not each.has_answered(now)]
        for candidate in silent:
            if _is_older(candidate.pinged_at, _OPEN_GAP, now):
                self.ping(candidate.addr, Purpose.DISCOVERY, now, is_new_flow=True)
        return bool(silent)

    def ask_for_size(self, answer: Answer, now: float) -> bool:
        """Asks at full size whether the path carries the tunnel, if the pong was to a small discovery ping.

        Returns whether it did.
        """
        ping = answer.ping
        if ping.purpose is not Purpose.DISCOVERY or not ping.is_small:
            return False
        self.send(ping.to, Purpose.DISCOVERY, now, socket=ping.socket)
        return True

    def call_me_maybe(self) -> None:
        """Asks the peer by relay to ping this node."""
        self._wishes.append(SendCallMeMaybe())

    def proves_size(self, ping: SentPing) -> bool:
        """Returns whether a pong to this ping shows that the path carries the tunnel."""
        return ping.udp_payload >= self._probe_size

    # What came

    def handle_ping(
        self, addr: AddrPort, tx_id: bytes, socket: SocketId, now: float, *, trusted: AddrPort | None
    ) -> bool:
        """Takes a ping of the peer's, and pings back where that may find a path.

        Returns whether it deserves a pong.

        The socket that it came to is the one that reaches the address, unless another does already.

        Args:
            addr: where it came from.
            tx_id: its transaction id; a copy of an earlier ping deserves nothing.
            socket: the local socket that it came to.
            now: the instant.
            trusted: the address of the trusted direct path, None if there is none.
        """
        if not self._heard.is_new(tx_id):
            return False
        if not self.has_answered(addr, now) and not self._budget.take_pong(self._key, now):
            return False
        if not may_be_candidate(addr):
            return True
        is_new = addr not in self.candidates
        candidate = self.candidates.add(addr)
        candidate.ping_heard_at = now
        if socket != candidate.socket and addr != trusted:
            candidate.socket = socket
            candidate.pinged_at = None
        gap = _PING_BACK_GAP if candidate.has_answered(now) else _OPEN_GAP
        if is_new or (trusted is None and _is_older(candidate.pinged_at, gap, now)):
            self.ping(addr, Purpose.DISCOVERY, now, is_new_flow=True)
        return True

    def handle_pong(self, tx_id: bytes, source: AddrPort | int, now: float) -> Answer | None:
        """Takes a pong that came from an address, or through a region's relay.

        Returns None if it answers no such ping.
        """
        ping = self._pings.get(tx_id)
        if ping is None or (ping.to is None) != isinstance(source, int):
            return None
        self._pings.pop(tx_id)
        self.black_hole.handle_pong(ping, now)
        latency = max(now - ping.at, 0.0)
        if ping.token is not None:
            self._pings.forget_token(ping.token)
            self._answers.append(PingAnswered(ping.token, source if ping.to is None else ping.to, latency))
        candidate = self.candidates.get(ping.to) if ping.to is not None else None
        is_first = candidate is not None and not candidate.has_answered(now)
        if candidate is not None:
            candidate.answered_at = now
            self._budget.handle_answer(candidate.addr, now)
        return Answer(ping, latency, candidate, is_first)

    def handle_heard(self, addr: AddrPort, now: float) -> None:
        """Pings an address from which WireGuard has heard the peer, if it is new: the peer may have moved."""
        if addr not in self.candidates and may_be_candidate(addr):
            self.candidates.add(addr).ping_heard_at = now
            self.ping(addr, Purpose.DISCOVERY, now)

    def pop_expired(self, now: float) -> list[SentPing]:
        """Takes out and returns the pings that had no pong in time."""
        return self._pings.pop_expired(now)

    def seek_black_hole(self, expired: list[SentPing], now: float) -> None:
        """Sends a few small pings where full ones have expired: answered, they show a path-MTU black hole."""
        for addr in self.black_hole.choose(expired, now):
            if addr in self.candidates:
                self.ping(addr, Purpose.EVIDENCE, now)

    # Forgetting

    def forget_ping(self, tx_id: bytes) -> None:
        """Drops a ping that could not be sent."""
        self._pings.pop(tx_id)

    def forget_socket(self, socket: SocketId) -> None:
        """Drops what was known by a spare socket that was closed: a late pong must not make it a path."""
        self.candidates.forget_socket(socket)
        self._pings.forget_socket(socket)

    def forget_unnamed(self) -> None:
        """Drops everything but the addresses that the server names.

        The peer restarted, or may not be reached directly.
        """
        self._pings.clear()
        self.candidates.keep_netmap_only()

    def forget_heard(self) -> None:
        """Drops the ids of the peer's pings: it has another disco key."""
        self._heard.forget()

    def handle_rebound(self) -> None:
        """Drops what was measured, but no address: the network changed."""
        self.black_hole.forget()
        self._pings.clear()
        self.candidates.forget_probes()

    # What to do next

    def poll_wish(self) -> Wish | None:
        """Returns the next ping or call-me-maybe to seal and send, or None."""
        return self._wishes.popleft() if self._wishes else None

    def poll_answer(self) -> PingAnswered | None:
        """Returns the next answer to a user's ping, or None."""
        return self._answers.popleft() if self._answers else None

    @property
    def has_output(self) -> bool:
        """Returns whether anything is to be polled."""
        return bool(self._wishes) or bool(self._answers)

    def expires_at(self) -> float | None:
        """Returns when the oldest ping in flight expires; None if there is none."""
        return self._pings.expires_at()

    # Looking

    def has_answered(self, addr: AddrPort, now: float) -> bool:
        """Returns whether the peer has answered a ping from an address within ``ANSWER_LIFETIME``."""
        candidate = self.candidates.get(addr)
        return candidate is not None and candidate.has_answered(now)

    def addresses(self) -> list[AddrPort]:
        """Returns all addresses at which the peer may be."""
        return [candidate.addr for candidate in self.candidates]

    def targets(self) -> list[AddrPort]:
        """Returns the IPv4 addresses that the server or the peer names, in their order.

        Public ones, or all if none is.
        """
        named = (c for c in self.candidates if c.in_netmap or c.call_me_maybe_at is not None)
        v4 = [c.addr for c in named if not is_ipv6(c.addr)]
        return [addr for addr in v4 if address_scope(addr[0]) is AddressScope.PUBLIC] or v4


def _is_open(candidate: Candidate, now: float) -> bool:
    """Returns whether the peer has just pinged from there.

    Its firewall has let it out, and ours has let it in.
    """
    return not _is_older(candidate.ping_heard_at, _OPEN_FOR, now)


def _is_older(at: float | None, seconds: float, now: float) -> bool:
    return at is None or now - at >= seconds
