"""What a node owes its server."""

from uuid import UUID

from coderd.coordination.message import PathReport, PeerEntry, Peers, Ready, Update
from coderd.coordination.outbox import Outbox
from coderd.coordination.reporter import Reports
from coderd.model.reachability import NodeUpdate

PEER = UUID(int=1)
ENTRY = PeerEntry(PEER, "workspace", "ann/dev", "", "", "fd00::1", 999, 1)
HERE, THERE = NodeUpdate(999, ()), NodeUpdate(1, ())


def taken(outbox: Outbox) -> list[object]:
    found: list[object] = []
    while (message := outbox.take()) is not None:
        found.append(message)
    return found


def reports(path: str) -> Reports:
    return Reports((PathReport(peer=PEER, path=path),))


def test_only_the_newest_reachability_is_owed_and_only_if_it_is_news() -> None:
    outbox = Outbox(7)
    assert (outbox.update(HERE), outbox.update(THERE), outbox.update(THERE)) == (True, True, False)
    (message,) = taken(outbox)
    assert isinstance(message, Update)
    assert (message.home_region, message.generation) == (1, 7)


def test_reports_wait_for_the_first_reachability_and_leave_with_it_joined() -> None:
    outbox = Outbox(7)
    outbox.report(reports("relay"))
    outbox.report(reports("direct"))
    assert taken(outbox) == []
    outbox.update(HERE)
    (message,) = taken(outbox)
    assert isinstance(message, Update)
    assert [report.path for report in message.path_reports] == ["direct"]


def test_a_new_connection_is_told_the_reachability_again_and_nothing_else() -> None:
    outbox = Outbox(7)
    outbox.update(HERE)
    taken(outbox)
    outbox.report(reports("relay"))
    assert outbox.confirm(Peers(upsert=[ENTRY]))
    assert not outbox.confirm(Peers())

    outbox.handle_joined()

    (message,) = taken(outbox)
    assert isinstance(message, Update)
    assert message.path_reports == []


def test_peers_are_confirmed_after_the_reachability() -> None:
    outbox = Outbox(7)
    outbox.confirm(Peers(upsert=[ENTRY]))
    outbox.update(HERE)
    update, ready = taken(outbox)
    assert isinstance(update, Update)
    assert ready == Ready([PEER])
