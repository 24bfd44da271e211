"""A table of timers: one instant per member of an enum, and the earliest of them."""

from enum import IntEnum
from functools import lru_cache
from math import inf
from typing import Generic, TypeVar

from coderd.model.deadline import Deadline

TimerName = TypeVar("TimerName", bound=IntEnum)


class TimerTable(Generic[TimerName]):
    """When each timer of one machine fires, at most once until it is armed again.

    The instants are a list with the enum's members as indices: an ``IntEnum`` hashes and indexes at the speed
    of an int, and WireGuard moves its timers with every batch of packets.

    Args:
        timers: the enum. Its values are 0, 1, 2 …; its names in lower case are the reasons that a
            ``Deadline`` gives.

    Attributes:
        is_changed: whether an instant has changed since the reader of this flag cleared it.
    """

    __slots__ = ("_at", "_timers", "is_changed")

    def __init__(self, timers: type[TimerName]) -> None:
        self._timers = timers
        self._at = [inf] * len(timers)
        self.is_changed = False

    def arm(self, timer: TimerName, when: float) -> None:
        """Lets a timer fire at an instant; moves it where it is armed."""
        if self._at[timer] != when:
            self._at[timer] = when
            self.is_changed = True

    def disarm(self, timer: TimerName) -> None:
        """Keeps a timer from firing."""
        self.arm(timer, inf)

    def set(self, timer: TimerName, when: float | None) -> None:
        """Arms a timer for an instant, or disarms it with None."""
        self.arm(timer, inf if when is None else when)

    def is_armed(self, timer: TimerName) -> bool:
        """Returns whether a timer will fire."""
        return self._at[timer] != inf

    def clear(self) -> None:
        """Disarms all timers of the table."""
        for timer in self._timers:
            self.disarm(timer)

    def next_at(self) -> float:
        """Returns the earliest instant, infinity where no timer is armed."""
        return min(self._at)

    def poll_timeout(self) -> Deadline | None:
        """Returns the earliest instant with its timer's name, None where no timer is armed."""
        when = min(self._at)
        return None if when == inf else Deadline(when, _reasons(self._timers)[self._at.index(when)])

    def pop_due(self, now: float) -> TimerName | None:
        """Disarms and returns the timer that has been due for longest, None where none is due."""
        when = min(self._at)
        if when > now:
            return None
        timer = self._timers(self._at.index(when))
        self.disarm(timer)
        return timer


@lru_cache
def _reasons(timers: type[IntEnum]) -> list[str]:
    return [timer.name.lower().replace("_", " ") for timer in timers]
