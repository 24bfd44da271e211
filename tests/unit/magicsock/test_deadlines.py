"""Deadlines against the plainest thing that could be right: the least of a dict."""

from random import Random

from coderd.magicsock.deadlines import Deadlines
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic

PEERS = [NodePublic(bytes([n]) * 32) for n in range(1, 9)]


def test_the_first_is_the_least_whatever_was_set_before() -> None:
    rng, deadlines, plain = Random(1), Deadlines(), dict[NodePublic, Deadline]()
    for _ in range(5000):
        peer = rng.choice(PEERS)
        if rng.random() < 0.2:
            deadlines.set(peer, None)
            plain.pop(peer, None)
        else:
            plain[peer] = Deadline(float(rng.randrange(1000)), "why")
            deadlines.set(peer, plain[peer])
        first = deadlines.first()
        assert (first and first.when) == min((d.when for d in plain.values()), default=None)
        assert len(deadlines) == len(plain)


def test_what_is_due_comes_once_the_longest_overdue_first() -> None:
    deadlines = Deadlines()
    for at, peer in enumerate(PEERS):
        deadlines.set(peer, Deadline(10.0 - at, "why"))
    deadlines.set(PEERS[7], Deadline(20.0, "later"))
    assert [deadlines.pop_due(5.0), deadlines.pop_due(5.0), deadlines.pop_due(5.0)] == [
        PEERS[6],
        PEERS[5],
        None,
    ]


def test_a_deadline_that_moves_with_every_packet_fills_no_memory() -> None:
    deadlines = Deadlines()
    for at in range(10_000):
        deadlines.set(PEERS[0], Deadline(float(at), "why"))
    assert len(deadlines._heap) < 100
