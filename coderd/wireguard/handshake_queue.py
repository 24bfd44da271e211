"""Handshake messages that wait their turn, and how many there must be before we ask senders to prove themselves.

A handshake costs as much as hundreds of packets, so between two drains only so much of them is done; what is more waits
here, bounded, behind a MAC1 that was right. The length of the queue is the measure of load.
"""

from collections import deque
from math import inf
from typing import NamedTuple

from coderd.wireguard.message import HandshakeMessage
from coderd.wireguard.status import Source

MAX_QUEUED = 1024
UNDER_LOAD_FROM = MAX_QUEUED // 8
UNDER_LOAD_FOR = 1.0
"""Seconds for which one overload counts."""

COST_OF_VERDICT = 1
"""Turning a message down, or answering it with a cookie, in sixteenths of a handshake."""
COST_OF_HANDSHAKE = 16
BUDGET = 4 * COST_OF_HANDSHAKE


class Queued(NamedTuple):
    """A handshake message whose MAC1 was right."""

    data: bytes
    message: HandshakeMessage
    source: Source
    arrived_at: float


class HandshakeQueue:
    """First in, first out, on a budget."""

    def __init__(self) -> None:
        self._queue: deque[Queued] = deque()
        self._budget = BUDGET
        self._under_load_until = -inf

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, queued: Queued) -> bool:
        """Lets a message wait; False if the queue is full."""
        if len(self._queue) >= MAX_QUEUED:
            return False
        self._queue.append(queued)
        return True

    def pop(self, now: float) -> Queued | None:
        """The next message, while the budget lasts. Load is judged as it is taken, itself included."""
        if not self._queue or self._budget <= 0:
            return None
        if len(self._queue) >= UNDER_LOAD_FROM:
            self._under_load_until = now + UNDER_LOAD_FOR
        return self._queue.popleft()

    def spend(self, cost: int) -> None:
        """Takes what a message has cost from the budget."""
        self._budget -= cost

    def refill(self) -> None:
        """The rest of the program has had its turn."""
        self._budget = BUDGET

    def clear(self) -> None:
        """Forgets everything that waits."""
        self._queue.clear()

    def is_under_load(self, now: float) -> bool:
        """Whether senders must prove that they can be reached."""
        return now < self._under_load_until

    def waiting_since(self) -> float | None:
        """When the first that waits arrived."""
        return self._queue[0].arrived_at if self._queue else None
