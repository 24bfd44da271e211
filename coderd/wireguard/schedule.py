"""The earliest of many machines' deadlines, without asking them all at every packet.

A heap of what each machine said last. Deadlines on a busy path move later with every batch, so a moved one stays
where it is and is looked at again only when it comes to the top.
"""

from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, Protocol, TypeVar


class HasDeadline(Protocol):
    """A machine with one next deadline."""

    def next_at(self) -> float:
        """When it wants ``handle_timeout``; infinity for never."""


T = TypeVar("T", bound=HasDeadline)


class Schedule(Generic[T]):
    """Whose turn is next."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._planned: dict[int, float] = {}
        """By ``id``: the one entry of the heap that counts for a machine."""

    def update(self, machine: T) -> None:
        """To be called after anything that may have brought a machine's deadline forward."""
        when = machine.next_at()
        if when < self._planned.get(id(machine), inf):
            self._plan(machine, when)

    def discard(self, machine: T) -> None:
        """Forgets a machine."""
        self._planned.pop(id(machine), None)
        self._compact()

    def first(self) -> T | None:
        """The machine with the earliest deadline, None where nobody waits for anything."""
        while self._heap:
            planned, _, machine = self._heap[0]
            if self._planned.get(id(machine)) == planned:
                when = machine.next_at()
                if when <= planned:
                    return machine
                del self._planned[id(machine)]
                heappop(self._heap)
                if when != inf:
                    self._plan(machine, when)
            else:
                heappop(self._heap)
        return None

    def _plan(self, machine: T, when: float) -> None:
        self._planned[id(machine)] = when
        heappush(self._heap, (when, id(machine), machine))
        if len(self._heap) > 2 * len(self._planned) + 16:
            self._compact()

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._planned.get(entry[1]) == entry[0]]
        heapify(self._heap)
