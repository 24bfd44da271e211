"""Many machines' deadlines, and the earliest: a heap in which what has changed is passed over later, not searched for."""

import heapq
from itertools import count

from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic

_TIDY_FACTOR = 4
"""Entries per deadline above which the heap is made anew."""
_TIDY_AT_LEAST = 64


class Deadlines:
    """One deadline per peer. Setting costs the logarithm of their number, looking at the earliest nothing as a rule."""

    def __init__(self) -> None:
        self._of: dict[NodePublic, Deadline] = {}
        self._heap: list[tuple[float, int, NodePublic, Deadline]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._of)

    def set(self, peer: NodePublic, deadline: Deadline | None) -> None:
        """Gives a peer another deadline, or none."""
        if deadline is None:
            self._of.pop(peer, None)
        elif self._of.get(peer) != deadline:
            self._of[peer] = deadline
            heapq.heappush(self._heap, (deadline.when, next(self._order), peer, deadline))
            self._tidy()

    def first(self) -> Deadline | None:
        """The earliest."""
        heap = self._heap
        while heap and self._of.get(heap[0][2]) is not heap[0][3]:
            heapq.heappop(heap)
        return heap[0][3] if heap else None

    def pop_due(self, now: float) -> NodePublic | None:
        """A peer whose deadline has passed, the longest overdue first; it has none then, until one is set."""
        deadline = self.first()
        if deadline is None or deadline.when > now:
            return None
        peer = heapq.heappop(self._heap)[2]
        del self._of[peer]
        return peer

    def _tidy(self) -> None:
        if len(self._heap) > _TIDY_AT_LEAST + _TIDY_FACTOR * len(self._of):
            self._heap = [entry for entry in self._heap if self._of.get(entry[2]) is entry[3]]
            heapq.heapify(self._heap)
