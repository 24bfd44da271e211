"""One peer: where it may be, which path is the best, when to look for a better one.

The relay carries traffic from the first moment. Meanwhile rounds of discovery ping every address at which the peer may be,
and ask it by relay to do the same (call-me-maybe), so that both firewalls open. An address may be a stranger's until it has
answered; so the first ping there is small, and leaves when ``PingBudget`` has room for it. What has answered is pinged padded
to the tunnel's full size, and the first pong to that makes its address the best path, trusted for a while; from then on
traffic goes straight, heartbeats renew trust, and when they fail the relay takes over while rounds go on.

Rounds come in a burst after news (a new address, a lost path), then every five seconds while somebody cares: data flows, or
a user waits for a ping. A firewall may open at any time.

It never seals a packet: what is to be sent comes out of ``poll_wish``.
"""

from collections import deque
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from coderd.magicsock.best_path import DOUBT_INTERVAL, BestPath
from coderd.magicsock.candidate import Candidate, may_be_candidate
from coderd.magicsock.candidates import Candidates
from coderd.magicsock.events import CandidateStatus
from coderd.magicsock.path import PathQuality
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.pings import (
    PING_SIZE,
    HeardPings,
    PathMtuBlackHole,
    Pings,
    Purpose,
    SendPing,
    SentPing,
)
from coderd.magicsock.rounds import ROUND_INTERVAL, Rounds
from coderd.model import RandomBytes
from coderd.model.addresses import AddrPort, Scope, address_scope, is_ipv6
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic
from coderd.model.paths import PathKind, Pin
from coderd.model.timers import TimerTable
from coderd.model.transport import MAIN_SOCKET, SocketId

ACTIVE_TIMEOUT = 45.0
"""Seconds after the last send for which a path is kept alive and looked for."""
HEARTBEAT_INTERVAL = 3.0
FEW_DATAGRAMS = 4
"""A batch no longer than this also goes over a best path that is no longer trusted; more is the relay's alone."""

_PING_GAP = 0.1
"""Least seconds between two discovery pings to one address."""
_PING_BACK_GAP = 1.0
"""The same for pings that only answer the peer's."""
_OPEN_GAP = 0.05
"""Least seconds between two pings to an address that has not answered, but from which the peer has pinged."""
_OPEN_FOR = 1.0
"""Seconds after a ping came from an address for which ours is likely to get there."""
_OPEN_RETRY = 0.1
"""Seconds for such an address to answer before it is asked once more."""
_CALL_ME_MAYBE_GAP = 0.1
"""Rounds that a peer's call-me-maybes start are at least this far apart, seconds."""

_NEVER = float("-inf")


class Timer(IntEnum):
    """Everything that an endpoint does by the clock."""

    HEARTBEAT = 0
    """Every 3 s while active: pings the best path."""
    ROUND = 1
    """Burst, then every 5 s while relayed and active, every 60 s while direct but far."""
    OPEN = 2
    """0.1 s after a ping came from an address that has not answered, until it does, or for a second."""
    PING_TIMEOUT = 3
    """5 s after the oldest ping in flight."""
    TRUST = 4
    """6.5 s after the best path's last pong."""
    DOUBT = 5
    """Every 0.15 s from a silence under load until a pong or the end of trust."""


class SendCallMeMaybe(NamedTuple):
    """Wish to tell the peer by relay where this node may be reached."""


Wish: TypeAlias = SendPing | SendCallMeMaybe
"""What an endpoint wants sealed and sent."""


class PingAnswered(NamedTuple):
    """Answer to a user's ping: over the address ``by``, or through the relay of the region ``by``, after ``latency`` s."""

    token: int
    by: AddrPort | int
    latency: float


class Route(NamedTuple):
    """Ways that one batch takes: directly, by relay, both, or (neither) none."""

    udp: AddrPort | None
    by_relay: bool
    socket: SocketId = MAIN_SOCKET
    """Local socket that sends what goes directly."""


class Endpoint:
    """One peer's candidates, pings in flight, best path and timers.

    Args:
        key: the peer.
        rng: for transaction ids.
        probe_size: UDP payload in bytes that a path must carry to be chosen.
        budget: says when addresses may be pinged that have not answered; all peers' in common.
    """

    def __init__(self, key: NodePublic, *, rng: RandomBytes, probe_size: int, budget: PingBudget) -> None:
        self.key = key
        self.pin = Pin.ANY
        self.home_region = 0
        self.heard_region = 0
        """Where a relay last delivered something of the peer's; 0 for nowhere, or no longer."""
        self.relay_latency: float | None = None
        self._allows_direct = True
        self._rng = rng
        self._probe_size = max(probe_size, PING_SIZE)
        self._budget = budget
        self._candidates = Candidates()
        self._heard = HeardPings()
        self._pings = Pings()
        self._best = BestPath()
        self._black_hole = PathMtuBlackHole()
        self._active_at = _NEVER
        self._active_since = _NEVER
        self._relay_pinged_at = _NEVER
        self._called_at = _NEVER
        self._heard_elsewhere: AddrPort | None = None
        """Where WireGuard heard the peer last that is not the best path."""
        self._rounds = Rounds()
        self._timers = TimerTable(Timer)
        self._wishes: deque[Wish] = deque()
        self._answers: deque[PingAnswered] = deque()

    # Commands

    def update(
        self, endpoints: Iterable[AddrPort], home_region: int, *, allows_direct: bool, now: float
    ) -> None:
        """The server says where the peer may be. News starts a burst of rounds at once."""
        is_news = home_region != self.home_region or allows_direct != self._allows_direct
        self.home_region = home_region
        self._allows_direct = allows_direct
        is_news |= self._candidates.name_in_netmap(endpoints if allows_direct else ())
        if not allows_direct:
            self._forget_direct()
        if is_news:
            self._active_at = now
            if not self._timers.is_armed(Timer.HEARTBEAT):
                self._active_since = now
            self._timers.arm(Timer.HEARTBEAT, now + HEARTBEAT_INTERVAL)
            self.discover(now)

    def restart(self) -> None:
        """The peer is a new process: what the old one said and proved is void. ``update`` follows."""
        self._forget_direct()
        self._heard.forget()
        self.heard_region = 0
        self.relay_latency = None
        self.home_region = 0

    def route(self, n_datagrams: int, now: float) -> Route:
        """Chooses the way of one batch, and notes that the peer is being talked to."""
        self._active_at = now
        if not self._timers.is_armed(Timer.HEARTBEAT):
            self._wake(now)
        best, has_relay = self._best, self.has_relay
        if self.pin is Pin.RELAY or best.quality is None:
            return Route(None, has_relay and self.pin is not Pin.DIRECT)
        addr, socket = best.quality.addr, best.quality.socket
        if best.is_trusted(now):
            self._doubt_if_silent(now)
            is_helped = best.is_suspect(now) and has_relay and self.pin is Pin.ANY
            return Route(addr, is_helped, socket)
        if self.pin is Pin.DIRECT or not has_relay:
            return Route(addr, False, socket)
        return Route(addr if n_datagrams <= FEW_DATAGRAMS else None, True, socket)

    def ping(self, token: int, now: float) -> None:
        """A user's ping: by the path that traffic takes; by every hopeful one while that is unclear."""
        self._active_at = now
        if not self._timers.is_armed(Timer.HEARTBEAT):
            self._wake(now)
        is_trusted = self._best.is_trusted(now)
        if self.pin is not Pin.RELAY:
            self._ping_direct(token, now)
        if self.pin is Pin.RELAY or (self.pin is Pin.ANY and not is_trusted):
            self._ping_relay(now, token)
        if not is_trusted and self._rounds.may_hurry(now):
            self._round(now)

    def discover(self, now: float) -> None:
        """A round now and, until a path is found, a burst of further ones."""
        self._rounds.begin_burst()
        self._round(now)
        self._schedule_round(now)

    def probe(self, addr: AddrPort, socket: SocketId, now: float) -> None:
        """Pings an address by a spare socket, which the budget has admitted."""
        self._send_ping(addr, Purpose.DISCOVERY, now, socket=socket)

    def take_turn(self, addr: AddrPort, now: float) -> None:
        """The turn of an address that waited has come."""
        candidate = self._candidates.get(addr)
        if candidate is not None and self._allows_direct and not candidate.has_answered(now):
            self._send_ping(addr, Purpose.DISCOVERY, now)

    def forget_socket(self, socket: SocketId, now: float) -> None:
        """Forgets a spare socket that was closed, and the pings that left by it: a late pong must not make it a path.

        If the best path went by it, there is none now.
        """
        self._candidates.forget_socket(socket)
        self._pings.forget_socket(socket)
        if self._best.quality is not None and self._best.quality.socket == socket:
            self._best.clear()
            self._rearm()
            if self.is_active(now):
                self.discover(now)

    def forget_ping(self, tx_id: bytes) -> None:
        """A ping could not be sent."""
        self._pings.pop(tx_id)
        self._rearm()

    # What happened

    def handle_ping(self, addr: AddrPort, tx_id: bytes, now: float, socket: SocketId = MAIN_SOCKET) -> bool:
        """The peer pinged from an address, one of our sockets. Returns whether it deserves a pong: a copy does not.

        The socket that it came to is the one that reaches the address, unless another does already.
        """
        if not self._allows_direct or not self._heard.is_new(tx_id):
            return False
        if not self.has_answered(addr, now) and not self._budget.take_pong(self.key, now):
            return False
        if not may_be_candidate(addr):
            return True
        is_new = addr not in self._candidates
        candidate = self._candidates.add(addr)
        candidate.ping_heard_at = now
        if socket != candidate.socket and not self._is_trusted_at(addr, now):
            candidate.socket = socket
            candidate.pinged_at = None
        gap = _PING_BACK_GAP if candidate.has_answered(now) else _OPEN_GAP
        if is_new or (not self._best.is_trusted(now) and _is_older(candidate.pinged_at, gap, now)):
            self._ping(addr, Purpose.DISCOVERY, now, is_new_flow=True)
        if not candidate.has_answered(now) and not self._timers.is_armed(Timer.OPEN):
            self._timers.arm(Timer.OPEN, now + _OPEN_RETRY)
        return True

    def handle_pong(self, tx_id: bytes, source: AddrPort | int, now: float) -> bool:
        """A pong came from an address, or through a region's relay. Returns whether it answered a ping sent that way."""
        ping = self._pings.get(tx_id)
        if ping is None or (ping.to is None) != isinstance(source, int):
            return False
        self._pings.pop(tx_id)
        self._black_hole.handle_pong(ping, now)
        latency = max(now - ping.at, 0.0)
        if ping.to is None:
            self.relay_latency = latency
        elif (candidate := self._candidates.get(ping.to)) is not None:
            is_first = not candidate.has_answered(now)
            candidate.latencies.append(latency)
            candidate.answered_at = now
            self._budget.handle_answer(ping.to, now)
            self._offer(ping, latency, now)
            self._ask_for_size(ping, now, is_first=is_first)
            if self._best.quality is not None and self._best.addr == candidate.addr:
                candidate.socket = self._best.quality.socket
        if ping.token is not None:
            self._pings.forget_token(ping.token)
            self._answers.append(PingAnswered(ping.token, source if ping.to is None else ping.to, latency))
        self._rearm()
        return True

    def handle_call_me_maybe(self, endpoints: Iterable[AddrPort], now: float) -> bool:
        """The peer says where it is and that it has just pinged us: ping it everywhere. Returns whether that is done."""
        if not self._allows_direct or not self._budget.take_call(self.key, now):
            return False
        self._candidates.name_in_call(endpoints, now)
        is_due = now - self._called_at >= _CALL_ME_MAYBE_GAP
        if is_due:
            self._called_at = now
            self._candidates.forget_pings(now)
        self._ping_candidates(now)
        return is_due

    def handle_heard(self, addr: AddrPort, now: float) -> None:
        """WireGuard vouches that the peer sent from an address. A new one is worth a ping: the peer may have moved."""
        self._best.handle_heard(addr, now)
        if addr != self._best.addr:
            self._heard_elsewhere = addr
            self._doubt_if_deserted(now)
        if addr not in self._candidates and self._allows_direct and may_be_candidate(addr):
            self._candidates.add(addr).ping_heard_at = now
            self._ping(addr, Purpose.DISCOVERY, now)

    def handle_heard_relayed(self, now: float) -> None:
        """The same for what came through a relay: the peer does without our best path."""
        self._doubt_if_deserted(now)

    def handle_send_failed(self, addr: AddrPort, now: float) -> None:
        """The kernel would not send there: a path that is refused at home need not be waited for."""
        candidate = self._candidates.get(addr)
        if candidate is not None:
            candidate.latencies.clear()
            candidate.socket = MAIN_SOCKET
        if addr == self._best.addr:
            was_trusted = self._best.is_trusted(now)
            self._best.clear()
            self._rearm()
            if was_trusted and self.is_active(now):
                self.discover(now)

    def handle_rebound(self, now: float) -> None:
        """The network changed under this node: all that was measured is void. Look again for those in use."""
        self._best.clear()
        self._black_hole.forget()
        self._pings.clear()
        self.relay_latency = None
        self._candidates.forget_probes()
        self._rearm()
        if self.is_active(now):
            self.discover(now)

    def handle_timeout(self, now: float) -> None:
        """Does what is due."""
        while (timer := self._timers.pop_due(now)) is not None:
            self._fire(timer, now)

    # What to do next

    def poll_wish(self) -> Wish | None:
        """The next thing to seal and send."""
        return self._wishes.popleft() if self._wishes else None

    def poll_answer(self) -> PingAnswered | None:
        """The next answer to a user's ping."""
        return self._answers.popleft() if self._answers else None

    def next_at(self) -> float:
        """Returns when ``handle_timeout`` is due; infinity for never."""
        return self._timers.next_at()

    def poll_timeout(self) -> Deadline | None:
        """Returns when ``handle_timeout`` is due, and for which timer; None for never."""
        return self._timers.poll_timeout()

    def clear_news(self) -> None:
        """Takes note that all was polled, ``next_at`` too."""
        self._timers.is_changed = False

    @property
    def has_news(self) -> bool:
        """Whether there is anything to poll that was not there at the last ``clear_news``."""
        return self._timers.is_changed or bool(self._wishes) or bool(self._answers)

    # Looking

    @property
    def allows_direct(self) -> bool:
        """Whether the server permits direct paths to this peer."""
        return self._allows_direct

    @property
    def has_relay(self) -> bool:
        """Whether any relay is known at which the peer may be."""
        return bool(self.home_region or self.heard_region)

    @property
    def kind(self) -> PathKind:
        """How traffic goes, as of the last command or event."""
        if self.pin is not Pin.RELAY and self._timers.is_armed(Timer.TRUST):
            return PathKind.DIRECT
        return PathKind.RELAY if self.has_relay and self.pin is not Pin.DIRECT else PathKind.NONE

    @property
    def best(self) -> PathQuality | None:
        """The best direct path, trusted or not."""
        return self._best.quality

    def has_mtu_black_hole(self, now: float) -> bool:
        """Returns whether the peer answers small pings directly, and none of the tunnel's size."""
        return self._best.quality is None and self._black_hole.is_seen(now)

    def is_active(self, now: float) -> bool:
        """Whether somebody cared about this peer lately."""
        return now - self._active_at <= ACTIVE_TIMEOUT

    def active_since(self, now: float) -> float | None:
        """When somebody began to care; None where nobody does."""
        return self._active_since if self.is_active(now) else None

    def uses(self, socket: SocketId, now: float) -> bool:
        """Whether the path in use goes by a spare socket."""
        quality = self._best.quality
        return quality is not None and quality.socket == socket and self._best.is_trusted(now)

    def has_answered(self, addr: AddrPort, now: float) -> bool:
        """Whether the peer has answered a ping from an address of late."""
        candidate = self._candidates.get(addr)
        return candidate is not None and candidate.has_answered(now)

    def is_at(self, addr: AddrPort) -> bool:
        """Whether the peer may be at an address."""
        return addr in self._candidates

    def targets(self) -> list[AddrPort]:
        """The IPv4 addresses that the server or the peer names, those that are good anywhere first, else in their order."""
        named = (c for c in self._candidates if c.in_netmap or c.call_me_maybe_at is not None)
        v4 = [c.addr for c in named if not is_ipv6(c.addr)]
        return [addr for addr in v4 if address_scope(addr[0]) is Scope.PUBLIC] or v4

    def addresses(self) -> list[AddrPort]:
        """Returns all addresses at which the peer may be."""
        return [candidate.addr for candidate in self._candidates]

    def candidates(self) -> tuple[CandidateStatus, ...]:
        """All addresses at which the peer may be."""
        return self._candidates.status()

    # Timers

    def _fire(self, timer: Timer, now: float) -> None:
        match timer:
            case Timer.HEARTBEAT:
                self._heartbeat(now)
            case Timer.ROUND:
                self._round(now)
                self._schedule_round(now)
            case Timer.OPEN:
                self._retry_open(now)
            case Timer.PING_TIMEOUT:
                self._expire_pings(now)
            case Timer.TRUST:
                self._end_trust(now)
            case Timer.DOUBT:
                self._doubt(now)

    def _heartbeat(self, now: float) -> None:
        if not self.is_active(now):
            return
        if self._best.addr is not None:
            self._ping(self._best.addr, Purpose.HEARTBEAT, now)
        self._timers.arm(Timer.HEARTBEAT, now + HEARTBEAT_INTERVAL)
        if not self._best.is_trusted(now) and not self._timers.is_armed(Timer.ROUND):
            self.discover(now)

    def _expire_pings(self, now: float) -> None:
        expired = self._pings.pop_expired(now)
        is_best_silent = any(ping.to is not None and ping.to == self._best.addr for ping in expired)
        if is_best_silent and not self._best.is_trusted(now):
            self._best.clear()
        if self._allows_direct and self._best.quality is None and self.is_active(now):
            for addr in self._black_hole.choose(expired, now):
                if addr in self._candidates:
                    self._ping(addr, Purpose.EVIDENCE, now)
        self._rearm()

    def _end_trust(self, now: float) -> None:
        self._best.end_trust()
        self._rearm()
        if self.is_active(now):
            self.discover(now)

    def _doubt_if_silent(self, now: float) -> None:
        if self._best.should_doubt(now):
            self._best.begin_doubt(now)
            self._doubt(now)

    def _doubt_if_deserted(self, now: float) -> None:
        if self._best.is_deserted(now):
            self._best.begin_doubt(now)
            self._doubt(now)

    def _doubt(self, now: float) -> None:
        if self._best.is_lost(now):
            self._end_trust(now)
        elif self._best.addr is not None:
            self._ping(self._best.addr, Purpose.HEARTBEAT, now)
            if self._heard_elsewhere in self._candidates and self._heard_elsewhere != self._best.addr:
                self._ping(self._heard_elsewhere, Purpose.DISCOVERY, now)
            self._timers.arm(Timer.DOUBT, now + DOUBT_INTERVAL)

    def _wake(self, now: float) -> None:
        """Somebody begins to care: keep the best path, or look for one."""
        self._active_since = now
        self._timers.arm(Timer.HEARTBEAT, now + HEARTBEAT_INTERVAL)
        if not self._best.is_trusted(now):
            self.discover(now)

    def _schedule_round(self, now: float) -> None:
        delay = self._rounds.next_delay(self._best, now, is_active=self.is_active(now))
        self._timers.set(Timer.ROUND, now + delay if delay is not None else None)

    def _rearm(self) -> None:
        """Sets the timers that follow from the best path and the pings in flight."""
        self._timers.set(Timer.PING_TIMEOUT, self._pings.expires_at())
        self._timers.set(Timer.TRUST, self._best.trust_until)
        if not self._best.is_in_doubt:
            self._timers.disarm(Timer.DOUBT)

    # Rounds and pings

    def _round(self, now: float) -> None:
        self._rounds.note(now)
        if self._allows_direct:
            self._ping_candidates(now)
            if self.has_relay:
                self._wishes.append(SendCallMeMaybe())
        if now - self._relay_pinged_at >= ROUND_INTERVAL:
            self._ping_relay(now)

    def _ping_candidates(self, now: float) -> None:
        self._candidates.delete_unvouched(now)
        if self._best.addr is not None and self._best.addr not in self._candidates:
            self._best.clear()
            self._rearm()
        for candidate in sorted(self._candidates, key=lambda candidate: not _is_open(candidate, now)):
            is_open = _is_open(candidate, now)
            if _is_older(candidate.pinged_at, _OPEN_GAP if is_open else _PING_GAP, now):
                self._ping(candidate.addr, Purpose.DISCOVERY, now, is_new_flow=is_open)

    def _retry_open(self, now: float) -> None:
        """Both firewalls are open, and yet there is no answer: a datagram was lost."""
        if self._best.is_trusted(now):
            return
        for candidate in self._candidates:
            if _is_open(candidate, now) and not candidate.has_answered(now):
                self._timers.arm(Timer.OPEN, now + _OPEN_RETRY)
                if _is_older(candidate.pinged_at, _OPEN_GAP, now):
                    self._ping(candidate.addr, Purpose.DISCOVERY, now, is_new_flow=True)

    def _ping_direct(self, token: int, now: float) -> None:
        if self._best.addr is not None:
            self._ping(self._best.addr, Purpose.USER, now, token)
            self._doubt_if_silent(now)
        elif self.pin is Pin.DIRECT:
            for candidate in self._candidates:
                self._ping(candidate.addr, Purpose.USER, now, token)

    def _ping_relay(self, now: float, token: int | None = None) -> None:
        if self.has_relay:
            self._relay_pinged_at = now
            self._ping(None, Purpose.DISCOVERY if token is None else Purpose.USER, now, token)

    def _ping(
        self,
        to: AddrPort | None,
        purpose: Purpose,
        now: float,
        token: int | None = None,
        *,
        is_new_flow: bool = False,
    ) -> None:
        """Pings at once where the peer has answered, and by relay; anywhere else when there is room."""
        if (
            to is None
            or self.has_answered(to, now)
            or self._budget.ask(self.key, to, now, is_new_flow=is_new_flow)
        ):
            self._send_ping(to, purpose, now, token)

    def _send_ping(
        self,
        to: AddrPort | None,
        purpose: Purpose,
        now: float,
        token: int | None = None,
        socket: SocketId | None = None,
    ) -> None:
        """Full size where the answer may choose a path and the peer has answered before; else small."""
        is_best = to == self._best.addr
        is_small = (
            to is None
            or purpose in (Purpose.EVIDENCE, Purpose.HEARTBEAT)
            or (is_best and purpose is not Purpose.DISCOVERY)
            or not self.has_answered(to, now)
        )
        size = PING_SIZE if is_small else self._probe_size
        if to is not None and (candidate := self._candidates.get(to)) is not None:
            candidate.pinged_at = now
            socket = candidate.socket if socket is None else socket
        tx_id = self._rng(12)
        self._pings.add(SentPing(tx_id, to, now, purpose, size, token, socket or MAIN_SOCKET))
        self._wishes.append(SendPing(tx_id, to, size - PING_SIZE, socket or MAIN_SOCKET))
        self._rearm()

    def _ask_for_size(self, ping: SentPing, now: float, *, is_first: bool) -> None:
        """Somebody is there: does the way carry the tunnel? A first answer is news, so that one lost ping costs little."""
        if ping.purpose is not Purpose.DISCOVERY or not ping.is_small or ping.to == self._best.addr:
            return
        self._send_ping(ping.to, Purpose.DISCOVERY, now, socket=ping.socket)
        if is_first and not self._best.is_trusted(now):
            self._rounds.begin_burst()
            self._schedule_round(now)

    def _offer(self, ping: SentPing, latency: float, now: float) -> None:
        """A pong over UDP: a small one renews the best path only, since it proves nothing about size."""
        assert ping.to is not None
        if ping.udp_payload < self._probe_size and ping.to != self._best.addr:
            return
        was_trusted = self._best.is_trusted(now)
        path = PathQuality(ping.to, latency, ping.udp_payload, socket=ping.socket)
        self._best.handle_pong(path, now)
        if not was_trusted:
            self._schedule_round(now)

    def _is_trusted_at(self, addr: AddrPort, now: float) -> bool:
        return self._best.addr == addr and self._best.is_trusted(now)

    def _forget_direct(self) -> None:
        """Nothing is left but what the server names anew."""
        self._best.clear()
        self._pings.clear()
        self._candidates.keep_netmap_only()
        self._rearm()


def _is_open(candidate: Candidate, now: float) -> bool:
    """Whether the peer has just pinged from there: its firewall has let it out, and ours has let it in."""
    return not _is_older(candidate.ping_heard_at, _OPEN_FOR, now)


def _is_older(at: float | None, seconds: float, now: float) -> bool:
    return at is None or now - at >= seconds
