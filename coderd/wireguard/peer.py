"""One WireGuard peer: its handshake, its sessions, its timers, the packets that wait for a session.

What a peer may do when is written as *hooks* (``_on_sent`` and its kin: which timers an event moves) and *events*
(what arrived, what was sent, what expired), after the protocol's own table: §6 of J. Donenfeld, "WireGuard: Next
Generation Kernel Network Tunnel", which the sections (§) below are of. A peer queues datagrams in ``outbox`` and
events in ``Local.events``; its device takes both away.
"""

from collections import deque
from collections.abc import Sequence
from itertools import compress, groupby
from typing import NamedTuple

from coderd.model import Buffer
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic
from coderd.model.timers import TimerTable
from coderd.wireguard.ecn import HANDSHAKE_TOS, outer_tos
from coderd.wireguard.handshake import Handshake
from coderd.wireguard.keypair import Keypair, KeypairSlots
from coderd.wireguard.local import IndexEntry, Local
from coderd.wireguard.message import INITIATION_SIZE, RESPONSE_SIZE, TRANSPORT_MIN_SIZE, CookieReply, Response
from coderd.wireguard.noise import OpenedInitiation
from coderd.wireguard.status import Authenticated, HandshakeCompleted, SessionExpired, Source, Unanswered
from coderd.wireguard.timers import (
    KEEPALIVE_TIMEOUT,
    LAST_MINUTE_REKEY,
    REKEY_ATTEMPTS,
    REKEY_TIMEOUT,
    ZERO_KEYS_AFTER,
    Timer,
    jitter,
)
from coderd.wireguard.transport import open_batch, seal_batch

MAX_STAGED = 512
"""Packets that wait for a session; the oldest goes first."""

YOUNG = 1.0
"""Seconds: a handshake that began longer ago was with the peer as it was before news of its restart."""


class Outgoing(NamedTuple):
    """Run of datagrams of one kind and one service byte, on its way to being cut into batches."""

    datagrams: list[bytes]
    tos: int
    is_handshake: bool = False


class Peer:
    """One peer. Never waits, never reads a clock.

    Args:
        key: its static public key.
        local: what it shares with the other peers of its device.
        now: seconds.
    """

    def __init__(self, key: NodePublic, local: Local, now: float) -> None:
        self.key = key
        self.outbox: list[Outgoing] = []
        """Datagrams to send, in order; the device takes them."""
        self.tx_bytes = 0
        self.rx_bytes = 0
        self.last_handshake_at: float | None = None
        self.persistent_keepalive = 0
        self._local = local
        self._handshake = Handshake(key, local, IndexEntry(key, None), now)
        self._slots = KeypairSlots()
        self._staged: deque[bytes] = deque()
        self._timers = TimerTable(Timer)
        self._attempts = 0
        self._needs_another_keepalive = False
        """Data came in while ``Timer.KEEPALIVE`` was armed: the timer is armed again when it has fired. §6.5."""
        self._has_sent_last_minute = False
        """The one initiation on receiving within ``LAST_MINUTE_REKEY`` of a session's end was sent. §6.2."""
        self._unanswered: bytes | None = None
        """Our last initiation or response, until it has led to a session."""

    # Looking

    @property
    def has_preshared_key(self) -> bool:
        """Whether a preshared key other than zeros is set."""
        return self._handshake.has_preshared_key

    @property
    def preshared_key(self) -> bytes:
        """A secret: 32 bytes, zeros for none."""
        return self._handshake.preshared_key

    @property
    def n_staged(self) -> int:
        """Packets that wait for a session."""
        return len(self._staged)

    def has_session(self, now: float) -> bool:
        """Returns whether a packet could be sealed now."""
        return self._slots.current is not None and self._slots.current.can_send(1, now)

    def next_at(self) -> float:
        """Returns when ``handle_timeout`` is due; infinity for never."""
        return self._timers.next_at()

    def poll_timeout(self) -> Deadline | None:
        """Returns when ``handle_timeout`` is due, and for which timer; None for never."""
        return self._timers.poll_timeout()

    # Commands

    def set_preshared_key(self, key: bytes) -> None:
        """Sets the preshared key of the next handshakes; sessions stay. §5.2."""
        self._handshake.set_preshared_key(key)

    def set_persistent_keepalive(self, interval: int, now: float) -> None:
        """Keeps the path open by a packet every ``interval`` seconds, at once if that is news; 0 turns it off."""
        if not 0 <= interval <= 65535:
            raise ValueError(f"a persistent keepalive is 0 to 65535 seconds, not {interval}")
        was, self.persistent_keepalive = self.persistent_keepalive, interval
        if not interval:
            self._timers.disarm(Timer.PERSISTENT_KEEPALIVE)
        elif self._local.is_up and interval != was:
            self._timers.arm(Timer.PERSISTENT_KEEPALIVE, now + interval if was else now)

    def handle_identity(self, now: float) -> None:
        """Takes note that our own key has changed: no handshake of the old one may finish, no session of it may send."""
        self._handshake.handle_identity(now)
        self._slots.retire_from_sending()
        if self._local.is_up and self.persistent_keepalive:
            self._timers.arm(Timer.PERSISTENT_KEEPALIVE, now)

    def start(self, now: float) -> None:
        """Takes note that the device is up."""
        self._attempts = 0
        self._needs_another_keepalive = self._has_sent_last_minute = False
        self._handshake.restart(now)
        if self.persistent_keepalive:
            self._timers.arm(Timer.PERSISTENT_KEEPALIVE, now)

    def stop(self) -> None:
        """The device is down or the peer removed: nothing survives but configuration and what guards from replay."""
        self._timers.clear()
        self._unanswered = None
        self._destroy(self._slots.clear())
        self._handshake.forget_pending()
        self._drop_staged("down")
        self.outbox.clear()

    def forget_sessions(self, now: float) -> None:
        """The peer has restarted and lost its sessions: so do we, but what waits for a session goes on waiting.

        A handshake not older than a second stays, and the session that came of it: it may well be with the peer as it is
        now, which was quicker than the news.
        """
        if now < self._handshake.may_begin_at - REKEY_TIMEOUT + YOUNG:
            self._destroy(self._slots.clear_older(now - YOUNG))
            return
        self._destroy(self._slots.clear())
        self._unanswered = None
        self._handshake.restart(now)
        for timer in (Timer.RETRANSMIT, Timer.KEEPALIVE, Timer.NEW_HANDSHAKE, Timer.ZERO_KEYS):
            self._timers.disarm(timer)
        self._attempts = 0
        self._needs_another_keepalive = self._has_sent_last_minute = False
        if self._staged:  # should the peer not initiate, as it is expected to
            self._timers.arm(Timer.RETRANSMIT, now + REKEY_TIMEOUT + jitter(self._local.rng))

    def initiate(
        self, now: float, unix_now: float, *, is_retry: bool = False, is_forced: bool = False
    ) -> None:
        """Sends a handshake initiation, unless a handshake message was sent within five seconds.

        Args:
            now: seconds.
            unix_now: wall clock, for the timestamp.
            is_retry: whether it counts towards giving up.
            is_forced: leaves the five seconds aside.
        """
        if not is_retry:
            self._attempts = 0
        if not self._local.is_up or not self._handshake.can_begin:
            return
        allowed_at = self._handshake.may_begin_at
        if now < allowed_at and not is_forced:
            if (is_retry or self._staged) and not self._timers.is_armed(Timer.RETRANSMIT):
                self._timers.arm(Timer.RETRANSMIT, allowed_at)
            return
        message = self._unanswered = self._handshake.create_initiation(now, unix_now)
        self._on_traversal(now)
        self._on_sent()
        self._emit_handshake(message)
        self._local.counters["wireguard.initiations_sent"] += 1
        self._timers.arm(Timer.RETRANSMIT, now + REKEY_TIMEOUT + jitter(self._local.rng))

    def repeat_handshake(self, now: float) -> None:
        """Sends our last handshake message once more, as long as it may still be answered."""
        if self._unanswered is not None and self._local.is_up and now < self._handshake.may_begin_at:
            self._emit_handshake(self._unanswered)

    def send(self, packets: Sequence[Buffer], now: float, unix_now: float) -> None:
        """Seals packets on the current session, or keeps copies until there is one."""
        keypair = self._slots.current
        if keypair is not None and not self._staged and keypair.can_send(len(packets), now):
            self._seal(keypair, packets, now, unix_now)
            return
        self._staged.extend(map(bytes, packets))
        while len(self._staged) > MAX_STAGED:
            self._staged.popleft()
            self._local.counters["wireguard.drop.staged_full"] += 1
        self._flush(now, unix_now)

    # What happened

    def handle_transport(
        self, keypair: Keypair, datagrams: Sequence[Buffer], source: Source, now: float, unix_now: float
    ) -> list[bytes]:
        """Opens datagrams of one session.

        Returns: plaintexts that are authentic and new, padding and keepalives (empty) included.
        """
        if not keypair.can_receive(now):
            self._local.counters["wireguard.drop.expired"] += len(datagrams)
            return []
        counters, plaintexts = open_batch(keypair.receive_cipher, datagrams)
        if len(plaintexts) < len(datagrams):
            self._local.counters["wireguard.drop.forged"] += len(datagrams) - len(plaintexts)
        verdicts = keypair.replay.accept_all(counters)
        if not all(verdicts):
            self._local.counters["wireguard.drop.replay"] += verdicts.count(False)
            plaintexts = list(compress(plaintexts, verdicts))
        if plaintexts:
            self._handle_opened(keypair, plaintexts, source, now, unix_now)
        return plaintexts

    def handle_initiation(self, opened: OpenedInitiation, source: Source, now: float) -> None:
        """Answers an initiation that names this peer; raises HandshakeRejected, nothing changed, if it does not verify."""
        reason = self._handshake.accept_initiation(opened, now)
        if reason is not None:
            self._local.counters[f"wireguard.drop.{reason}"] += 1
            return
        self._on_traversal(now)
        self._on_received()
        self._authenticated(source, INITIATION_SIZE)
        message, keypair = self._handshake.create_response(opened, now)
        self._unanswered = message
        self._destroy(self._slots.add_responded(keypair))
        self._timers.arm(Timer.ZERO_KEYS, now + ZERO_KEYS_AFTER)
        self._on_sent()
        self._emit_handshake(message)

    def handle_response(self, response: Response, source: Source, now: float, unix_now: float) -> None:
        """Completes our pending handshake; raises HandshakeRejected, nothing changed, if the response does not verify."""
        keypair = self._handshake.finish(response, now)
        self._authenticated(source, RESPONSE_SIZE)
        self._on_traversal(now)
        self._on_received()
        self._destroy(self._slots.add_initiated(keypair))
        self._timers.arm(Timer.ZERO_KEYS, now + ZERO_KEYS_AFTER)
        self._on_handshake_complete(now)
        self._keepalive(now, unix_now)

    def handle_cookie_reply(self, reply: CookieReply, now: float) -> bool:
        """Keeps a cookie for the next attempt. Returns False if it does not answer our last message. §5.4.7."""
        return self._handshake.handle_cookie_reply(reply, now)

    def handle_timeout(self, now: float, unix_now: float) -> None:
        """Does everything that is due."""
        while (timer := self._timers.pop_due(now)) is not None:
            match timer:
                case Timer.RETRANSMIT:
                    self._handle_no_response(now, unix_now)
                case Timer.KEEPALIVE:
                    self._handle_silence_of_ours(now, unix_now)
                case Timer.NEW_HANDSHAKE:
                    self._local.events.append(Unanswered(self.key))
                    self.initiate(now, unix_now)
                case Timer.ZERO_KEYS:
                    self._handle_stale_keys(now)
                case Timer.PERSISTENT_KEEPALIVE:
                    self._keepalive(now, unix_now)

    # Data

    def _seal(self, keypair: Keypair, packets: Sequence[Buffer], now: float, unix_now: float) -> None:
        """Seals packets that share the congestion bits of their headers."""
        counter = keypair.send_counter
        keypair.send_counter += len(packets)
        sealed = seal_batch(keypair.send_cipher, keypair.remote_index, counter, packets, self._local.mtu)
        self._emit(Outgoing(sealed, outer_tos(packets[0])))
        self._on_traversal(now)
        self._on_sent()
        if any(packets) and not self._timers.is_armed(Timer.NEW_HANDSHAKE):
            self._timers.arm(
                Timer.NEW_HANDSHAKE, now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter(self._local.rng)
            )
        if keypair.is_due_for_rekey(now):
            self.initiate(now, unix_now)

    def _flush(self, now: float, unix_now: float) -> None:
        """Seals what was staged, or starts the handshake that it waits for."""
        if not self._staged or not self._local.is_up:
            return
        keypair = self._slots.current
        if keypair is None or not keypair.can_send(len(self._staged), now):
            self.initiate(now, unix_now)
            return
        packets = list(self._staged)
        self._staged.clear()
        for _, run in groupby(packets, outer_tos):
            self._seal(keypair, list(run), now, unix_now)

    def _keepalive(self, now: float, unix_now: float) -> None:
        """Sends something: what is staged, else an empty packet."""
        if not self._staged:
            self._staged.append(b"")
        self._flush(now, unix_now)

    def _handle_opened(
        self, keypair: Keypair, plaintexts: list[bytes], source: Source, now: float, unix_now: float
    ) -> None:
        self._authenticated(source, sum(map(len, plaintexts)) + TRANSPORT_MIN_SIZE * len(plaintexts))
        if keypair is self._slots.next:
            self._destroy(self._slots.confirm_next())
            self._handshake.forget_pending()
            self._on_handshake_complete(now)
            self._flush(now, unix_now)
        elif keypair.is_crossed and self._handshake.yields_when_crossed:
            self._slots.yield_to_previous()
        self._rekey_in_last_minute(now, unix_now)
        self._on_traversal(now)
        self._on_received()
        if any(plaintexts):
            self._on_data_received(now)

    def _rekey_in_last_minute(self, now: float, unix_now: float) -> None:
        """Renews a session of ours that is about to end though we only receive on it."""
        current = self._slots.current
        if (
            not self._has_sent_last_minute
            and current is not None
            and current.is_initiator
            and now - current.created_at > LAST_MINUTE_REKEY
        ):
            self._has_sent_last_minute = True
            self.initiate(now, unix_now)

    def _destroy(self, keypairs: list[Keypair]) -> None:
        for keypair in keypairs:
            self._local.indices.discard(keypair.local_index)

    def _emit_handshake(self, message: bytes) -> None:
        self._emit(Outgoing([message], HANDSHAKE_TOS, is_handshake=True))

    def _emit(self, run: Outgoing) -> None:
        if self.outbox and self.outbox[-1][1:] == run[1:]:
            self.outbox[-1].datagrams.extend(run.datagrams)
        else:
            self.outbox.append(run)
        self.tx_bytes += sum(map(len, run.datagrams))

    def _authenticated(self, source: Source, n_bytes: int) -> None:
        self.rx_bytes += n_bytes
        self._local.events.append(Authenticated(self.key, source))

    def _drop_staged(self, reason: str) -> None:
        n = sum(map(bool, self._staged))
        if n:
            self._local.counters[f"wireguard.drop.{reason}"] += n
        self._staged.clear()

    # Hooks: which timers an event moves

    def _on_traversal(self, now: float) -> None:
        if self.persistent_keepalive:
            self._timers.arm(Timer.PERSISTENT_KEEPALIVE, now + self.persistent_keepalive)

    def _on_sent(self) -> None:
        self._timers.disarm(Timer.KEEPALIVE)

    def _on_received(self) -> None:
        self._timers.disarm(Timer.NEW_HANDSHAKE)

    def _on_data_received(self, now: float) -> None:
        if self._timers.is_armed(Timer.KEEPALIVE):
            self._needs_another_keepalive = True
        else:
            self._timers.arm(Timer.KEEPALIVE, now + KEEPALIVE_TIMEOUT)

    def _on_handshake_complete(self, now: float) -> None:
        self._timers.disarm(Timer.RETRANSMIT)
        self._attempts = 0
        self._has_sent_last_minute = False
        self._unanswered = None
        self.last_handshake_at = now
        self._local.events.append(HandshakeCompleted(self.key))

    # Expiry

    def _handle_no_response(self, now: float, unix_now: float) -> None:
        self._local.events.append(Unanswered(self.key))
        if self._attempts <= REKEY_ATTEMPTS:
            self._attempts += 1
            self.initiate(now, unix_now, is_retry=True)
            return
        self._timers.disarm(Timer.KEEPALIVE)
        self._drop_staged("no_answer")
        self._local.counters["wireguard.gave_up"] += 1
        if not self._timers.is_armed(Timer.ZERO_KEYS):
            self._timers.arm(Timer.ZERO_KEYS, now + ZERO_KEYS_AFTER)

    def _handle_silence_of_ours(self, now: float, unix_now: float) -> None:
        self._keepalive(now, unix_now)
        if self._needs_another_keepalive:
            self._needs_another_keepalive = False
            self._timers.arm(Timer.KEEPALIVE, now + KEEPALIVE_TIMEOUT)

    def _handle_stale_keys(self, now: float) -> None:
        """Old keys go; a handshake begun just now, as by another timer on waking from suspension, does not."""
        destroyed = self._slots.clear()
        self._destroy(destroyed)
        if now >= self._handshake.may_begin_at:
            self._handshake.forget_pending()
            self._drop_staged("expired_unsent")
        if destroyed:
            self._local.events.append(SessionExpired(self.key))
