"""Who may ping what, and when: on a literal clock."""

from random import Random

from coderd.magicsock.ping_budget import (
    ANSWER_LIFETIME,
    PINGS_IN_ALL,
    PINGS_PER_PEER,
    PINGS_PER_TARGET,
    PONGS_PER_PEER,
    PingBudget,
    target_of,
)
from coderd.model.addresses import AddrPort
from coderd.model.keys import NodePrivate, NodePublic

T = 1000.0
VICTIM = "203.0.113.9"
_rng = Random(1).randbytes
PEERS = [NodePrivate.generate(_rng).public() for _ in range(300)]
A, B = PEERS[:2]


def ports(ip: str, n: int, first: int = 1000) -> list[AddrPort]:
    return [(ip, first + i) for i in range(n)]


def run(budget: PingBudget, until: float) -> list[tuple[float, NodePublic, AddrPort]]:
    """Every turn up to an instant."""
    turns = []
    while (deadline := budget.poll_timeout()) is not None and deadline.when <= until:
        turns += [(round(deadline.when - T, 3), *turn) for turn in budget.pop_turns(deadline.when)]
    return turns


def test_one_target_gets_five_pings_in_a_second_whoever_names_it_with_whatever_port() -> None:
    budget = PingBudget()
    n_sent = sum(budget.ask(peer, (VICTIM, 1000 + i), T) for i, peer in enumerate(PEERS))
    assert n_sent == PINGS_PER_TARGET
    turns = run(budget, T + 10)
    assert len(turns) == 10 * PINGS_PER_TARGET
    assert sorted({round(at) for at, _, _ in turns}) == list(range(1, 11))


def test_one_peer_gets_sixteen_pings_in_a_second_wherever_it_says_it_is() -> None:
    budget = PingBudget()
    assert sum(budget.ask(A, (f"203.0.{i}.1", 1), T) for i in range(100)) == PINGS_PER_PEER
    assert len(run(budget, T + 2.5)) == 2 * PINGS_PER_PEER
    assert budget.ask(B, ("203.0.200.1", 1), T + 2.5)


def test_an_ipv6_network_is_one_target() -> None:
    budget = PingBudget()
    asked = [budget.ask(peer, (f"2001:db8::{i:x}", 1), T) for i, peer in enumerate(PEERS[:10])]
    assert sum(asked) == PINGS_PER_TARGET
    assert target_of(("2001:db8:0:1::5", 1)) != target_of(("2001:db8::5", 1))


def test_an_answer_lifts_the_targets_limit_and_lets_all_go_that_wait_for_it() -> None:
    budget = PingBudget()
    for i, peer in enumerate(PEERS):
        budget.ask(peer, (VICTIM, 1000 + i), T)
    budget.handle_answer((VICTIM, 1000), T + 0.05)
    assert len(run(budget, T + 0.1)) == len(PEERS) - PINGS_PER_TARGET
    assert budget.ask(A, (VICTIM, 7), T + 0.1)
    assert budget.poll_timeout() is None


def test_an_answer_counts_for_a_minute() -> None:
    budget = PingBudget()
    budget.handle_answer((VICTIM, 1000), T)
    assert all(budget.ask(peer, (VICTIM, 1), T + ANSWER_LIFETIME) for peer in PEERS)
    later = T + ANSWER_LIFETIME + 1.5
    n_sent = sum(budget.ask(peer, (VICTIM, 1000 + i), later) for i, peer in enumerate(PEERS))
    assert n_sent == PINGS_PER_TARGET


def test_an_answer_lifts_no_limit_of_a_peer() -> None:
    budget = PingBudget()
    budget.handle_answer((VICTIM, 1), T)
    assert sum(budget.ask(A, addr, T) for addr in ports(VICTIM, 100)) == PINGS_PER_PEER


def test_turns_go_round_the_peers_however_many_ports_one_of_them_names() -> None:
    budget = PingBudget()
    for addr in ports(VICTIM, 64):
        budget.ask(A, addr, T)
    for i, peer in enumerate(PEERS[1:4]):
        budget.ask(peer, (VICTIM, 1 + i), T)
    first = [peer for _, peer, _ in run(budget, T + 1.1)]
    assert set(first) == set(PEERS[:4])


def test_everybody_at_a_silent_target_gets_a_turn_before_anybody_gets_a_second() -> None:
    budget = PingBudget()
    for i, peer in enumerate(PEERS[:50]):
        budget.ask(peer, (VICTIM, 1000 + i), T)
    seen: list[NodePublic] = PEERS[:PINGS_PER_TARGET]
    while len(seen) < 50:
        deadline = budget.poll_timeout()
        assert deadline is not None
        for peer, addr in budget.pop_turns(deadline.when):
            assert peer not in seen
            seen.append(peer)
            budget.ask(peer, addr, deadline.when)


def test_thousands_of_made_up_peers_have_no_network_bombarded() -> None:
    budget = PingBudget()
    swarm = [NodePrivate.generate(_rng).public() for _ in range(400)]
    asked = [
        budget.ask(peer, (f"198.{18 + i % 2}.{i // 2}.{j}", 1), T)
        for i, peer in enumerate(swarm)
        for j in range(PINGS_PER_PEER)
    ]
    assert sum(asked) == PINGS_IN_ALL
    assert len(run(budget, T + 0.99)) == 0
    assert len(run(budget, T + 1.5)) == PINGS_IN_ALL


def test_repetition_leaves_room_for_an_address_that_is_new() -> None:
    budget = PingBudget()
    assert [budget.ask(A, (VICTIM, 1), T + i / 100) for i in range(4)] == [True, True, True, False]
    assert budget.ask(B, (VICTIM, 2), T + 0.5) is False
    assert run(budget, T + 0.6) == [(0.5, B, (VICTIM, 2))]


def test_where_a_ping_has_just_come_from_all_five_may_go() -> None:
    budget = PingBudget()
    asked = [budget.ask(A, (VICTIM, 1), T + i / 100, is_new_flow=True) for i in range(6)]
    assert asked == [True] * PINGS_PER_TARGET + [False]


def test_what_cannot_wait_is_not_queued() -> None:
    budget = PingBudget()
    assert sum(budget.take(A, addr, T) for addr in ports(VICTIM, 20)) == PINGS_PER_TARGET
    assert budget.poll_timeout() is None


def test_a_peer_that_is_gone_waits_for_nothing() -> None:
    budget = PingBudget()
    for addr in ports(VICTIM, 20):
        budget.ask(A, addr, T)
    budget.forget_peer(A)
    assert run(budget, T + 10) == []
    assert budget.poll_timeout() is None


def test_answers_to_unproven_sources_are_counted_per_peer() -> None:
    budget = PingBudget()
    assert sum(budget.take_pong(A, T + i / 1000) for i in range(500)) == PONGS_PER_PEER
    assert budget.take_pong(B, T + 0.5)
    assert budget.take_pong(A, T + 1.0)


def test_what_is_remembered_stays_small_whatever_is_named() -> None:
    budget = PingBudget()
    for i in range(20_000):
        now, addr = T + i / 100, (f"10.{i // 65536}.{i // 256 % 256}.{i % 256}", 1)
        budget.ask(PEERS[i % 300], addr, now)
        budget.handle_answer(addr, now)
    assert len(budget._by_target) <= 200
    assert len(budget._answered) <= 4096
