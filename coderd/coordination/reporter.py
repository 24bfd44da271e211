"""What a node tells its server of its paths, and when.

Pure: its owner wakes it, looks at the paths, and sends.

A change is reported after ``SETTLE`` seconds, in which a relayed path mostly becomes direct, and at least
``INTERVAL`` after the last report; a round trip that has changed is reported after ``REFRESH`` seconds at the
earliest. Idle peers are reported once as ``none``, so an idle node sends no reports. Over a new connection
everything is reported again, and counts start from what was reported over the last one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from coderd.coordination.message import MAX_ENTRIES, PathReport
from coderd.model.paths import PathKind
from coderd.model.reachability import PeerPath

SETTLE: Final = 1.0
INTERVAL: Final = 5.0
LOOK: Final = 15.0
"""Seconds between two looks at the paths when no change is announced: a path that falls idle announces
none."""
REFRESH: Final = 60.0
MAX_AT_ONCE: Final = 128
"""Reports in one update, which has to stay below 64 KiB."""
MAX_RTT: Final = 3600.0
MAX_SINCE: Final = 1e9
MAX_COUNT: Final = 2**31
_RTT_STEP: Final = 0.001
_RTT_PART: Final = 0.1


class Reports(NamedTuple):
    """What the next update bears."""

    paths: tuple[PathReport, ...] = ()
    failures: Mapping[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self.paths or self.failures)

    def then(self, later: "Reports") -> "Reports":
        """Joins reports that have not left yet with later ones; of each peer the later one counts."""
        by_peer = {report.peer: report for report in (*self.paths, *later.paths)}
        return Reports(tuple(by_peer.values())[-MAX_ENTRIES:], {**self.failures, **later.failures})


NOTHING_NEW: Final = Reports()


@dataclass(slots=True)
class _Told:
    """Last report of one peer's path, sent or owed."""

    kind: PathKind = PathKind.NONE
    since: float = float("-inf")
    rtt: float | None = None
    at: float = float("-inf")
    n_changes: int = 0
    base: int = 0
    """Changes that earlier connections have heard of."""
    is_owed: bool = False


class PathReporter:
    """Schedule of the reports of paths to the server, with what was last reported of each.

    Ask ``poll`` at ``due_at``; tell it of changes by ``handle_change``.
    """

    def __init__(self, now: float) -> None:
        self.due_at = now + LOOK
        """When to poll next."""
        self._told: dict[UUID, _Told] = {}
        self._sent_at = float("-inf")
        self._failures: dict[str, int] = {}
        self._failures_base: dict[str, int] = {}

    def handle_change(self, now: float) -> None:
        """Notes that a path has changed: it is reported after ``SETTLE`` seconds."""
        self._wake(now + SETTLE)

    def handle_joined(self, now: float) -> None:
        """Marks all reports as owed to a new connection, which knows none of the earlier ones."""
        for told in self._told.values():
            told.base = told.n_changes
            told.is_owed = told.kind is not PathKind.NONE
        self._failures_base = dict(self._failures)
        self._wake(now + SETTLE)

    def postpone(self, now: float) -> None:
        """Waits ``LOOK`` seconds more while no server is connected: ``handle_joined`` sets the next time."""
        self.due_at = now + LOOK

    def poll(self, paths: Iterable[PeerPath], failures: Mapping[str, int], now: float) -> Reports:
        """Returns what the server is owed now; ``failures`` are counts since the start, by cause."""
        if now < self._sent_at + INTERVAL:
            self.due_at = self._sent_at + INTERVAL
            return NOTHING_NEW
        seen = {each.peer: each for each in paths}
        self._told = {peer: told for peer, told in self._told.items() if peer in seen}
        news = [each for each in seen.values() if self._is_news(each, now)]
        reports = tuple(self._tell(each, now) for each in news[:MAX_AT_ONCE])
        failed = self._new_failures(failures, now, has_company=bool(reports))
        is_waiting = len(news) > MAX_AT_ONCE or any(map(self._lacks_rtt, seen.values()))
        self.due_at = now + (INTERVAL if is_waiting else LOOK)
        if reports or failed:
            self._sent_at = now
        return Reports(reports, failed)

    def _wake(self, at: float) -> None:
        self.due_at = min(self.due_at, max(at, self._sent_at + INTERVAL))

    def _is_news(self, current: PeerPath, now: float) -> bool:
        kind, told = _kind(current), self._told.get(current.peer)
        if told is None:
            return kind is not PathKind.NONE
        if told.is_owed or kind is not told.kind:
            return True
        if kind is PathKind.NONE:
            return False
        return current.path.since != told.since or _is_rtt_news(current.path.latency, told, now)

    def _tell(self, current: PeerPath, now: float) -> PathReport:
        kind, path = _kind(current), current.path
        told = self._told.setdefault(current.peer, _Told())
        is_new_path = path.since != told.since
        told.kind, told.since, told.rtt, told.at = kind, path.since, path.latency, now
        told.base = min(told.base, path.n_changes)
        told.n_changes, told.is_owed = path.n_changes, False
        is_direct = kind is PathKind.DIRECT
        return PathReport(
            peer=current.peer,
            path=kind.value,
            region=path.via if kind is PathKind.RELAY and isinstance(path.via, int) else 0,
            rtt=_bounded(path.latency, MAX_RTT) if kind is not PathKind.NONE else None,
            since=min(max(now - path.since, 0.0), MAX_SINCE),
            time_to_direct=_bounded(path.time_to_direct, MAX_RTT) if is_direct and is_new_path else None,
            n_changes=min(path.n_changes - told.base, MAX_COUNT),
        )

    def _lacks_rtt(self, current: PeerPath) -> bool:
        told = self._told.get(current.peer)
        return told is not None and told.rtt is None and _kind(current) is not PathKind.NONE

    def _new_failures(self, failures: Mapping[str, int], now: float, *, has_company: bool) -> dict[str, int]:
        if failures == self._failures or not (has_company or now >= self._sent_at + REFRESH):
            return {}
        self._failures = dict(failures)
        since = {cause: n - self._failures_base.get(cause, 0) for cause, n in failures.items()}
        return {cause: min(n, MAX_COUNT) for cause, n in since.items() if n > 0}


def _kind(current: PeerPath) -> PathKind:
    return current.path.kind if current.is_used else PathKind.NONE


def _is_rtt_news(rtt: float | None, told: _Told, now: float) -> bool:
    if rtt is None:
        return False
    if told.rtt is None:
        return True
    step = max(_RTT_STEP, _RTT_PART * told.rtt)
    return now >= told.at + REFRESH and abs(rtt - told.rtt) >= step


def _bounded(seconds: float | None, limit: float) -> float | None:
    return min(seconds, limit) if seconds is not None else None
