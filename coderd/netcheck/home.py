"""Choosing the home region: the nearest over five minutes, and no move without a good reason.

Latencies are compared as whole nanoseconds, as upstream compares them, so that both clients of one map agree
on a tie.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from coderd.netcheck.report import Report

HISTORY = 305.0
"""Seconds that a report counts for: the full-report interval and a little."""
HEARD_RECENTLY = 8.0
"""Seconds for which a frame shows that a home is alive, whatever STUN says (Tailscale netcheck's
``PreferredDERPFrameTime``).
"""
HEARD_AT_ALL = 120.0
"""Seconds for which a frame shows that a home is alive while nothing can be measured.

Longer than a relay's keep-alive interval.
"""
_WORTH_MOVING_NS = 10_000_000
_NS = 1_000_000_000


class HomeQuestion(NamedTuple):
    """What the choice follows from, apart from the reports.

    Attributes:
        previous: the choice before, 0 for none.
        heard_at: when each region's relay last sent a frame.
        region_score: factors on regions' latencies; zero and less are ignored.
        forced: a region to have if it is alive; 0 for none.
        barred: regions that can be measured and not lived in: they have no relay, or none that answers.
    """

    previous: int = 0
    heard_at: Mapping[int, float] = MappingProxyType({})
    region_score: Mapping[int, float] = MappingProxyType({})
    forced: int = 0
    barred: frozenset[int] = frozenset()


def choose_home(report: Report, history: Iterable[Report], question: HomeQuestion) -> int:
    """Chooses the home region after a report; 0 if there is nothing to go by.

    Args:
        report: the newest; only regions that it measured can be chosen anew.
        history: earlier reports; those older than 305 s are passed over.
        question: the rest.
    """
    best = _best_recent([*_recent(history, report.taken_at), report], question.region_score)
    candidates = sorted(report.region_latency.keys() - question.barred)
    pick = min(candidates, key=lambda region_id: best[region_id], default=0)
    previous = question.previous
    if pick == 0:
        pick = previous if _heard_within(HEARD_AT_ALL, previous, report, question) else 0
    elif previous not in (0, pick) and _is_alive(previous, report, question):
        old = _scored(report, question.region_score).get(previous, 0)
        if not _is_worth_moving(old, best[pick]):
            pick = previous
    if question.forced and _is_alive(question.forced, report, question):
        return question.forced
    return pick


def _is_worth_moving(old: int, new: int) -> bool:
    """At least 10 ms nearer, and at most two thirds as far.

    A home heard but not measured (0) is never left.
    """
    return old - new >= _WORTH_MOVING_NS and new <= old // 3 * 2


def _is_alive(region_id: int, report: Report, question: HomeQuestion) -> bool:
    """Measured in this report, or heard since it started, or heard a moment ago; and not barred."""
    if region_id in question.barred:
        return False
    if region_id in report.region_latency:
        return True
    heard_at = question.heard_at.get(region_id)
    if heard_at is not None and heard_at >= report.started_at:
        return True
    return _heard_within(HEARD_RECENTLY, region_id, report, question)


def _heard_within(seconds: float, region_id: int, report: Report, question: HomeQuestion) -> bool:
    heard_at = question.heard_at.get(region_id)
    return region_id != 0 and heard_at is not None and report.taken_at - heard_at < seconds


def _recent(history: Iterable[Report], now: float) -> list[Report]:
    return [report for report in history if now - report.taken_at <= HISTORY]


def _scored(report: Report, region_score: Mapping[int, float]) -> dict[int, int]:
    """Nanoseconds times score, per region."""
    scored: dict[int, int] = {}
    for region_id, seconds in report.region_latency.items():
        nanoseconds = round(seconds * _NS)
        score = region_score.get(region_id, 1.0)
        scored[region_id] = int(nanoseconds * score) if score > 0 else nanoseconds
    return scored


def _best_recent(reports: Iterable[Report], region_score: Mapping[int, float]) -> dict[int, int]:
    best: dict[int, int] = {}
    for report in reports:
        for region_id, scored in _scored(report, region_score).items():
            best[region_id] = min(scored, best.get(region_id, scored))
    return best
