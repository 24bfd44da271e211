"""What WireGuard does when, on a perfect wire and a virtual clock: every timer of the protocol."""

from itertools import pairwise

import pytest

from coderd.wireguard import HandshakeCompleted, SessionExpired
from tests.sim.net import Wire
from tests.sim.wireguard.net import INITIATION, RESPONSE, TRANSPORT, Net
from tests.unit.wireguard.support import take_datagrams


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def connected(net: Net) -> Net:
    """A session that ``a`` initiated at 0 and that carried one packet each way."""
    net.send("a", 1)
    net.run_until(0.1)
    net.send("b", 1)
    net.run_until(0.2)
    return net


def test_a_silent_peer_gets_twenty_initiations_and_then_no_more() -> None:
    net = Net(wire=Wire(is_cut=True))
    net.send("a", 1)
    net.run_until(2000.0)
    sent = net.seen("a", INITIATION)
    gaps = [later - earlier for earlier, later in pairwise(sent)]
    assert len(sent) == 20
    assert all(5.0 <= gap < 5.334 for gap in gaps)
    assert 95.0 <= sent[-1] <= 101.4
    assert len({seen.data[4:40] for seen in net.eve}) == 20  # each with its own index and ephemeral key
    assert net.a.device.status(net.now).peers[0].n_staged == 0
    net.send("a", 2)
    assert len(net.seen("a", INITIATION)) == 21


def test_what_was_staged_arrives_when_the_peer_comes_back_in_time() -> None:
    net = Net(wire=Wire(is_cut=True))
    for number in range(10):
        net.send("a", number)
    net.run_until(80.0)
    net.wire.is_cut = False
    net.run_until(90.0)
    assert list(net.delivered("b")) == list(range(10))


def test_a_receiver_with_nothing_to_say_answers_once_after_ten_seconds(net: Net) -> None:
    net.send("a", 1)
    net.run_until(60.0)
    (keepalive,) = net.keepalives("b")
    data = net.seen("a", TRANSPORT)[-1]
    assert keepalive == pytest.approx(data + 10.0 + net.wire.delay)
    assert net.keepalives("a") == []  # a keepalive is not answered


def test_steady_one_way_data_is_answered_every_ten_seconds(net: Net) -> None:
    for second in range(60):
        net.at(float(second), lambda: net.send("a"))
    net.run_until(100.0)
    times = net.keepalives("b")
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == 7  # the last for what came after the sixth was planned
    assert gaps == pytest.approx([10.0] * 6, abs=0.1)


def test_data_without_any_answer_starts_a_handshake_after_fifteen_seconds(connected: Net) -> None:
    connected.wire.is_cut = True
    connected.run_until(20.0)
    connected.send("a", 2)
    connected.run_until(60.0)
    again = connected.seen("a", INITIATION)[1]
    assert 35.0 <= again <= 35.334


def test_only_the_initiator_renews_and_only_when_it_sends(connected: Net) -> None:
    connected.at(125.0, lambda: connected.send("b", 2))
    connected.run_until(130.0)
    assert len(connected.seen("a", INITIATION)) == 1
    connected.send("a", 2)
    connected.run_until(131.0)
    assert len(connected.seen("a", INITIATION)) == 2
    assert connected.seen("b", INITIATION) == []
    assert connected.delivered("b")[2] == 1


def test_an_initiator_that_only_receives_renews_with_its_keepalive(net: Net) -> None:
    net.send("a", 1)
    for second in range(1, 178):
        net.at(float(second) + 0.5, lambda: net.send("b"))
    net.run_until(164.0)
    assert len(net.seen("a", INITIATION)) == 2
    assert 120.0 < net.seen("a", INITIATION)[1] < 131.0


def test_an_initiator_that_hears_of_an_old_session_renews_it_in_the_last_minute(connected: Net) -> None:
    connected.run_until(166.0)
    connected.send("b", 2)
    connected.run_until(166.05)
    assert connected.seen("a", INITIATION)[1:] == [pytest.approx(166.02)]


def test_a_session_of_three_minutes_carries_nothing_more(connected: Net) -> None:
    connected.run_until(179.9)
    assert connected.b.device.status(connected.now).peers[0].has_session
    connected.run_until(181.0)
    assert not connected.b.device.status(connected.now).peers[0].has_session
    connected.send("b", 2)
    connected.run_until(182.0)
    assert len(connected.seen("b", INITIATION)) == 1
    assert connected.delivered("a")[2] == 1


def test_keys_are_destroyed_after_nine_minutes_and_it_is_said(connected: Net) -> None:
    connected.run_until(539.0)
    assert connected.a.events_of(SessionExpired) == []
    connected.run_until(541.0)
    for node in (connected.a, connected.b):
        assert len(node.events_of(SessionExpired)) == 1
        assert len(node.device._local.indices) == 0
        assert node.device.poll_timeout() is None


def test_a_persistent_keepalive_counts_from_the_last_authentic_packet_either_way(connected: Net) -> None:
    key = connected.b.key.public()
    connected.command("a", lambda device: device.set_peer(key, connected.now, persistent_keepalive=25))
    connected.run_until(0.3)
    assert len(connected.keepalives("a")) == 1
    connected.run_until(20.0)
    connected.send("b", 2)
    connected.run_until(45.0)
    # the answer to that packet, at 30.02, pushed it out; it comes at 55.02
    assert connected.keepalives("a")[1:] == [pytest.approx(30.02)]
    connected.run_until(56.0)
    assert connected.keepalives("a")[2:] == [pytest.approx(55.02)]


@pytest.mark.slow
def test_a_persistent_keepalive_keeps_a_tunnel_alive_for_a_day() -> None:
    net = Net()
    key = net.b.key.public()
    net.command("a", lambda device: device.set_peer(key, 0.0, persistent_keepalive=25))
    net.run_until(86_400.0)
    completed = net.a.events_of(HandshakeCompleted)
    assert completed[0] < 1.0
    assert max(later - earlier for earlier, later in pairwise(completed)) < 160.0
    assert net.a.device.status(net.now).peers[0].has_session


def test_a_persistent_keepalive_goes_on_trying_to_reach_a_peer_that_is_gone() -> None:
    net = Net(wire=Wire(is_cut=True))
    key = net.b.key.public()
    net.command("a", lambda device: device.set_peer(key, 0.0, persistent_keepalive=25))
    net.run_until(3600.0)
    net.wire.is_cut = False
    net.run_until(3640.0)
    assert net.a.device.status(net.now).peers[0].has_session


def test_crossing_initiations_complete_in_one_round_trip(net: Net) -> None:
    net.send("a", 1)
    net.send("b", 1)
    net.run_until(1.0)
    assert (net.delivered("a")[1], net.delivered("b")[1]) == (1, 1)
    assert (len(net.seen("a", INITIATION)), len(net.seen("b", INITIATION))) == (1, 1)
    for number in range(2, 200):
        net.send("a", number)
        net.send("b", number)
        net.run_until(net.now + 1.0)
    assert set(net.delivered("a").values()) == set(net.delivered("b").values()) == {1}
    assert len(net.delivered("a")) == len(net.delivered("b")) == 199


def test_a_lost_response_is_made_up_for_after_five_seconds(net: Net) -> None:
    net.wire.is_cut = True
    net.send("a", 1)
    net.wire.is_cut = False
    net.run_until(6.0)
    assert len(net.seen("a", INITIATION)) == 2
    assert net.delivered("b") == {1: 1}


def test_a_responder_whose_initiator_vanished_asks_again_by_itself(net: Net) -> None:
    net.send("a", 1)
    net.run_until(0.03)
    net.wire.is_cut = True
    net.send("b", 1)
    net.run_until(0.5)
    net.restart("a")
    net.wire.is_cut = False
    net.run_until(6.0)
    assert len(net.seen("b", RESPONSE)) == 1
    assert net.delivered("a") == {1: 1}


def test_a_peer_that_restarted_is_back_within_a_round_trip_once_it_is_known(connected: Net) -> None:
    connected.run_until(30.0)
    connected.restart("b")
    key = connected.b.key.public()
    connected.command("a", lambda device: device.forget_sessions(key, connected.now))
    connected.command("a", lambda device: device.initiate(key, connected.now, connected.unix))
    connected.send("a", 7)
    connected.run_until(30.1)
    assert connected.delivered("b") == {7: 1}


def test_a_peer_that_restarted_unnoticed_is_back_within_twenty_seconds(connected: Net) -> None:
    connected.run_until(30.0)
    connected.restart("b")
    for second in range(30, 60):
        connected.at(float(second), lambda: connected.send("a", 7))
    connected.run_until(51.0)
    assert connected.delivered("b")[7] > 0


def test_the_wall_clock_may_step_back_without_locking_us_out(connected: Net) -> None:
    connected.run_until(300.0)
    connected.command("a", lambda device: device.initiate(connected.b.key.public(), 300.0, 1000.0))
    connected.run_until(301.0)
    assert connected.b.events_of(HandshakeCompleted)[-1] > 300.0
    assert take_datagrams(connected.a.device) == []
