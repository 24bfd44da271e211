"""One WireGuard peer: its handshake, its sessions, its timers, the packets that wait for a session.

The timer rules of the WireGuard paper (J. Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel"), §6,
are written as *events* (a message received or sent, a timer expired) and *hooks* (``_on_sent`` and others:
the timers that an event arms and disarms). A peer queues datagrams in ``outbox`` and events in
``Local.events``; the device drains both.
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
"""Most packets of a peer that wait for a session; beyond it the oldest is dropped."""

YOUNG = 1.0
"""Seconds: a handshake younger than this, on news of a peer's restart, may be with the restarted peer
already."""


class Outgoing(NamedTuple):
    """Run of datagrams of one kind and one service byte, not yet cut into batches."""

    datagrams: list[bytes]
    tos: int
    is_handshake: bool = False


class Peer:
    """State machine of one peer, without waiting or a clock of its own.

    Args:
        key: the peer's static public key.
        local: the state that the device's peers share.
        now: seconds.
    """

    def __init__(self, key: NodePublic, local: Local, now: float) -> None:
        self.key = key
        self.outbox: list[Outgoing] = []
        """Datagrams to send, in order; the device drains them."""
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
        """Whether data was received while ``Timer.KEEPALIVE`` was armed: the timer is armed again when it
        fires."""
        self._has_sent_last_minute = False
        """Whether the one initiation on receiving past ``LAST_MINUTE_REKEY`` of a session's age was begun.
        WireGuard paper §6.2."""
        self._unanswered: bytes | None = None
        """Last initiation or response sent, until a handshake completes."""

    # Looking

    @property
    def has_preshared_key(self) -> bool:
        """Whether a preshared key other than 32 zero bytes is set."""
        return self._handshake.has_preshared_key

    @property
    def preshared_key(self) -> bytes:
        """Preshared key, 32 bytes, all zeros for none; a secret."""
        return self._handshake.preshared_key

    @property
    def n_staged(self) -> int:
        """Number of packets that wait for a session."""
        return len(self._staged)

    def has_session(self, now: float) -> bool:
        """Returns whether a packet could be sealed now, on the current session."""
        return self._slots.current is not None and self._slots.current.can_send(1, now)

    def next_at(self) -> float:
        """Returns when ``handle_timeout`` is due; infinity for never."""
        return self._timers.next_at()

    def poll_timeout(self) -> Deadline | None:
        """Returns when ``handle_timeout`` is due, and for which timer; None for never."""
        return self._timers.poll_timeout()

    # Commands

    def set_preshared_key(self, key: bytes) -> None:
        """Sets the preshared key, 32 bytes, of all handshakes not yet complete; existing sessions stay.

        WireGuard paper §5.2. Raises ValueError for another size.
        """
        self._handshake.set_preshared_key(key)

    def set_persistent_keepalive(self, interval: int, now: float) -> None:
        """Sets the seconds without traffic after which a keepalive is sent; 0 for off.

        Turned on while the device is up, the first is due at once.

        Raises ValueError outside of 0 to 65535.
        """
        if not 0 <= interval <= 65535:
            raise ValueError(f"a persistent keepalive is 0 to 65535 seconds, not {interval}")
        was, self.persistent_keepalive = self.persistent_keepalive, interval
        if not interval:
            self._timers.disarm(Timer.PERSISTENT_KEEPALIVE)
        elif self._local.is_up and interval != was:
            self._timers.arm(Timer.PERSISTENT_KEEPALIVE, now + interval if was else now)

    def handle_identity(self, now: float) -> None:
        """Applies a new private key: cancels the pending handshake, ends sending on all sessions."""
        self._handshake.handle_identity(now)
        self._slots.retire_from_sending()
        if self._local.is_up and self.persistent_keepalive:
            self._timers.arm(Timer.PERSISTENT_KEEPALIVE, now)

    def start(self, now: float) -> None:
        """Resets the handshake's limits as the device comes up; a persistent keepalive is due at once."""
        self._attempts = 0
        self._needs_another_keepalive = self._has_sent_last_minute = False
        self._handshake.restart(now)
        if self.persistent_keepalive:
            self._timers.arm(Timer.PERSISTENT_KEEPALIVE, now)

    def stop(self) -> None:
        """Stops the peer, as the device goes down or the peer is removed.

        Sessions are destroyed; staged packets, output and the pending handshake are dropped. The
        configuration and the last accepted timestamp stay.
        """
        self._timers.clear()
        self._unanswered = None
        self._destroy(self._slots.clear())
        self._handshake.forget_pending()
        self._drop_staged("down")
        self.outbox.clear()

    def forget_sessions(self, now: float) -> None:
        """Destroys the peer's sessions, as the peer has restarted and lost them; staged packets stay.

        If a handshake message was sent within the last second, the handshake and sessions younger than a
        second stay: they may be with the restarted peer, which was quicker than the news of its restart.
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
        if self._staged:  # in case the peer does not initiate, as it is expected to
            self._timers.arm(Timer.RETRANSMIT, now + REKEY_TIMEOUT + jitter(self._local.rng))

    def initiate(
        self, now: float, unix_now: float, *, is_retry: bool = False, is_forced: bool = False
    ) -> None:
        """Sends a handshake initiation, unless an initiation or response was sent within the last 5 s.

        If it may not be sent yet, and it is a retry or packets are staged, the retransmission timer is armed
        for it.

        Args:
            now: seconds.
            unix_now: wall clock, for the timestamp.
            is_retry: whether it counts towards giving up; otherwise the count begins anew.
            is_forced: ignores the 5 s.
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
        """Repeats the last handshake message, if less than 5 s old and no handshake has completed since."""
        if self._unanswered is not None and self._local.is_up and now < self._handshake.may_begin_at:
            self._emit_handshake(self._unanswered)

    def send(self, packets: Sequence[Buffer], now: float, unix_now: float) -> None:
        """Sends packets on the current session, or stages copies and begins a handshake if there is none."""
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
        """Opens transport datagrams of one session, and applies the timer rules of receiving.

        Returns: plaintexts that are authentic and no replay, with padding; those of keepalives are empty.
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
        """Answers an initiation that claims to be this peer's; drops and counts an old or too frequent one.

        Raises:
            HandshakeRejected: it does not verify; no state has changed.
        """
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
        """Completes the pending handshake, and sends the staged packets or a keepalive on its session.

        Raises:
            HandshakeRejected: the response does not verify; no state has changed.
        """
        keypair = self._handshake.finish(response, now)
        self._authenticated(source, RESPONSE_SIZE)
        self._on_traversal(now)
        self._on_received()
        self._destroy(self._slots.add_initiated(keypair))
        self._timers.arm(Timer.ZERO_KEYS, now + ZERO_KEYS_AFTER)
        self._on_handshake_complete(now)
        self._keepalive(now, unix_now)

    def handle_cookie_reply(self, reply: CookieReply, now: float) -> bool:
        """Stores the cookie of a reply to the last message sent; returns False if it is to another.

        WireGuard paper §5.4.7: a cookie reply causes no retransmission by itself.
        """
        return self._handshake.handle_cookie_reply(reply, now)

    def handle_timeout(self, now: float, unix_now: float) -> None:
        """Handles every timer that has expired by ``now``."""
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
        """Seals packets with equal ECN bits, moves the timers of sending, and begins a handshake if due."""
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
        """Seals the staged packets, or begins a handshake if the current session cannot send them."""
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
        """Sends the staged packets, else an empty one; begins a handshake if there is no session."""
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
        """Begins a handshake, once, if this end initiated the current session and it is over 165 s old.

        WireGuard paper §6.2.
        """
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
        """Destroys all sessions, 540 s after the last new one.

        The pending handshake and the staged packets are dropped too, unless a handshake message was sent
        within the last 5 s, as by another timer that expired during the same suspension of the machine.
        """
        destroyed = self._slots.clear()
        self._destroy(destroyed)
        if now >= self._handshake.may_begin_at:
            self._handshake.forget_pending()
            self._drop_staged("expired_unsent")
        if destroyed:
            self._local.events.append(SessionExpired(self.key))
