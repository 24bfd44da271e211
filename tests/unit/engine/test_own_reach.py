"""Where this node can be reached: what is done about each finding, and what the server is told."""

from coderd.engine.commands import ListenAt, TellServer
from coderd.engine.handshake_failures import handshake_failures
from coderd.engine.own_reach import OwnReach
from coderd.magicsock import EndpointsChanged, HomeChanged, NetcheckDone
from coderd.metrics import Counters
from coderd.model.reachability import NodeUpdate
from coderd.netcheck import Report

ADDR = ("198.51.100.1", 41641)


def test_a_new_home_is_listened_at_before_the_server_is_told() -> None:
    reach = OwnReach()
    assert reach.handle(HomeChanged(7)) == [ListenAt(7), TellServer(NodeUpdate(7, (), {}))]
    assert reach.home_region == 7


def test_the_server_is_told_all_that_is_known_each_time() -> None:
    reach = OwnReach()
    reach.handle(HomeChanged(7))
    done = NetcheckDone(Report(1.0, 2.0, region_latency={7: 0.02}))
    assert reach.handle(done) == [done, TellServer(NodeUpdate(7, (), {7: 0.02}))]
    changed = EndpointsChanged(((ADDR, 2),))
    assert reach.handle(changed) == [TellServer(NodeUpdate(7, ((ADDR, 2),), {7: 0.02}))]
    assert reach.endpoints == (ADDR,)
    assert reach.report is done.report


def test_only_causes_that_occurred_are_counted() -> None:
    counters = Counters({"wireguard.gave_up": 2, "wireguard.drop.malformed": 3})
    assert handshake_failures(counters) == {"no_answer": 2}
