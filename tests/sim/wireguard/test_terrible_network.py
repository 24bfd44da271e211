"""Two devices over a wire that loses, reorders, duplicates and moves: data goes on, each packet arrives at most once."""

from functools import partial

import pytest

from coderd.wireguard import HandshakeCompleted
from tests.sim.net import Wire
from tests.sim.wireguard.net import INITIATION, Net, sources_of
from tests.unit.wireguard.support import Source

SEEDS = [2, 19, 34]


def traffic(net: Net, until: int, every: float = 0.5) -> int:
    """Plans numbered packets both ways; returns how many each side sends."""
    n = int(until / every)
    for number in range(n):
        net.at(number * every, partial(net.send, "a", number))
        net.at(number * every + 0.1, partial(net.send, "b", number))
    return n


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lossy_wire_costs_what_it_loses_and_no_packet_comes_twice(seed: int) -> None:
    net = Net(seed=seed, wire=Wire(loss=0.2, duplicate=0.2, delay=0.05, jitter=0.8))
    n = traffic(net, 1000)
    net.run_until(1100.0)
    for name in "ab":
        delivered = net.delivered(name)
        assert set(delivered.values()) == {1}
        assert len(delivered) > 0.7 * n


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_reordering_wire_loses_nothing(seed: int) -> None:
    net = Net(seed=seed, wire=Wire(delay=0.01, jitter=2.0, duplicate=0.3))
    n = traffic(net, 600, every=0.1)
    net.run_until(700.0)
    for name in "ab":
        assert net.delivered(name) == dict.fromkeys(range(n), 1)


@pytest.mark.slow
def test_a_perfect_wire_loses_nothing_through_fifty_rekeys() -> None:
    net = Net()
    n = traffic(net, 6000, every=1.0)
    net.run_until(6100.0)
    assert len(net.seen("a", INITIATION)) + len(net.seen("b", INITIATION)) >= 50
    for name in "ab":
        assert net.delivered(name) == dict.fromkeys(range(n), 1)


@pytest.mark.slow
def test_a_tunnel_recovers_from_any_cut() -> None:
    net = Net(seed=5)
    traffic(net, 1500)
    for start in (100, 400, 700):
        net.at(float(start), lambda: setattr(net.wire, "is_cut", True))
        net.at(float(start) + start / 4, lambda: setattr(net.wire, "is_cut", False))
    net.run_until(1500.0)
    for name in "ab":
        assert net.delivered(name)[2900] == 1
        assert set(net.delivered(name).values()) == {1}


def test_a_peer_that_moves_is_followed_by_its_first_packet() -> None:
    net = Net()
    traffic(net, 100)
    first, second = net.a.source, Source(b"\x0a\0\0z\x20\x02")
    net.at(50.05, lambda: setattr(net.a, "source", second))
    net.run_until(100.0)
    assert sources_of(net.b) == [first, second]
    assert len(net.b.events_of(HandshakeCompleted)) == 1


def test_a_forger_moves_nobody() -> None:
    net = Net()
    traffic(net, 10)
    forger = Source(b"forger")
    net.run_until(5.09)  # nothing is on its way
    for seen in list(net.eve):
        if seen.sender == "a":
            damaged = seen.data[:-1] + bytes([seen.data[-1] ^ 1])
            net.b.device.handle_datagrams(forger, [seen.data, damaged], net.now, net.unix)
    net.run_until(11.0)
    assert forger not in sources_of(net.b)


def test_the_same_seed_gives_the_same_wire_bit_for_bit() -> None:
    def run(seed: int) -> list[tuple[float, str, bytes]]:
        net = Net(seed=seed, wire=Wire(loss=0.3, duplicate=0.1, jitter=0.5))
        traffic(net, 200)
        net.run_until(300.0)
        return [(seen.at, seen.sender, seen.data) for seen in net.eve]

    assert run(7) == run(7)
    assert run(7) != run(8)
