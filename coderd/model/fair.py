"""Fair sharing of bounded room: when it is full, the owner of the most entries loses one first.

Pure.
"""

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def fair_excess(counts: Mapping[K, int], room: int) -> dict[K, int]:
    """Returns how many each must give up so that all together fit in ``room``, without those who give none.

    An owner of at most ``room / len(counts)`` entries gives up none, whatever the others have.
    """
    level, left, n_left = 0, room, len(counts)
    for n in sorted(counts.values()):
        level = left // n_left
        if n > level:
            break
        left, n_left = left - n, n_left - 1
    else:
        return {}
    return {key: n - level for key, n in counts.items() if n > level}


class FairQueue(Generic[K, T]):
    """A queue with room for ``limit`` things of all owners together.

    Where it is full, the owner of most gives way.

    Args:
        limit: things that wait at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[K, deque[tuple[int, T]]] = {}
        self._n_waiting = 0
        self._n_ever = 0

    def __len__(self) -> int:
        return self._n_waiting

    def push(self, owner: K, thing: T) -> bool:
        """Appends a thing; returns whether nothing was dropped for it.

        In a full queue the newest thing of the owner with the most is dropped, or else the new one itself.
        """
        is_full = self._n_waiting >= self._limit
        if is_full:
            greediest = max(self._waiting, key=lambda one: len(self._waiting[one]), default=owner)
            if len(self._waiting.get(greediest, ())) <= len(self._waiting.get(owner, ())) + 1:
                return False
            self._waiting[greediest].pop()
            self._n_waiting -= 1
        self._n_ever += 1
        self._n_waiting += 1
        self._waiting.setdefault(owner, deque()).append((self._n_ever, thing))
        return not is_full

    def take_all(self) -> list[T]:
        """Returns everything that waits, in the order in which it came."""
        found = sorted((entry for owned in self._waiting.values() for entry in owned), key=lambda one: one[0])
        self._waiting.clear()
        self._n_waiting = 0
        return [thing for _, thing in found]
