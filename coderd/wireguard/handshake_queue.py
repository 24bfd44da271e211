"""Bounded queue of handshake messages; its length decides whether the device is under load.

A handshake costs as much as hundreds of packets, so a budget bounds how many are processed between two drains
of the device. The rest waits here, after the check of MAC1.
"""

from collections import deque
from math import inf
from typing import NamedTuple

from coderd.wireguard.message import HandshakeMessage
from coderd.wireguard.status import Source

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


class HandshakeQueue:
    """First-in, first-out queue of at most 1024 messages, with a budget of four handshakes."""

    def __init__(self) -> None:
        self._queue: deque[Queued] = deque()
        self._budget = BUDGET
        self._under_load_until = -inf

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, queued: Queued) -> bool:
        """Appends a message; returns False, unchanged, if the queue is full."""
        if len(self._queue) >= MAX_QUEUED:
            return False
        self._queue.append(queued)
        return True

    def pop(self, now: float) -> Queued | None:
        """Removes and returns the oldest message; None if the queue is empty or the budget spent.

        If at least 128 messages are queued, this one included, the device is under load for 1 s from ``now``.
        """
        if not self._queue or self._budget <= 0:
            return None
        if len(self._queue) >= UNDER_LOAD_FROM:
            self._under_load_until = now + UNDER_LOAD_FOR
        return self._queue.popleft()

    def spend(self, cost: int) -> None:
        """Subtracts the cost of a message from the budget."""
        self._budget -= cost

    def refill(self) -> None:
        """Restores the budget to four handshakes, once the device was drained."""
        self._budget = BUDGET

    def clear(self) -> None:
        """Removes all messages from the queue."""
        self._queue.clear()

    def is_under_load(self, now: float) -> bool:
        """Returns whether senders must prove their address by a valid MAC2."""
        return now < self._under_load_until

    def waiting_since(self) -> float | None:
        """Returns when the oldest message arrived; None if the queue is empty."""
        return self._queue[0].arrived_at if self._queue else None
