"""What a node tells of its paths: batched, once, and nothing while nothing happens."""

from uuid import UUID

from coderd.coordination.message import PathReport
from coderd.coordination.reporter import INTERVAL, LOOK, MAX_AT_ONCE, REFRESH, SETTLE, PathReporter, Reports
from coderd.model.paths import PathInfo, PathKind
from coderd.model.reachability import PeerPath

DEV, LAB = UUID(int=1), UUID(int=2)


def seen(
    kind: PathKind,
    since: float,
    *,
    rtt: float | None = 0.02,
    peer: UUID = DEV,
    is_used: bool = True,
    n_changes: int = 0,
    time_to_direct: float | None = None,
) -> PeerPath:
    via = 999 if kind is PathKind.RELAY else ("192.0.2.1", 1) if kind is PathKind.DIRECT else None
    return PeerPath(peer, PathInfo(kind, via, rtt, since, time_to_direct, n_changes), is_used)


def test_a_relayed_path_that_soon_becomes_direct_is_one_report() -> None:
    reporter = PathReporter(0.0)
    reporter.handle_change(1.0)
    reporter.handle_change(1.3)
    assert reporter.due_at == 1.0 + SETTLE
    (report,) = reporter.poll([seen(PathKind.DIRECT, 1.3, n_changes=1, time_to_direct=0.3)], {}, 2.0).paths
    assert (report.peer, report.path, report.rtt, report.since) == (DEV, "direct", 0.02, 2.0 - 1.3)
    assert (report.time_to_direct, report.n_changes) == (0.3, 1)


def test_reports_keep_their_distance() -> None:
    reporter = PathReporter(0.0)
    assert reporter.poll([seen(PathKind.RELAY, 0.0)], {}, 1.0)
    reporter.handle_change(2.0)
    assert reporter.due_at == 1.0 + INTERVAL
    assert not reporter.poll([seen(PathKind.DIRECT, 2.0)], {}, 3.0)
    assert reporter.poll([seen(PathKind.DIRECT, 2.0)], {}, 1.0 + INTERVAL)


def test_an_idle_node_says_nothing() -> None:
    reporter = PathReporter(0.0)
    idle = [seen(PathKind.RELAY, 0.0, is_used=False)]
    assert not any(reporter.poll(idle, {}, 20.0 * n) for n in range(100))
    used = [seen(PathKind.RELAY, 0.0)]
    assert reporter.poll(used, {}, 2000.0)
    assert not any(reporter.poll(used, {}, 2000.0 + 20 * n) for n in range(1, 100))
    (report,) = reporter.poll(idle, {}, 5000.0).paths
    assert (report.path, report.rtt) == ("none", None)
    assert not reporter.poll(idle, {}, 6000.0)


def test_a_round_trip_is_told_when_first_known_and_then_once_a_minute_if_it_is_another() -> None:
    reporter = PathReporter(0.0)
    assert reporter.poll([seen(PathKind.RELAY, 0.0, rtt=None)], {}, 0.0)
    assert reporter.due_at == INTERVAL
    assert reporter.poll([seen(PathKind.RELAY, 0.0, rtt=0.02)], {}, INTERVAL).paths[0].rtt == 0.02
    assert reporter.due_at == INTERVAL + LOOK
    for now, rtt, is_told in (
        (INTERVAL + 30, 0.2, False),
        (INTERVAL + REFRESH, 0.0205, False),
        (INTERVAL + REFRESH, 0.2, True),
    ):
        assert bool(reporter.poll([seen(PathKind.RELAY, 0.0, rtt=rtt)], {}, now)) is is_told


def test_time_to_direct_is_told_once_for_each_direct_path() -> None:
    reporter = PathReporter(0.0)
    first = [seen(PathKind.DIRECT, 1.0, time_to_direct=0.3)]
    assert reporter.poll(first, {}, 2.0).paths[0].time_to_direct == 0.3
    reporter.handle_joined(50.0)
    assert reporter.poll(first, {}, 60.0).paths[0].time_to_direct is None
    second = [seen(PathKind.DIRECT, 70.0, time_to_direct=0.5)]
    assert reporter.poll(second, {}, 80.0).paths[0].time_to_direct == 0.5


def test_a_new_connection_hears_all_again_and_counts_only_what_is_new() -> None:
    reporter = PathReporter(0.0)
    assert reporter.poll([seen(PathKind.DIRECT, 1.0, n_changes=3)], {"refused": 2}, 2.0).failures == {
        "refused": 2
    }
    reporter.handle_joined(10.0)
    assert reporter.due_at == 10.0 + SETTLE
    told = reporter.poll([seen(PathKind.DIRECT, 1.0, n_changes=4)], {"refused": 5}, 11.0)
    assert told.paths[0].n_changes == 1
    assert told.failures == {"refused": 3}


def test_failures_wait_for_company_or_a_minute() -> None:
    reporter = PathReporter(0.0)
    assert reporter.poll([], {"mac1": 1}, 0.0).failures == {"mac1": 1}
    assert not reporter.poll([], {"mac1": 2}, 30.0)
    assert reporter.poll([], {"mac1": 2}, 60.0).failures == {"mac1": 2}
    assert reporter.poll([seen(PathKind.RELAY, 0.0)], {"mac1": 3}, 70.0).failures == {"mac1": 3}


def test_what_has_not_left_yet_goes_with_the_next_and_the_newest_counts() -> None:
    first = Reports((PathReport(DEV, "relay"), PathReport(LAB, "relay")), {"mac1": 1})
    both = first.then(Reports((PathReport(DEV, "direct"),), {"mac1": 2, "refused": 1}))
    assert {report.peer: report.path for report in both.paths} == {DEV: "direct", LAB: "relay"}
    assert both.failures == {"mac1": 2, "refused": 1}


def test_many_peers_are_told_in_parts() -> None:
    reporter = PathReporter(0.0)
    many = [seen(PathKind.RELAY, 0.0, peer=UUID(int=n)) for n in range(MAX_AT_ONCE + 10)]
    first = reporter.poll(many, {}, 1.0).paths
    assert reporter.due_at == 1.0 + INTERVAL
    second = reporter.poll(many, {}, 1.0 + INTERVAL).paths
    assert (len(first), len(second)) == (MAX_AT_ONCE, 10)
    assert {report.peer for report in (*first, *second)} == {peer.peer for peer in many}
