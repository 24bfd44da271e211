"""A table of timers: one per member of an enum, and the earliest of them."""

from enum import Enum
from typing import Generic, TypeVar

from coderd.model.deadline import Deadline

TimerName = TypeVar("TimerName", bound=Enum)


class TimerTable(Generic[TimerName]):
    """When each timer fires. The enum's values are the words that a ``Deadline`` gives as its reason."""

    __slots__ = ("_at", "is_changed")

    def __init__(self) -> None:
        self._at: dict[TimerName, float] = {}
        self.is_changed = False
        """Whether the table was touched since its reader last looked; the reader clears it."""

    def __contains__(self, timer: object) -> bool:
        return timer in self._at

    def set(self, timer: TimerName, when: float | None) -> None:
        """Arms a timer, or disarms it with None."""
        if self._at.get(timer) == when:
            return
        self.is_changed = True
        if when is None:
            del self._at[timer]
        else:
            self._at[timer] = when

    def pop_due(self, now: float) -> TimerName | None:
        """Disarms and returns a timer that is due, the longest overdue first."""
        timer = self._first()
        if timer is None or self._at[timer] > now:
            return None
        self.set(timer, None)
        return timer

    def poll_timeout(self) -> Deadline | None:
        """The earliest timer."""
        timer = self._first()
        return Deadline(self._at[timer], str(timer.value)) if timer is not None else None

    def _first(self) -> TimerName | None:
        return min(self._at, key=self._at.__getitem__, default=None)
