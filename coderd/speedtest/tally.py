"""Bytes into intervals: cut by time, so that a slow link has rows of a second too."""

from typing import NamedTuple

INTERVAL = 1.0
"""Seconds of a row."""
SHORTEST_ROW = 0.010
"""Seconds. What is left at the end gets a row of its own when it is longer, else it joins the last one."""


class Interval(NamedTuple):
    """Bytes that moved between two instants, in seconds since the test's start."""

    start: float
    end: float
    n_bytes: int

    @property
    def megabits(self) -> float:
        """Decimal megabits."""
        return self.n_bytes * 8 / 1e6

    @property
    def throughput_mbits(self) -> float:
        """Megabits per second, over the interval's true length."""
        seconds = self.end - self.start
        return self.megabits / seconds if seconds > 0 else 0.0


class Tally:
    """Counts one test's bytes. Rows begin on whole seconds, late by no more than the caller's last read.

    Args:
        now: when the test begins.
    """

    def __init__(self, now: float) -> None:
        self._started_at = now
        self._rows: list[Interval] = []
        self._cut_at = now
        self._n_bytes = 0

    @property
    def rows(self) -> tuple[Interval, ...]:
        """The rows that are complete."""
        return tuple(self._rows)

    @property
    def next_cut(self) -> float:
        """When the running row is over; call ``add`` then, with 0 where nothing has come."""
        n_passed = int((self._cut_at - self._started_at) / INTERVAL + 1e-9)
        return self._started_at + (n_passed + 1) * INTERVAL

    def add(self, n_bytes: int, now: float) -> Interval | None:
        """Counts bytes that moved until now; returns the row that they complete, if any."""
        self._n_bytes += n_bytes
        return self._cut(now) if now >= self.next_cut else None

    def finish(self, now: float) -> tuple[Interval, ...]:
        """Ends the test; returns all rows, which hold every byte that was counted."""
        if now - self._cut_at > SHORTEST_ROW or not self._rows:
            self._cut(now)
        elif self._n_bytes:
            last = self._rows.pop()
            self._rows.append(last._replace(end=now - self._started_at, n_bytes=last.n_bytes + self._n_bytes))
        self._n_bytes, self._cut_at = 0, now
        return self.rows

    def _cut(self, now: float) -> Interval:
        row = Interval(self._cut_at - self._started_at, now - self._started_at, self._n_bytes)
        self._rows.append(row)
        self._cut_at, self._n_bytes = now, 0
        return row


def overall(rows: tuple[Interval, ...]) -> Interval:
    """Returns the total of a test's rows: from its start to the end of the last."""
    return Interval(0.0, rows[-1].end if rows else 0.0, sum(row.n_bytes for row in rows))
