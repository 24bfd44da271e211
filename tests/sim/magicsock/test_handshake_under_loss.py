"""Handshakes over a path that was just found, while UDP loses three datagrams of ten: no first handshake waits five seconds."""

from coderd.model.paths import PathKind
from tests.sim.magicsock.internet import HOP, Internet, Node
from tests.sim.nat import Filtering, Mapping, Nat

EASY = (Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)
INITIATION = b"\1\0\0\0" + bytes(144)
N_TRIALS = 40


def just_direct(seed: int, loss: float) -> tuple[Internet, Node, Node]:
    net = Internet(seed)
    net.lose(loss)
    a = net.add_node("a", Nat("198.51.100.1", *EASY), ip="10.0.1.2")
    b = net.add_node("b", Nat("203.0.113.1", *EASY), ip="10.0.2.2")
    net.start()
    net.run_until(lambda: a.conn.path(b.public).kind is PathKind.DIRECT, 60)
    return net, a, b


def handshake(net: Internet, sender: Node, to: Node) -> list[str]:
    """One initiation, 148 bytes; the kinds of path that copies of it arrived by."""
    sender.conn.send(to.public, [INITIATION], len(INITIATION), net.now, is_handshake=True)
    net.drain(sender)
    to.delivered.clear()
    net.run_for(4 * HOP)
    return [kind for _, kind, datagram in to.delivered if datagram == INITIATION]


def test_no_first_handshake_is_lost_however_bad_udp_is() -> None:
    arrivals = []
    for seed in range(N_TRIALS):
        net, a, b = just_direct(seed, loss=0.3)
        assert a.conn.path(b.public).kind is PathKind.DIRECT
        arrivals.append(handshake(net, a, b))
    assert all("relay" in kinds for kinds in arrivals)
    n_direct = sum("direct" in kinds for kinds in arrivals)
    assert 0.5 * N_TRIALS < n_direct < 0.9 * N_TRIALS  # what would have been all, without the relay


def test_a_handshake_over_a_settled_path_goes_straight_alone() -> None:
    net, a, b = just_direct(1, loss=0.0)
    net.every(0.1, lambda: net.send(a, b, b"data"))
    net.every(0.1, lambda: net.send(b, a, b"data"))
    net.run_for(12)
    assert handshake(net, a, b) == ["direct"]


def test_data_goes_straight_alone_from_the_first() -> None:
    net, a, b = just_direct(1, loss=0.0)
    b.delivered.clear()
    net.send(a, b, b"data")
    net.run_for(1)
    assert {kind for _, kind, _ in b.delivered} == {"direct"}
