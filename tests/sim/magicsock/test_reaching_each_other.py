"""Two nodes over a small internet: which path they find, how soon, and what happens when it dies. All on a virtual clock."""

import pytest

from coderd.model.paths import PathKind
from tests.sim.magicsock.internet import HOP, REGION, Internet, Node
from tests.sim.nat import Filtering, Mapping, Nat

OPEN = None
EASY_FULL = (Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
EASY_ADDRESS = (Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT)
EASY_PORT = (Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
HARD_ADDRESS = (Mapping.ADDRESS_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
HARD_PORT = (Mapping.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
KINDS = {
    "open": OPEN,
    "easy-full": EASY_FULL,
    "easy-address": EASY_ADDRESS,
    "easy-port": EASY_PORT,
    "hard-address": HARD_ADDRESS,
    "hard-port": HARD_PORT,
}
Kind = tuple[Mapping, Filtering] | None


def predicted(one: Kind, other: Kind) -> PathKind:
    """What RFC 4787's words promise."""
    hard = [kind for kind in (one, other) if kind is not None and kind[0] is not Mapping.ENDPOINT_INDEPENDENT]
    easy = [kind for kind in (one, other) if kind not in hard]
    if len(hard) == 2:
        return PathKind.RELAY
    if len(hard) == 1 and easy[0] is not None and easy[0][1] is Filtering.ADDRESS_AND_PORT_DEPENDENT:
        return PathKind.RELAY
    return PathKind.DIRECT


def two_nodes(one: Kind, other: Kind, seed: int = 1) -> tuple[Internet, Node, Node]:
    net = Internet(seed)
    a = net.add_node(
        "a", Nat("198.51.100.1", *one) if one else None, ip="10.0.1.2" if one else "198.51.100.1"
    )
    b = net.add_node(
        "b", Nat("203.0.113.1", *other) if other else None, ip="10.0.2.2" if other else "203.0.113.1"
    )
    net.start()
    return net, a, b


def kinds(a: Node, b: Node) -> tuple[PathKind, PathKind]:
    return a.conn.path(b.public).kind, b.conn.path(a.public).kind


def both_direct(a: Node, b: Node) -> bool:
    return kinds(a, b) == (PathKind.DIRECT, PathKind.DIRECT)


@pytest.mark.parametrize("other", KINDS)
@pytest.mark.parametrize("one", KINDS)
def test_the_predicted_path_is_found_within_a_second(one: str, other: str) -> None:
    net, a, b = two_nodes(KINDS[one], KINDS[other])
    net.run_until(lambda: a.told_at is not None and b.told_at is not None, 5)
    wanted = predicted(KINDS[one], KINDS[other])
    if wanted is PathKind.DIRECT:
        assert net.run_until(lambda: both_direct(a, b), 5) < 1.0
    else:
        net.run_for(10)
        assert kinds(a, b) == (PathKind.RELAY, PathKind.RELAY)


def test_data_flows_by_relay_before_any_direct_path_is_known() -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT)
    net.run_until(lambda: a.conn.path(b.public).kind is PathKind.RELAY, 1)
    sent_at = net.now
    net.send(a, b, b"first")
    net.run_until(lambda: bool(b.delivered), 1)
    assert b.delivered[0][0] == pytest.approx(sent_at + 2 * HOP)
    assert b.delivered[0][1] == "relay"


def test_no_datagram_is_lost_on_the_way_from_relay_to_direct() -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT)
    net.run_until(lambda: a.conn.path(b.public).kind is PathKind.RELAY, 1)
    numbers = iter(range(10**6))
    net.every(0.005, lambda: net.send(a, b, next(numbers).to_bytes(4, "big")))
    net.run_for(3)
    arrived = {data for _, _, data in b.delivered}
    n_sent = next(numbers)
    assert len(arrived) >= n_sent - 10
    assert {kind for _, kind, _ in b.delivered} == {"relay", "direct"}
    assert [kind for _, kind, _ in b.delivered][-1] == "direct"


@pytest.mark.parametrize("seed", range(8))
def test_a_lossy_network_delays_the_direct_path_but_does_not_prevent_it(seed: int) -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT, seed)
    net.lose(0.2)
    net.run_until(lambda: a.told_at is not None and b.told_at is not None, 10)
    assert net.run_until(lambda: both_direct(a, b), 20) < 6.0


def test_where_udp_is_blocked_the_relay_carries_everything() -> None:
    net = Internet()
    net.stun.is_cut = net.wire.is_cut = True
    a, b = net.add_node("a", None, ip="198.51.100.1"), net.add_node("b", None, ip="203.0.113.1")
    net.start()
    net.run_for(1)
    net.every(0.1, lambda: net.send(a, b, b"data"))
    net.run_for(30)
    assert a.conn.path(b.public).kind is PathKind.RELAY
    assert a.conn.path(b.public).via == REGION
    assert len(b.delivered) >= 295


def test_under_data_a_blocked_path_gives_way_to_the_relay_in_three_seconds() -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT)
    net.run_until(lambda: both_direct(a, b), 5)
    net.every(0.05, lambda: net.send(a, b, b"to b"))
    net.every(0.05, lambda: net.send(b, a, b"to a"))
    net.run_for(4)
    blocked_at = net.now
    net.wire.is_cut = True
    net.run_for(0.5)
    b.delivered.clear()
    net.run_until(lambda: bool(b.delivered), 10)
    assert b.delivered[0][1] == "relay"
    assert net.now - blocked_at < 3.3
    net.run_for(10)
    assert kinds(a, b) == (PathKind.RELAY, PathKind.RELAY)


def test_while_data_flows_a_released_firewall_is_noticed_within_a_round() -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT)
    net.wire.is_cut = True
    net.every(0.2, lambda: net.send(a, b, b"data"))
    net.run_for(60)
    assert kinds(a, b)[0] is PathKind.RELAY
    net.wire.is_cut = False
    assert net.run_until(lambda: a.conn.path(b.public).kind is PathKind.DIRECT, 20) < 5.5


def test_pings_alone_notice_a_released_firewall_within_two_seconds() -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT)
    net.wire.is_cut = True
    tokens = iter(range(1000))
    net.run_for(120)
    net.every(1.0, lambda: net.ping(a, b, next(tokens)))
    net.run_for(10.5)
    assert {reply.path.kind for _, reply in a.replies()} == {PathKind.RELAY}
    assert len(a.replies()) >= 10
    net.wire.is_cut = False
    assert net.run_until(lambda: a.replies()[-1][1].path.kind is PathKind.DIRECT, 20) < 1.6


def test_a_ping_is_answered_after_long_idleness_by_the_direct_path_at_once() -> None:
    net, a, b = two_nodes(EASY_PORT, OPEN)
    net.run_until(lambda: both_direct(a, b), 5)
    net.run_for(600)
    net.ping(a, b, 7)
    assert net.run_until(lambda: bool(a.replies()), 5) <= 4 * HOP + 1e-9


def test_a_path_that_cannot_carry_the_tunnels_packets_is_never_chosen() -> None:
    net, a, b = two_nodes(OPEN, OPEN)
    net.wire.largest = 1311
    net.every(0.2, lambda: net.send(a, b, b"data"))
    net.run_for(60)
    assert kinds(a, b) == (PathKind.RELAY, PathKind.RELAY)
    net.wire.largest = 1312
    assert net.run_until(lambda: a.conn.path(b.public).kind is PathKind.DIRECT, 20) < 5.5


def test_a_peer_that_restarts_is_direct_again_within_a_second() -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT)
    net.run_until(lambda: both_direct(a, b), 5)
    net.run_for(5)
    net.restart(b)
    assert net.run_until(lambda: both_direct(a, b) and net.now > 1005.2, 10) < 1.0


def test_a_change_of_network_finds_the_new_path_within_a_second() -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT)
    net.run_until(lambda: both_direct(a, b), 5)
    net.every(0.05, lambda: net.send(a, b, b"data"))
    net.run_for(5)
    a.nat, a.addr = Nat("198.51.100.77", *EASY_PORT), ("10.0.7.7", 41641)
    a.conn.set_local_endpoints(41641, None, [a.addr[0]], net.now)
    a.conn.handle_rebound(net.now)
    net.drain(a)
    assert kinds(a, b)[0] is PathKind.RELAY
    assert net.run_until(lambda: kinds(a, b)[0] is PathKind.DIRECT, 10) < 1.0


def test_an_idle_pair_falls_silent() -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT)
    net.run_until(lambda: both_direct(a, b), 5)
    net.run_for(120)
    a.n_sent.clear()
    b.n_sent.clear()
    net.run_for(600)
    assert a.n_sent.total() + b.n_sent.total() == 0


def is_narrow(one: Node, other: Node, net: Internet) -> bool:
    return one.conn.has_mtu_black_hole(other.public, net.now)


@pytest.mark.parametrize("kind", ["open", "easy-port"])
def test_a_way_too_narrow_for_the_tunnel_is_told_from_a_closed_one(kind: str) -> None:
    net, a, b = two_nodes(KINDS[kind], KINDS[kind])
    net.wire.largest = 1200
    net.every(1.0, lambda: net.send(a, b, b"data"))
    net.every(1.0, lambda: net.send(b, a, b"data"))
    net.run_for(25)
    assert kinds(a, b) == (PathKind.RELAY, PathKind.RELAY)
    assert is_narrow(a, b, net)
    assert is_narrow(b, a, net)
    net.wire.largest = 65535
    net.run_for(10)
    assert both_direct(a, b)
    assert not is_narrow(a, b, net)


def test_a_closed_way_is_not_taken_for_a_narrow_one() -> None:
    net, a, b = two_nodes(EASY_PORT, EASY_PORT)
    net.wire.is_cut = True
    net.every(1.0, lambda: net.send(a, b, b"data"))
    net.run_for(60)
    assert not is_narrow(a, b, net)
