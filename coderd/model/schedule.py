"""The earliest of many machines' deadlines, without asking them all at every packet.

Keeps a heap of the deadline that each machine reported last. Deadlines on a busy path move later with every
batch, so one that has moved later keeps its entry and is looked at again when that entry comes to the top.
"""

from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Generic, Protocol, TypeAlias, TypeVar

from coderd.model.deadline import Deadline


class HasDeadline(Protocol):
    """A machine with one next deadline; hashed and compared by identity."""

    def next_at(self) -> float:
        """Returns when it wants ``handle_timeout``; infinity for never."""

    def poll_timeout(self) -> Deadline | None:
        """Returns that instant with its reason, None for never."""


T = TypeVar("T", bound=HasDeadline)
_Entry: TypeAlias = tuple[float, int, T]
"""Instant, number of the entry (machines due together come in the order of planning), machine."""


class Schedule(Generic[T]):
    """Machines by their next deadline."""

    def __init__(self) -> None:
        self._heap: list[_Entry[T]] = []
        self._planned: dict[T, _Entry[T]] = {}
        """The one entry of the heap that counts for a machine."""
        self._order = count()

    def __len__(self) -> int:
        """Returns how many machines have an entry: at least those that wait for something."""
        return len(self._planned)

    def update(self, machine: T) -> None:
        """Takes note of a machine's deadline.

        To be called after anything that may have brought it forward.
        """
        when, planned = machine.next_at(), self._planned.get(machine)
        if when < (inf if planned is None else planned[0]):
            self._plan(machine, when)

    def discard(self, machine: T) -> None:
        """Forgets a machine and its deadline."""
        self._planned.pop(machine, None)
        self._tidy()

    def first(self) -> T | None:
        """Returns the machine with the earliest deadline, None where none waits for anything."""
        while self._heap:
            entry = self._heap[0]
            planned, _, machine = entry
            if self._planned.get(machine) is entry:
                when = machine.next_at()
                if when <= planned:
                    return machine
                del self._planned[machine]
                heappop(self._heap)
                if when != inf:
                    self._plan(machine, when)
            else:
                heappop(self._heap)
        return None

    def first_due(self, now: float) -> T | None:
        """Returns the machine that has been due for longest, None where none is due.

        It stays due until its deadline moves.
        """
        machine = self.first()
        return machine if machine is not None and machine.next_at() <= now else None

    def poll_timeout(self) -> Deadline | None:
        """Returns the earliest deadline, None where no machine waits for anything."""
        machine = self.first()
        return machine.poll_timeout() if machine is not None else None

    def _plan(self, machine: T, when: float) -> None:
        entry = (when, next(self._order), machine)
        self._planned[machine] = entry
        heappush(self._heap, entry)
        self._tidy()

    def _tidy(self) -> None:
        """Drops the entries that do not count any more when they are more than half of the heap."""
        if len(self._heap) > 2 * len(self._planned) + 16:
            self._heap = [entry for entry in self._heap if self._planned.get(entry[2]) is entry]
            heapify(self._heap)
