"""One peer: where it may be, which path is the best, when to look for a better one.

The relay carries traffic from the first moment. Meanwhile rounds of discovery ping every address at which the
peer may be, and ask it by relay to do the same (call-me-maybe), so that both firewalls open. The first pong
at the tunnel's full size makes its address the best path, trusted for a while; from then on traffic goes
directly, heartbeats renew trust, and when they fail the relay takes over while rounds go on. ``path_state``
has the states of all this.

Rounds come in a burst after news (a new address, a lost path), then every five seconds while the peer is
active: data flows, or a user waits for a ping. A firewall may open at any time.

An endpoint never seals a packet: what is to be sent comes out of ``poll_wish``.
"""

from collections.abc import Iterable
from typing import NamedTuple

from coderd.magicsock.best_path import DOUBT_INTERVAL, BestPath
from coderd.magicsock.path import PathQuality
from coderd.magicsock.path_timers import PathTimers, Timer
from coderd.magicsock.peer_relay import PeerRelay
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.pings import PingAnswered, Purpose, SentPing, Wish
from coderd.magicsock.prober import Answer, Prober
from coderd.magicsock.rounds import Rounds
from coderd.model import RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic
from coderd.model.paths import PathKind, Pin
from coderd.model.transport import MAIN_SOCKET, SocketId

HEARTBEAT_INTERVAL = 3.0
"""Seconds between pings of the best path while the peer is active (Tailscale's ``heartbeatInterval``)."""
FEW_DATAGRAMS = 4
"""Most datagrams of a batch that also goes by an untrusted best path; larger ones go by relay alone."""

_OPEN_RETRY = 0.1
"""Seconds for an address that the peer has pinged from to answer before it is asked once more."""
_CALL_ME_MAYBE_GAP = 0.1
"""Least seconds between two rounds that a peer's call-me-maybes start."""

_NEVER = float("-inf")


class Route(NamedTuple):
    """Ways that one batch takes: directly, by relay, both, or (neither) none."""

    udp: AddrPort | None
    by_relay: bool
    socket: SocketId = MAIN_SOCKET
    """Local socket that sends what goes directly."""


class Endpoint:
    """One peer's best path, and the timers that find and keep it.

    Args:
        key: the peer.
        rng: for transaction ids.
        probe_size: UDP payload in bytes that a path must carry to be chosen.
        budget: limits pings to addresses that have not answered; shared by all peers.
    """

    def __init__(self, key: NodePublic, *, rng: RandomBytes, probe_size: int, budget: PingBudget) -> None:
        self.key = key
        self.prober = Prober(key, rng=rng, probe_size=probe_size, budget=budget)
        """What is known of the addresses at which the peer may be."""
        self.pin = Pin.ANY
        self.relay = PeerRelay()
        """The relays at which the peer may be."""
        self._allows_direct = True
        self._budget = budget
        self._best = BestPath()
        self._active_since = _NEVER
        self._called_at = _NEVER
        self._heard_elsewhere: AddrPort | None = None
        """Last address, other than the best path's, from which WireGuard heard the peer."""
        self._rounds = Rounds(self.prober, self.relay)
        self._timers = PathTimers()

    # Commands

    def update(
        self, endpoints: Iterable[AddrPort], home_region: int, *, allows_direct: bool, now: float
    ) -> None:
        """Takes what the server says of the peer. News starts a burst of rounds at once."""
        is_news = self.relay.set_home(home_region)
        is_news |= allows_direct != self._allows_direct
        self._allows_direct = allows_direct
        is_news |= self.prober.candidates.name_in_netmap(endpoints if allows_direct else ())
        if not allows_direct:
            self._forget_direct()
        if is_news:
            self._best.note_wanted(now)
            if not self._timers.is_armed(Timer.HEARTBEAT):
                self._active_since = now
            self._timers.arm(Timer.HEARTBEAT, now + HEARTBEAT_INTERVAL)
            self.discover(now)

    def restart(self) -> None:
        """Forgets what an earlier process of the peer said and proved. ``update`` follows."""
        self._forget_direct()
        self.prober.forget_heard()
        self.relay.restart()

    def route(self, n_datagrams: int, now: float) -> Route:
        """Chooses the way of one batch, and notes that the peer is active."""
        best, has_relay = self._best, self.relay.is_known
        best.note_wanted(now)
        if not self._timers.is_armed(Timer.HEARTBEAT):
            self._wake(now)
        if self.pin is Pin.RELAY or best.quality is None:
            return Route(None, has_relay and self.pin is not Pin.DIRECT)
        addr, socket = best.quality.addr, best.quality.socket
        if best.is_trusted(now):
            if best.doubt_if_silent(now):
                self._doubt(now)
            return Route(addr, best.is_suspect(now) and has_relay and self.pin is Pin.ANY, socket)
        if self.pin is Pin.DIRECT or not has_relay:
            return Route(addr, False, socket)
        return Route(addr if n_datagrams <= FEW_DATAGRAMS else None, True, socket)

    def ping(self, token: int, now: float) -> None:
        """Sends a user's ping by the direct path, unless pinned to the relay; by relay if none is trusted."""
        self._best.note_wanted(now)
        if not self._timers.is_armed(Timer.HEARTBEAT):
            self._wake(now)
        is_trusted = self._best.is_trusted(now)
        if self.pin is not Pin.RELAY:
            self._ping_direct(token, now)
        if self.pin is Pin.RELAY or (self.pin is Pin.ANY and not is_trusted):
            self._rounds.ping_relay(now, token)
        if not is_trusted and self._rounds.may_hurry(now):
            self._round(now)
        self._rearm()

    def discover(self, now: float) -> None:
        """Starts a round now and, until a path is found, a burst of further ones."""
        self._rounds.begin_burst()
        self._round(now)
        self._schedule_round(now)

    def probe(self, addr: AddrPort, socket: SocketId, now: float) -> None:
        """Pings an address by a spare socket; the budget has admitted it."""
        self.prober.send(addr, Purpose.DISCOVERY, now, socket=socket)
        self._rearm()

    def take_turn(self, addr: AddrPort, now: float) -> None:
        """Pings an address that waited for the budget, and whose turn has come."""
        if addr in self.prober.candidates and self._allows_direct and not self.prober.has_answered(addr, now):
            self.prober.send(addr, Purpose.DISCOVERY, now)
            self._rearm()

    def forget_socket(self, socket: SocketId, now: float) -> None:
        """Forgets a spare socket that was closed. If the best path went by it, there is none now."""
        self.prober.forget_socket(socket)
        if self._best.quality is not None and self._best.quality.socket == socket:
            self._withdraw(now)

    def forget_ping(self, tx_id: bytes) -> None:
        """Forgets a ping that could not be sent."""
        self.prober.forget_ping(tx_id)
        self._rearm()

    # What happened

    def handle_ping(self, addr: AddrPort, tx_id: bytes, now: float, socket: SocketId = MAIN_SOCKET) -> bool:
        """Takes a ping of the peer's from an address to a local socket.

        Returns whether it deserves a pong.
        """
        trusted = self._best.addr if self._best.is_trusted(now) else None
        if not self._allows_direct or not self.prober.handle_ping(addr, tx_id, socket, now, trusted=trusted):
            return False
        candidate = self.prober.candidates.get(addr)
        is_silent = candidate is not None and not candidate.has_answered(now)
        if is_silent and not self._timers.is_armed(Timer.OPEN):
            self._timers.arm(Timer.OPEN, now + _OPEN_RETRY)
        self._rearm()
        return True

    def handle_pong(self, tx_id: bytes, source: AddrPort | int, now: float) -> bool:
        """Takes a pong from an address, or through a region's relay.

        Returns whether it answered a ping sent there.
        """
        answer = self.prober.handle_pong(tx_id, source, now)
        if answer is None:
            return False
        ping, latency = answer.ping, answer.latency
        if ping.to is None:
            self.relay.latency = latency
        elif answer.candidate is not None:
            self._offer(ping, latency, now)
            self._ask_for_size(answer, now)
            if self._best.quality is not None and self._best.addr == ping.to:
                answer.candidate.socket = self._best.quality.socket
        self._rearm()
        return True

    def handle_call_me_maybe(self, endpoints: Iterable[AddrPort], now: float) -> bool:
        """Takes where the peer says it is, and pings it there, as it has just pinged us.

        Returns whether that was due.
        """
        if not self._allows_direct or not self._budget.take_call(self.key, now):
            return False
        self.prober.candidates.name_in_call(endpoints, now)
        is_due = now - self._called_at >= _CALL_ME_MAYBE_GAP
        if is_due:
            self._called_at = now
            self.prober.candidates.forget_pings(now)
        self._delete_unvouched(now)
        self.prober.ping_all(now)
        self._rearm()
        return is_due

    def handle_heard(self, addr: AddrPort, now: float) -> None:
        """Notes authenticated data from an address. A new one is pinged: the peer may have moved."""
        self._best.handle_heard(addr, now)
        if addr != self._best.addr:
            self._heard_elsewhere = addr
            self.handle_heard_elsewhere(now)
        if self._allows_direct and addr not in self.prober.candidates:
            self.prober.handle_heard(addr, now)
            self._rearm()

    def handle_heard_elsewhere(self, now: float) -> None:
        """Notes authenticated data by another path than the best; doubts a silent best path."""
        if self._best.doubt_if_deserted(now):
            self._doubt(now)

    def handle_send_failed(self, addr: AddrPort, now: float) -> None:
        """Gives up a path to an address to which the kernel refuses to send: no ping need expire first."""
        candidate = self.prober.candidates.get(addr)
        if candidate is not None:
            candidate.socket = MAIN_SOCKET
        if addr == self._best.addr:
            was_trusted = self._best.is_trusted(now)
            self._best.clear()
            self._rearm()
            if was_trusted and self.is_active(now):
                self.discover(now)

    def handle_rebound(self, now: float) -> None:
        """Forgets all measurements, as the network has changed; probes again if the peer is active."""
        self.prober.handle_rebound()
        self.relay.latency = None
        self._withdraw(now)

    def handle_timeout(self, now: float) -> None:
        """Does what is due by ``now``."""
        while (timer := self._timers.pop_due(now)) is not None:
            self._fire(timer, now)

    # What to do next

    def poll_wish(self) -> Wish | None:
        """Returns the next thing to seal and send, or None."""
        return self.prober.poll_wish()

    def poll_answer(self) -> PingAnswered | None:
        """Returns the next answer to a user's ping, or None."""
        return self.prober.poll_answer()

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
        """Returns whether there is anything to poll that was not there at the last ``clear_news``."""
        return self._timers.is_changed or self.prober.has_output

    # Looking

    @property
    def allows_direct(self) -> bool:
        """Returns whether the server permits direct paths to this peer."""
        return self._allows_direct

    @property
    def kind(self) -> PathKind:
        """Returns how traffic goes, as of the last command or event."""
        if self.pin is not Pin.RELAY and self._best.was_trusted:
            return PathKind.DIRECT
        return PathKind.RELAY if self.relay.is_known and self.pin is not Pin.DIRECT else PathKind.NONE

    @property
    def best(self) -> PathQuality | None:
        """Returns the best direct path, trusted or not."""
        return self._best.quality

    def has_mtu_black_hole(self, now: float) -> bool:
        """Returns whether the peer answers small pings directly, and none of the tunnel's size."""
        return self._best.quality is None and self.prober.black_hole.is_seen(now)

    def is_active(self, now: float) -> bool:
        """Returns whether data or a user's ping was sent to the peer within ``ACTIVE_TIMEOUT``."""
        return self._best.is_active(now)

    def active_since(self, now: float) -> float | None:
        """Returns when the peer became active; None if it is not."""
        return self._active_since if self.is_active(now) else None

    def uses(self, socket: SocketId, now: float) -> bool:
        """Returns whether the path in use goes by a spare socket."""
        quality = self._best.quality
        return quality is not None and quality.socket == socket and self._best.is_trusted(now)

    def is_at(self, addr: AddrPort) -> bool:
        """Returns whether the peer may be at an address."""
        return addr in self.prober.candidates

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

    def _retry_open(self, now: float) -> None:
        if not self._best.is_trusted(now) and self.prober.retry_open(now):
            self._timers.arm(Timer.OPEN, now + _OPEN_RETRY)
            self._rearm()

    def _expire_pings(self, now: float) -> None:
        expired = self.prober.pop_expired(now)
        is_best_silent = any(ping.to is not None and ping.to == self._best.addr for ping in expired)
        if is_best_silent and not self._best.is_trusted(now):
            self._best.clear()
        if self._allows_direct and self._best.quality is None and self.is_active(now):
            self.prober.seek_black_hole(expired, now)
        self._rearm()

    def _end_trust(self, now: float) -> None:
        self._best.end_trust(now)
        self._rearm()
        if self.is_active(now):
            self.discover(now)

    def _doubt(self, now: float) -> None:
        if self._best.is_lost(now):
            self._end_trust(now)
        elif self._best.addr is not None:
            self._ping(self._best.addr, Purpose.HEARTBEAT, now)
            elsewhere = self._heard_elsewhere
            if elsewhere is not None and elsewhere != self._best.addr and self.is_at(elsewhere):
                self._ping(elsewhere, Purpose.DISCOVERY, now)
            self._timers.arm(Timer.DOUBT, now + DOUBT_INTERVAL)

    def _wake(self, now: float) -> None:
        """Begins to keep the best path, or to look for one: the peer has become active."""
        self._active_since = now
        self._timers.arm(Timer.HEARTBEAT, now + HEARTBEAT_INTERVAL)
        if not self._best.is_trusted(now):
            self.discover(now)

    def _schedule_round(self, now: float) -> None:
        delay = self._rounds.next_delay(self._best, now, is_active=self.is_active(now))
        self._timers.set(Timer.ROUND, now + delay if delay is not None else None)

    def _rearm(self) -> None:
        self._timers.follow(self._best, self.prober)

    # Rounds and pings

    def _round(self, now: float) -> None:
        if self._allows_direct:
            self._delete_unvouched(now)
        self._rounds.run(now, allows_direct=self._allows_direct)
        self._rearm()

    def _delete_unvouched(self, now: float) -> None:
        """Deletes candidates that nothing names any more, and the best path if it goes to one."""
        self.prober.candidates.delete_unvouched(now)
        if self._best.addr is not None and not self.is_at(self._best.addr):
            self._best.clear()

    def _ping_direct(self, token: int, now: float) -> None:
        if self._best.addr is not None:
            self._ping(self._best.addr, Purpose.HEARTBEAT, now, token)
            if self._best.doubt_if_silent(now):
                self._doubt(now)
        elif self.pin is Pin.DIRECT:
            for candidate in self.prober.candidates:
                self._ping(candidate.addr, Purpose.USER, now, token)

    def _ping(self, to: AddrPort, purpose: Purpose, now: float, token: int | None = None) -> None:
        self.prober.ping(to, purpose, now, token)
        self._rearm()

    def _ask_for_size(self, answer: Answer, now: float) -> None:
        """Finds out whether the path carries the tunnel.

        A first answer is news, so that one lost ping costs little.
        """
        if answer.ping.to == self._best.addr or not self.prober.ask_for_size(answer, now):
            return
        if answer.is_first and not self._best.is_trusted(now):
            self._rounds.begin_burst()
            self._schedule_round(now)

    def _offer(self, ping: SentPing, latency: float, now: float) -> None:
        """Offers a pong over UDP to the best path. A small one only renews it, as it proves no MTU."""
        assert ping.to is not None
        if not self.prober.proves_size(ping) and ping.to != self._best.addr:
            return
        was_trusted = self._best.is_trusted(now)
        path = PathQuality(ping.to, latency, ping.udp_payload, socket=ping.socket)
        self._best.handle_pong(path, now)
        if not was_trusted:
            self._schedule_round(now)

    def _withdraw(self, now: float) -> None:
        """Gives up the best path, and looks for another if the peer is active."""
        self._best.clear()
        self._rearm()
        if self.is_active(now):
            self.discover(now)

    def _forget_direct(self) -> None:
        """Leaves nothing but what the server names."""
        self._best.clear()
        self.prober.forget_unnamed()
        self._rearm()
