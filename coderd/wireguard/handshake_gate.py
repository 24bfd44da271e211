"""Gate of handshake messages: MAC1 before the queue, and under load a proven address and a rate behind it.

```
 receive  parsed? -> MAC1 -> an answer to this device's own message? -> queue of 1024, else dropped
 pop      queue -> [under load: MAC2, else a cookie reply -> limiter] -> the device
```
A handshake costs as much as hundreds of packets, so a budget bounds how many leave between two drains of the
device. WireGuard paper §5.3 (denial of service mitigation) and §5.4.4 (the MACs).
"""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePublic
from coderd.wireguard.cookie import CookieChecker
from coderd.wireguard.ecn import HANDSHAKE_TOS
from coderd.wireguard.limiter import HandshakeLimiter, limiter_key
from coderd.wireguard.local import Local
from coderd.wireguard.message import (
    COOKIE_REPLY_SIZE,
    CookieReply,
    HandshakeMessage,
    Initiation,
    parse_handshake,
)
from coderd.wireguard.status import Source, Transmit

MAX_QUEUED = 1024
UNDER_LOAD_FROM = MAX_QUEUED // 8
UNDER_LOAD_FOR = 1.0
"""Seconds of load after a message was taken from a queue of at least UNDER_LOAD_FROM."""

COST_OF_VERDICT = 1
"""Cost, in sixteenths of a handshake, of a message that is dropped, answered by a cookie reply, or is one."""
COST_OF_HANDSHAKE = 16
BUDGET = 4 * COST_OF_HANDSHAKE


class Queued(NamedTuple):
    """Handshake message in the queue: with a valid MAC1, or a cookie reply, which has none."""

    data: bytes
    message: HandshakeMessage
    source: Source
    arrived_at: float


class HandshakeGate:
    """Queue of handshake messages with checks at both ends, and a budget of four handshakes between drains.

    Args:
        local: the device's state, whose counters count what is dropped.
        emit: sends a cookie reply.
    """

    def __init__(self, local: Local, emit: Callable[[Transmit], None]) -> None:
        self._local = local
        self._emit = emit
        self._checker: CookieChecker | None = None
        self._limiter = HandshakeLimiter()
        self._queue: deque[Queued] = deque()
        self._budget = BUDGET
        self._under_load_until = -inf

    def __len__(self) -> int:
        return len(self._queue)

    def set_identity(self, public: NodePublic | None) -> None:
        """Sets the public key that messages must be for; None for none. Drops what is queued."""
        self.clear()
        self._checker = CookieChecker(public, self._local.rng) if public is not None else None

    def receive(self, data: bytes, source: Source, now: float) -> None:
        """Queues a datagram that is no transport data, or drops and counts it."""
        try:
            message = parse_handshake(data)
        except MalformedPacket:
            self._local.counters["wireguard.drop.malformed"] += 1
            return
        is_cookie_reply = isinstance(message, CookieReply)
        if not is_cookie_reply and (self._checker is None or not self._checker.has_valid_mac1(data)):
            self._local.counters["wireguard.drop.mac1"] += 1
        elif not isinstance(message, Initiation) and self._local.indices.get(message.receiver) is None:
            # No answer to a message of this device: it must not take an initiation's place in the queue.
            self._local.counters["wireguard.drop.unknown_index"] += 1
        elif len(self._queue) >= MAX_QUEUED:
            self._local.counters["wireguard.drop.handshake_queue_full"] += 1
        else:
            self._queue.append(Queued(data, message, source, now))

    def pop(self, now: float) -> Queued | None:
        """Returns the oldest message that may be processed; None if there is none or the budget is spent.

        If at least 128 messages are queued, the returned one included, the device is under load for 1 s from
        ``now``.
        """
        while self._queue and self._budget > 0:
            if len(self._queue) >= UNDER_LOAD_FROM:
                self._under_load_until = now + UNDER_LOAD_FOR
            queued = self._queue.popleft()
            is_cookie_reply = isinstance(queued.message, CookieReply)
            if is_cookie_reply or not self.is_under_load(now) or self._may_pass(queued, now):
                self._budget -= COST_OF_VERDICT if is_cookie_reply else COST_OF_HANDSHAKE
                return queued
            self._budget -= COST_OF_VERDICT
        return None

    def refill(self) -> None:
        """Restores the budget to four handshakes, once the device was drained."""
        self._budget = BUDGET

    def clear(self) -> None:
        """Drops and counts all queued messages, as the device goes down or its key changes."""
        if self._queue:
            self._local.counters["wireguard.drop.down"] += len(self._queue)
            self._queue.clear()

    def is_under_load(self, now: float) -> bool:
        """Returns whether senders must prove their address by a valid MAC2."""
        return now < self._under_load_until

    def waiting_since(self) -> float | None:
        """Returns when the oldest message arrived; None if the queue is empty."""
        return self._queue[0].arrived_at if self._queue else None

    def _may_pass(self, queued: Queued, now: float) -> bool:
        """Returns whether a message may pass under load: its MAC2 is valid and its source is within the rate.

        A message without a valid MAC2 is answered by a cookie reply.
        """
        if self._checker is None:
            return False
        address = queued.source.cookie_bytes
        if not self._checker.has_valid_mac2(queued.data, address, now):
            reply = self._checker.create_reply(queued.data, address, now)
            self._emit(Transmit(queued.source, [reply], COOKIE_REPLY_SIZE, HANDSHAKE_TOS))
            self._local.counters["wireguard.cookie_replies_sent"] += 1
            return False
        if self._limiter.allow(limiter_key(address), int(now * 1_000_000_000)):
            return True
        self._local.counters["wireguard.drop.handshake_rate"] += 1
        return False
