"""Which path carried a test's bytes: from the daemon's counters, never from a guess before the test."""

from bisect import bisect_right
from enum import StrEnum
from typing import NamedTuple

NEGLIGIBLE = 0.01
"""A path that carried less than this share of an interval's bytes (a handshake, say) does not name it."""


class PathLabel(StrEnum):
    """Which path carried bytes: one of the two, or some by either."""

    DIRECT = "direct"
    RELAY = "relay"
    MIXED = "mixed"


class PathBytes(NamedTuple):
    """Bytes of the data's direction that each path has carried."""

    direct: float
    relay: float


class PathSamples:
    """Samples of ever-growing counters, and what lies between two instants."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._samples: list[PathBytes] = []

    @property
    def last_at(self) -> float | None:
        """When the last sample came."""
        return self._times[-1] if self._times else None

    def add(self, now: float, direct: int, relay: int) -> None:
        """Takes a sample; ``now`` never goes back."""
        self._times.append(now)
        self._samples.append(PathBytes(direct, relay))

    def between(self, start: float, end: float) -> PathBytes:
        """Returns the bytes that each path carried between two instants, interpolated between samples."""
        before, after = self._at(start), self._at(end)
        return PathBytes(after.direct - before.direct, after.relay - before.relay)

    def _at(self, when: float) -> PathBytes:
        if not self._times:
            return PathBytes(0, 0)
        index = bisect_right(self._times, when)
        if index == 0 or index == len(self._times):
            return self._samples[min(index, len(self._times) - 1)]
        left, right = self._samples[index - 1], self._samples[index]
        share = (when - self._times[index - 1]) / (self._times[index] - self._times[index - 1])
        return PathBytes(
            left.direct + share * (right.direct - left.direct),
            left.relay + share * (right.relay - left.relay),
        )


def label(carried: PathBytes, otherwise: PathLabel) -> PathLabel:
    """Names the path that carried bytes; ``otherwise`` where none did."""
    total = carried.direct + carried.relay
    if total <= 0:
        return otherwise
    if carried.relay < NEGLIGIBLE * total:
        return PathLabel.DIRECT
    return PathLabel.RELAY if carried.direct < NEGLIGIBLE * total else PathLabel.MIXED
