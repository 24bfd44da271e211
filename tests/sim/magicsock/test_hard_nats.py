"""Nodes behind NATs that give each flow a port of its own: in sequence, which is foretold, or at random."""

from itertools import combinations_with_replacement

import pytest
from lab import topology as words
from lab.topology import NAT_KINDS
from oracle import predict_nats

from coderd.magicsock import NetcheckDone
from coderd.model.paths import PathKind
from tests.sim.magicsock.internet import HOP, Internet, Node
from tests.sim.nat import Filtering, Mapping, Nat

EIM, APDM = Mapping.ENDPOINT_INDEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT
SEQUENTIAL_PAIRS = [
    (one, other)
    for one, other in combinations_with_replacement(NAT_KINDS, 2)
    if NAT_KINDS[one].sequential or NAT_KINDS[other].sequential
]
BY_PORT, BY_ADDRESS = Filtering.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_DEPENDENT


def two_nodes(one: Nat, other: Nat, seed: int = 1, *, birthday: bool = False) -> tuple[Internet, Node, Node]:
    net = Internet(seed)
    a = net.add_node("a", one, ip="10.0.1.2", plays_birthday=birthday)
    b = net.add_node("b", other, ip="10.0.2.2", plays_birthday=birthday)
    net.start()
    return net, a, b


def a_nat(mapping: Mapping, filtering: Filtering, step: int | None = None) -> Nat:
    return Nat("198.51.100.1", mapping, filtering, step)


def b_nat(mapping: Mapping, filtering: Filtering, step: int | None = None) -> Nat:
    return Nat("203.0.113.1", mapping, filtering, step)


def kinds(a: Node, b: Node) -> tuple[PathKind, PathKind]:
    return a.conn.path(b.public).kind, b.conn.path(a.public).kind


def both_direct(a: Node, b: Node) -> bool:
    return kinds(a, b) == (PathKind.DIRECT, PathKind.DIRECT)


def of_kind(ip: str, kind: words.Nat, step: int) -> Nat:
    """The oracle's words in those of this internet."""
    mapping, filtering = Mapping[kind.mapping.name], Filtering[kind.filtering.name]
    return Nat(ip, mapping, filtering, step if kind.sequential else None)


@pytest.mark.parametrize(("one", "other"), SEQUENTIAL_PAIRS)
def test_every_pair_with_sequential_ports_ends_as_the_oracle_says(one: str, other: str) -> None:
    kinds_of = NAT_KINDS[one], NAT_KINDS[other]
    net, a, b = two_nodes(of_kind("198.51.100.1", kinds_of[0], 1), of_kind("203.0.113.1", kinds_of[1], 256))
    net.every(0.2, lambda: net.send(a, b, b"data"))
    if predict_nats(*kinds_of) == "direct":
        assert net.run_until(lambda: both_direct(a, b), 5) < 1.0
    else:
        net.run_for(10)
        assert kinds(a, b) == (PathKind.RELAY, PathKind.RELAY)


@pytest.mark.parametrize("step", [1, 2, 256, -1])
def test_a_sequential_nat_opens_towards_a_port_that_is_known(step: int) -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT, step), b_nat(EIM, BY_PORT))
    net.run_until(lambda: a.told_at is not None and b.told_at is not None, 5)
    assert net.run_until(lambda: both_direct(a, b), 10) < 2.0
    net.every(0.05, lambda: net.send(a, b, b"to b"))
    net.every(0.05, lambda: net.send(b, a, b"to a"))
    net.run_for(25)
    assert both_direct(a, b)
    assert {kind for _, kind, _ in (a.delivered + b.delivered)[-100:]} == {"direct"}
    assert len(a.spare) == 1


@pytest.mark.parametrize("seed", range(40))
def test_a_path_that_was_found_by_a_spare_socket_stays_whenever_the_servers_answer(seed: int) -> None:
    """Ports that come at random foretell nothing: the socket that was to find them out may be in use by then."""
    net = Internet(seed)
    net.stun.delay, net.wire.jitter = HOP * (1 + seed % 8 / 4), HOP / 4
    a = net.add_node("a", a_nat(APDM, BY_PORT), ip="10.0.1.2", plays_birthday=False)
    b = net.add_node("b", None, ip="203.0.113.1")
    net.start()
    net.wire.is_cut = True
    net.run_until(lambda: bool(a.spare), 5)
    net.wire.is_cut = False
    net.every(0.05, lambda: net.send(a, b, b"data"))
    net.run_until(lambda: kinds(a, b)[0] is PathKind.DIRECT, 10)
    lost = 0
    for _ in range(2000):
        net.run_for(0.005)
        lost += kinds(a, b)[0] is not PathKind.DIRECT
    assert lost == 0


def test_a_row_towards_an_address_that_is_no_longer_the_best_is_begun_anew() -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT, 1), b_nat(EIM, BY_PORT))
    told = b.endpoints
    b.endpoints = (("10.9.9.9", 41641),)
    net.coordinate(b)
    net.run_until(lambda: bool(a.spare), 5)
    b.endpoints = told
    assert net.run_until(lambda: both_direct(a, b), 5) < 0.5


@pytest.mark.parametrize("other", [b_nat(APDM, BY_PORT), b_nat(APDM, BY_PORT, 1), b_nat(APDM, BY_ADDRESS, 2)])
def test_a_sequential_nat_that_filters_by_address_opens_towards_any(other: Nat) -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_ADDRESS, 2), other)
    net.every(0.2, lambda: net.send(a, b, b"data"))
    assert net.run_until(lambda: both_direct(a, b), 20) < 4.0


@pytest.mark.parametrize("step", [None, 1])
def test_two_nats_that_filter_by_port_and_vary_stay_relayed_and_the_sockets_are_closed(
    step: int | None,
) -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT, step), b_nat(APDM, BY_PORT))
    net.every(0.2, lambda: net.send(a, b, b"data"))
    net.run_for(60)
    assert kinds(a, b) == (PathKind.RELAY, PathKind.RELAY)
    assert len(a.spare) <= 2
    assert len(b.spare) == 0


@pytest.mark.parametrize("seed", range(6))
def test_loss_delays_foretelling_but_does_not_prevent_it(seed: int) -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT, 1), b_nat(EIM, BY_PORT), seed)
    net.lose(0.1)
    net.every(0.2, lambda: net.send(a, b, b"data"))
    assert net.run_until(lambda: both_direct(a, b), 60) < 30


def test_a_change_of_network_finds_a_way_through_the_new_sequential_nat() -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT, 1), b_nat(EIM, BY_PORT))
    net.every(0.1, lambda: net.send(a, b, b"data"))
    net.run_until(lambda: both_direct(a, b), 10)
    net.run_for(5)
    a.nat, a.addr = Nat("198.51.100.77", APDM, BY_PORT, 2), ("10.0.7.7", 41641)
    a.conn.set_local_endpoints(41641, None, [a.addr[0]], net.now)
    a.conn.handle_rebound(net.now)
    net.drain(a)
    assert kinds(a, b)[0] is PathKind.RELAY
    assert net.run_until(lambda: kinds(a, b)[0] is PathKind.DIRECT, 10) < 2.0


def test_after_long_idleness_a_sequential_nat_is_opened_anew() -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT, 1), b_nat(EIM, BY_PORT))
    net.run_until(lambda: both_direct(a, b), 10)
    net.run_for(600)
    assert not a.spare
    net.every(0.1, lambda: net.send(a, b, b"data"))
    assert net.run_until(lambda: both_direct(a, b), 10) < 2.0


@pytest.mark.parametrize("seed", range(4))
def test_a_birthday_finds_a_random_port_within_five_seconds(seed: int) -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT), b_nat(EIM, BY_PORT), seed, birthday=True)
    net.every(0.2, lambda: net.send(a, b, b"data"))
    assert net.run_until(lambda: both_direct(a, b), 20) < 5.0
    net.run_for(30)
    assert both_direct(a, b)
    assert len(a.spare) == 1


def test_without_the_wish_nobody_plays() -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT), b_nat(EIM, BY_PORT))
    net.every(0.2, lambda: net.send(a, b, b"data"))
    most = 0
    for _ in range(100):
        net.run_for(0.2)
        most = max(most, len(a.spare), len(b.spare))
    assert kinds(a, b) == (PathKind.RELAY, PathKind.RELAY)
    assert most <= 1


def test_two_random_nats_do_not_play() -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT), b_nat(APDM, BY_PORT), birthday=True)
    net.every(0.2, lambda: net.send(a, b, b"data"))
    net.run_for(30)
    assert max(len(a.spare), len(b.spare)) <= 1
    assert a.n_sent["direct"] + b.n_sent["direct"] < 600


def test_a_failed_birthday_is_not_repeated_for_two_minutes() -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT), b_nat(EIM, BY_PORT), birthday=True)
    net.wire.is_cut = True
    net.every(0.2, lambda: net.send(a, b, b"data"))
    net.run_for(60)
    before = b.n_sent["direct"]
    assert 1024 <= before < 1024 + 300
    assert not a.spare
    net.run_for(55)
    assert b.n_sent["direct"] - before < 300
    net.run_for(15)
    assert b.n_sent["direct"] - before > 1024


def test_the_foretold_ports_arrive_within_four_round_trips_of_the_report() -> None:
    net, a, b = two_nodes(a_nat(APDM, BY_PORT, 1), b_nat(EIM, BY_PORT))
    net.run_until(lambda: any(isinstance(event, NetcheckDone) for _, event in a.events), 5)
    assert net.run_until(lambda: both_direct(a, b), 5) < 4 * 2 * HOP + 0.3
