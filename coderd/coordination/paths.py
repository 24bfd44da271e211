"""What nodes report of their paths, as the server keeps it.

For people and counters, and nothing is decided by it.

A report says what its node likes. So it is kept only of peers that the node may meet, per connection and gone
with it; and what it adds to counters is bounded per connection (``COUNT_BURST`` at once, ``COUNT_RATE`` a
second), counts only ever grow within a connection, and causes are ours: a hostile node can be wrong about
itself, and can neither grow the memory nor flood the figures.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

from coderd.coordination.message import PathReport, Update
from coderd.identity.people import Node
from coderd.model import limits
from coderd.model.paths import PathKind
from coderd.model.token_bucket import TokenBucket

KINDS: Final = {kind.value: kind for kind in PathKind}
"""Words of a report that are understood: a newer node may say others."""
MAX_KEPT: Final = limits.MAX_PATH_REPORTS
"""Reports of one connection."""
COUNT_BURST: Final = limits.PATH_COUNT_BURST
COUNT_RATE: Final = limits.PATH_COUNT_RATE
CAUSES: Final = frozenset({"no_answer", "refused", "unknown_peer", "rate", "mac1", "queue_full"})
"""Why a handshake came to nothing, as nodes count it."""
TO_DIRECT_BOUNDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LIFETIME_BOUNDS: Final = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)


class Reach(NamedTuple):
    """One node reaches another, as it says itself."""

    node: Node
    peer: Node
    path: PathKind
    region: int
    rtt: float | None
    """Seconds there and back."""
    since: float
    """Seconds for which it has been this path."""


class Histogram:
    """Counts of values in buckets.

    Args:
        bounds: upper ends of the buckets but the last, ascending.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of all values."""

    def observe(self, value: float) -> None:
        """Counts one more value in its bucket."""
        bucket = next((i for i, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        self.counts[bucket] += 1
        self.total += value


@dataclass(slots=True)
class PathTally:
    """All that nodes have reported since the server's start."""

    time_to_direct: Histogram = field(default_factory=lambda: Histogram(TO_DIRECT_BOUNDS))
    lifetimes: dict[PathKind, Histogram] = field(
        default_factory=lambda: {
            kind: Histogram(LIFETIME_BOUNDS) for kind in (PathKind.DIRECT, PathKind.RELAY)
        }
    )
    """How long a path had lasted when another took its place, by kind of path."""
    n_changes: int = 0
    failures: Counter[str] = field(default_factory=Counter)


class _Kept(NamedTuple):
    path: PathKind
    region: int
    rtt: float | None
    since_at: float
    n_changes: int


class ConnectionPaths:
    """What one connection has reported."""

    __slots__ = ("_countable", "_failures", "_in_use", "_kept", "home_region", "latencies")

    def __init__(self) -> None:
        self.home_region = 0
        self.latencies: Mapping[int, float] = {}
        """Seconds to each region's relay."""
        self._kept: dict[UUID, _Kept] = {}
        self._in_use: dict[UUID, float] = {}
        """Since when each peer has been reached by some path or other."""
        self._failures: dict[str, int] = {}
        self._countable = TokenBucket(COUNT_RATE, COUNT_BURST)
        """What may still be added to the counters."""

    def take(self, update: Update, may_meet: Callable[[UUID], bool], tally: PathTally, now: float) -> None:
        """Keeps and counts what an update reports."""
        self.home_region, self.latencies = update.home_region, update.latencies
        if not update.path_reports and not update.handshake_failures:
            return
        for report in update.path_reports:
            path = KINDS.get(report.path)
            if path is not None and may_meet(report.peer):
                self._take_report(report, path, tally, now)
        for cause, n_failures in update.handshake_failures.items():
            if cause in CAUSES:
                n_new = self._countable.take_some(n_failures - self._failures.get(cause, 0), now)
                self._failures[cause] = max(n_failures, self._failures.get(cause, 0))
                tally.failures[cause] += n_new

    def items(self, now: float) -> Iterator[tuple[UUID, PathKind, int, float | None, float]]:
        """Yields peer, path, region, round trip in seconds and age in seconds of each report."""
        for peer, kept in self._kept.items():
            yield peer, kept.path, kept.region, kept.rtt, max(now - kept.since_at, 0.0)

    def kinds(self) -> Iterator[tuple[UUID, PathKind]]:
        """Yields peer and kind of path of each report."""
        return ((peer, kept.path) for peer, kept in self._kept.items())

    def tunnel(self, peer: UUID, now: float) -> tuple[PathKind, float] | None:
        """Returns by which kind of path a peer is reached, and for how many seconds by any.

        Returns None where it is not in use.
        """
        kept, since_at = self._kept.get(peer), self._in_use.get(peer)
        if kept is None or since_at is None:
            return None
        return kept.path, max(now - since_at, 0.0)

    def _take_report(self, report: PathReport, path: PathKind, tally: PathTally, now: float) -> None:
        if path is PathKind.NONE:
            self._in_use.pop(report.peer, None)
        else:
            self._in_use.setdefault(report.peer, now - report.since)
        before, since_at = self._kept.pop(report.peer, None), now - report.since
        n_before = before.n_changes if before is not None else 0
        tally.n_changes += self._countable.take_some(report.n_changes - n_before, now)
        is_direct = path is PathKind.DIRECT
        if is_direct and report.time_to_direct is not None and self._countable.take(1, now):
            tally.time_to_direct.observe(report.time_to_direct)
        is_other = before is not None and (before.path, before.region) != (path, report.region)
        if (
            before is not None
            and is_other
            and before.path in tally.lifetimes
            and self._countable.take(1, now)
        ):
            tally.lifetimes[before.path].observe(max(since_at - before.since_at, 0.0))
        if len(self._kept) >= MAX_KEPT:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._in_use.pop(oldest, None)
        self._kept[report.peer] = _Kept(
            path, report.region, report.rtt, since_at, max(report.n_changes, n_before)
        )
