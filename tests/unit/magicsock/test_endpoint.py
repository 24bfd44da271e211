"""One peer's life, on a literal clock: T is when it begins."""

from random import Random

import pytest

from coderd.magicsock.endpoint import Endpoint
from coderd.magicsock.ping_budget import PONGS_PER_PEER, PingBudget
from coderd.magicsock.pings import PING_SIZE, SendCallMeMaybe, SendPing, Wish
from coderd.model.addresses import AddrPort
from coderd.model.keys import NodePrivate
from coderd.model.paths import PathKind, Pin
from coderd.model.transport import SocketId

T = 1000.0
HOME = 7
ADDR, OTHER, LAN = ("198.51.100.1", 41641), ("203.0.113.9", 1234), ("10.0.0.5", 41641)
PROBE = 1312


@pytest.fixture
def endpoint() -> Endpoint:
    rng = Random(1).randbytes
    return Endpoint(NodePrivate.generate(rng).public(), rng=rng, probe_size=PROBE, budget=PingBudget())


def wishes(endpoint: Endpoint) -> list[Wish]:
    return list(iter(endpoint.poll_wish, None))


def pings(endpoint: Endpoint) -> list[SendPing]:
    return [wish for wish in wishes(endpoint) if isinstance(wish, SendPing) and wish.to is not None]


def learn(endpoint: Endpoint, *addrs: AddrPort, now: float = T) -> list[SendPing]:
    endpoint.update(addrs, HOME, allows_direct=True, now=now)
    return pings(endpoint)


def answer(endpoint: Endpoint, ping: SendPing, now: float, rtt: float = 0.02) -> None:
    """The peer answers the first, small ping, and a round trip later the full one that follows."""
    assert ping.to is not None
    assert ping.padding == 0
    endpoint.handle_pong(ping.tx_id, ping.to, now)
    (full,) = [wish for wish in pings(endpoint) if wish.to == ping.to and wish.padding]
    assert full.padding == PROBE - PING_SIZE
    endpoint.handle_pong(full.tx_id, ping.to, now + rtt)


def make_direct(endpoint: Endpoint, now: float = T) -> None:
    (ping,) = learn(endpoint, ADDR, now=now)
    answer(endpoint, ping, now + 0.02)
    wishes(endpoint)


def run(endpoint: Endpoint, until: float) -> list[tuple[float, Wish]]:
    """Fires every timer up to an instant; returns what was wished for, and when."""
    happened: list[tuple[float, Wish]] = []
    while (deadline := endpoint.poll_timeout()) is not None and deadline.when <= until:
        endpoint.handle_timeout(deadline.when)
        happened.extend((round(deadline.when - T, 3), wish) for wish in wishes(endpoint))
    return happened


def test_the_servers_word_of_an_address_is_tried_at_once_and_small(endpoint: Endpoint) -> None:
    endpoint.update([ADDR], HOME, allows_direct=True, now=T)
    first, call, relay_ping = wishes(endpoint)
    assert isinstance(first, SendPing)
    assert (first.to, first.padding) == (ADDR, 0)
    assert call == SendCallMeMaybe()
    assert isinstance(relay_ping, SendPing)
    assert (relay_ping.to, relay_ping.padding) == (None, 0)


def test_the_same_word_again_is_no_news(endpoint: Endpoint) -> None:
    learn(endpoint, ADDR)
    endpoint.update([ADDR], HOME, allows_direct=True, now=T + 1)
    assert wishes(endpoint) == []


def test_before_any_pong_everything_goes_by_relay(endpoint: Endpoint) -> None:
    learn(endpoint, ADDR)
    assert endpoint.route(1, T) == (None, True, 0)
    assert endpoint.kind is PathKind.RELAY


def test_after_a_pong_everything_goes_straight(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    assert endpoint.route(45, T + 0.1) == (ADDR, False, 0)
    assert endpoint.kind is PathKind.DIRECT
    assert endpoint.best is not None
    assert endpoint.best.latency == pytest.approx(0.02)


def test_a_stale_path_carries_small_batches_beside_the_relay_and_large_ones_not_at_all(
    endpoint: Endpoint,
) -> None:
    make_direct(endpoint)
    run(endpoint, T + 6.6)
    assert endpoint.route(4, T + 6.6) == (ADDR, True, 0)
    assert endpoint.route(5, T + 6.6) == (None, True, 0)
    assert endpoint.kind is PathKind.RELAY


def test_a_stale_path_is_forgotten_when_its_ping_times_out(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    run(endpoint, T + 12)
    assert endpoint.best is None
    assert endpoint.route(1, T + 12) == (None, True, 0)


def test_without_a_relay_a_stale_path_is_better_than_none(endpoint: Endpoint) -> None:
    endpoint.update([ADDR], 0, allows_direct=True, now=T)
    (ping,) = pings(endpoint)
    answer(endpoint, ping, T + 0.02)
    run(endpoint, T + 6.6)
    assert endpoint.route(45, T + 6.6) == (ADDR, False, 0)


def test_rounds_come_in_a_burst_and_then_every_five_seconds(endpoint: Endpoint) -> None:
    endpoint.update([ADDR], HOME, allows_direct=True, now=T)
    wishes(endpoint)
    rounds = [at for at, wish in run(endpoint, T + 21) if wish == SendCallMeMaybe()]
    assert rounds == pytest.approx([0.15, 0.5, 1.25, 2.75, 5.75, 10.75, 15.75, 20.75])


def test_nobody_caring_for_45_seconds_ends_it(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    last = max(at for at, _ in run(endpoint, T + 500))
    assert 42 <= last <= 50
    assert endpoint.poll_timeout() is None


def test_the_next_send_wakes_it_with_a_round(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    run(endpoint, T + 500)
    assert endpoint.route(1, T + 500) == (None, True, 0)
    assert [ping.to for ping in pings(endpoint)] == [ADDR]


def test_heartbeats_go_to_the_best_path_every_three_seconds_and_are_small(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    beats = []
    for second in range(1, 10):
        for at, wish in run(endpoint, T + second):
            if isinstance(wish, SendPing):
                beats.append((at, wish.to, wish.padding))
                endpoint.handle_pong(wish.tx_id, ADDR, T + at + 0.001)
    assert beats == [(3.0, ADDR, 0), (6.0, ADDR, 0), (9.0, ADDR, 0)]


def test_a_small_pong_renews_the_best_path_but_never_makes_another_one_best(endpoint: Endpoint) -> None:
    endpoint.pin = Pin.DIRECT
    make_direct(endpoint)
    learn(endpoint, ADDR, LAN, now=T + 0.1)
    endpoint.ping(1, T + 0.2)
    (user_ping,) = pings(endpoint)
    endpoint.handle_send_failed(ADDR, T + 0.6)
    (*_, again) = [ping for ping in pings(endpoint) if ping.to == LAN]
    answer(endpoint, again, T + 0.62)
    endpoint.handle_pong(user_ping.tx_id, ADDR, T + 0.63)
    assert endpoint.best is not None
    assert endpoint.best.addr == LAN


def test_a_nearer_path_takes_over(endpoint: Endpoint) -> None:
    to_addr, to_lan = learn(endpoint, ADDR, LAN)
    answer(endpoint, to_addr, T + 0.02)
    answer(endpoint, to_lan, T + 0.021)
    assert endpoint.route(1, T + 1) == (LAN, False, 0)


def test_a_pong_counts_for_the_address_that_was_pinged(endpoint: Endpoint) -> None:
    (ping,) = learn(endpoint, ADDR)
    assert endpoint.handle_pong(ping.tx_id, OTHER, T + 0.02)
    (full,) = pings(endpoint)
    assert endpoint.handle_pong(full.tx_id, OTHER, T + 0.04)
    assert endpoint.route(1, T + 1) == (ADDR, False, 0)


def test_a_pong_by_relay_proves_nothing_about_udp(endpoint: Endpoint) -> None:
    (ping,) = learn(endpoint, ADDR)
    assert not endpoint.handle_pong(ping.tx_id, 999, T + 0.02)
    assert not endpoint.handle_pong(bytes(12), ADDR, T + 0.02)
    assert endpoint.kind is PathKind.RELAY


def test_a_ping_from_a_new_address_is_answered_once_and_returned(endpoint: Endpoint) -> None:
    learn(endpoint)
    assert endpoint.handle_ping(OTHER, b"first tx id.", T + 1)
    assert [ping.to for ping in pings(endpoint)] == [OTHER]
    assert not endpoint.handle_ping(OTHER, b"first tx id.", T + 1.01)
    assert endpoint.handle_ping(OTHER, b"other tx id.", T + 1.02)
    assert pings(endpoint) == []


def test_an_address_known_only_by_its_pings_is_forgotten_after_45_seconds_without_one(
    endpoint: Endpoint,
) -> None:
    endpoint.handle_ping(OTHER, b"first tx id.", T)
    endpoint.discover(T + 45)
    assert endpoint.prober.addresses() == [OTHER]
    endpoint.discover(T + 46)
    assert endpoint.prober.addresses() == []


def test_call_me_maybe_pings_every_address_at_once_and_calls_nobody_back(endpoint: Endpoint) -> None:
    learn(endpoint, ADDR)
    assert endpoint.handle_call_me_maybe([OTHER], T + 0.1)
    happened = wishes(endpoint)
    assert {wish.to for wish in happened if isinstance(wish, SendPing)} == {ADDR, OTHER}
    assert SendCallMeMaybe() not in happened


def test_an_empty_call_me_maybe_withdraws_what_earlier_ones_named(endpoint: Endpoint) -> None:
    learn(endpoint)
    endpoint.handle_call_me_maybe([OTHER], T + 1)
    (ping,) = pings(endpoint)
    answer(endpoint, ping, T + 1.1)
    before = endpoint.kind
    endpoint.handle_call_me_maybe([], T + 2)
    assert (before, endpoint.kind) == (PathKind.DIRECT, PathKind.RELAY)
    assert endpoint.prober.addresses() == []


def test_a_flood_of_call_me_maybes_pings_no_faster_than_the_gap_allows(endpoint: Endpoint) -> None:
    learn(endpoint)
    for n in range(1000):
        endpoint.handle_call_me_maybe([("203.0.113.9", 1 + n)], T + 1 + n / 1000)
    assert len(pings(endpoint)) <= 10
    assert len(endpoint.prober.addresses()) == 1


def test_the_table_of_addresses_stays_small_whatever_a_peer_names(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    for n in range(1, 1000):
        endpoint.handle_ping(("203.0.113.9", n), n.to_bytes(12, "big"), T + 1)
    assert len(endpoint.prober.addresses()) <= 100
    assert endpoint.is_at(ADDR)


@pytest.mark.parametrize(
    "addr",
    [
        ("fe80::1", 1),
        ("224.0.0.1", 1),
        ("0.0.0.0", 1),
        ("10.0.0.1", 0),
        ("fd60:627a:a42b::5", 1),
        ("ff02::1", 1),
        ("127.0.0.1", 1),
        ("127.8.8.8", 1),
        ("::1", 1),
        ("0.1.2.3", 1),
        ("255.255.255.255", 1),
        ("240.0.0.1", 1),
        ("::ffff:127.0.0.1", 1),
        ("::127.0.0.1", 1),
        ("64:ff9b::7f00:1", 1),
        ("2002:7f00:1::1", 1),
        ("2001:db8::1%2", 1),
        ("2001:db8::1%\u00b2", 1),
    ],
)
def test_what_cannot_be_a_peers_address_is_no_candidate(endpoint: Endpoint, addr: AddrPort) -> None:
    learn(endpoint, addr)
    endpoint.handle_call_me_maybe([addr], T)
    endpoint.handle_ping(addr, bytes(12), T)
    assert endpoint.prober.addresses() == []


def test_fresh_pings_from_sources_that_have_not_answered_get_32_pongs_a_second(endpoint: Endpoint) -> None:
    heard = [
        endpoint.handle_ping((f"192.0.2.{n % 200}", 5), n.to_bytes(12), T + n / 1000) for n in range(500)
    ]
    assert sum(heard) == PONGS_PER_PEER
    (ping,) = [ping for ping in learn(endpoint, ADDR, now=T + 60) if ping.to == ADDR]
    answer(endpoint, ping, T + 60.01)
    assert all(endpoint.handle_ping(ADDR, n.to_bytes(12), T + 61) for n in range(1000, 1100))


def test_a_relay_only_peer_gets_neither_pings_nor_pongs_nor_calls(endpoint: Endpoint) -> None:
    endpoint.update([ADDR], HOME, allows_direct=False, now=T)
    assert not endpoint.handle_ping(ADDR, bytes(12), T)
    assert not endpoint.handle_call_me_maybe([ADDR], T)
    endpoint.handle_heard(ADDR, T)
    endpoint.ping(1, T)
    run(endpoint, T + 40)
    assert pings(endpoint) == []
    assert endpoint.prober.addresses() == []


def test_becoming_relay_only_ends_a_direct_path(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    endpoint.update([ADDR], HOME, allows_direct=False, now=T + 1)
    assert endpoint.route(1, T + 1) == (None, True, 0)


def test_pinned_to_the_relay_nothing_goes_straight_though_the_path_is_kept(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    endpoint.pin = Pin.RELAY
    assert endpoint.route(1, T + 1) == (None, True, 0)
    assert endpoint.kind is PathKind.RELAY
    endpoint.pin = Pin.ANY
    assert endpoint.route(1, T + 1) == (ADDR, False, 0)


def test_pinned_direct_nothing_goes_by_relay(endpoint: Endpoint) -> None:
    endpoint.pin = Pin.DIRECT
    assert endpoint.route(1, T) == (None, False, 0)
    assert endpoint.kind is PathKind.NONE
    make_direct(endpoint)
    run(endpoint, T + 6.6)
    assert endpoint.route(45, T + 6.6) == (ADDR, False, 0)


def test_a_users_ping_goes_both_ways_while_no_path_is_trusted_and_is_answered_once(
    endpoint: Endpoint,
) -> None:
    make_direct(endpoint)
    run(endpoint, T + 6.6)
    endpoint.ping(5, T + 6.6)
    sent = [wish for wish in wishes(endpoint) if isinstance(wish, SendPing) and not wish.padding]
    direct = next(ping for ping in sent if ping.to == ADDR)
    relayed = next(ping for ping in sent if ping.to is None)
    assert endpoint.handle_pong(direct.tx_id, ADDR, T + 6.65)
    assert endpoint.handle_pong(relayed.tx_id, 999, T + 6.7)
    (answer,) = iter(endpoint.poll_answer, None)
    assert (answer.token, answer.by) == (5, ADDR)
    assert answer.latency == pytest.approx(0.05)


def test_a_refused_send_ends_the_path_at_once(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    endpoint.handle_send_failed(ADDR, T + 1)
    assert endpoint.route(1, T + 1) == (None, True, 0)


def test_under_load_silence_soon_brings_the_relay_in_and_then_ends_trust(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    routes: dict[object, float] = {}
    for tenth in range(1, 60):
        now = T + tenth / 10
        run(endpoint, now)
        routes.setdefault(endpoint.route(45, now), tenth / 10)
    assert routes[(ADDR, False, 0)] == 0.1
    assert routes[(ADDR, True, 0)] <= 0.6
    assert 2.3 <= routes[(None, True, 0)] <= 2.6


def test_a_peer_that_speaks_from_elsewhere_is_followed_there(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    endpoint.handle_heard(OTHER, T + 1)
    assert {ping.to for ping in pings(endpoint)} == {ADDR, OTHER}
    sent = [wish for _, wish in run(endpoint, T + 1.16)]
    assert endpoint.route(1, T + 1.16) == (ADDR, True, 0)
    (elsewhere,) = [wish for wish in sent if isinstance(wish, SendPing) and wish.to == OTHER]
    answer(endpoint, elsewhere, T + 1.17, rtt=0.01)
    assert endpoint.route(45, T + 1.19) == (OTHER, False, 0)


def test_a_restarted_peer_starts_from_nothing(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    endpoint.handle_ping(OTHER, bytes(12), T + 1)
    wishes(endpoint)
    endpoint.restart()
    endpoint.update([LAN], HOME, allows_direct=True, now=T + 2)
    assert [ping.to for ping in pings(endpoint)] == [LAN]
    assert endpoint.kind is PathKind.RELAY


def test_a_rebound_forgets_trust_and_looks_again_at_the_same_addresses(endpoint: Endpoint) -> None:
    make_direct(endpoint)
    endpoint.handle_rebound(T + 1)
    assert endpoint.kind is PathKind.RELAY
    assert [ping.to for ping in pings(endpoint)] == [ADDR]


def by_spare(endpoint: Endpoint, now: float) -> SendPing:
    """Has the peer answer a small ping that left by spare socket 3.

    Returns the full ping that follows by the same socket.
    """
    endpoint.probe(ADDR, SocketId(3), now)
    (small,) = [ping for ping in pings(endpoint) if ping.socket == 3]
    endpoint.handle_pong(small.tx_id, ADDR, now + 0.01)
    (full,) = pings(endpoint)
    assert full.socket == 3
    return full


def test_a_late_pong_to_a_closed_spare_socket_makes_no_path(endpoint: Endpoint) -> None:
    """Its path would go by a socket that is no more, and no ping by another would ever leave again."""
    learn(endpoint, ADDR)
    full = by_spare(endpoint, T + 0.1)
    endpoint.forget_socket(SocketId(3), T + 0.12)
    wishes(endpoint)
    assert not endpoint.handle_pong(full.tx_id, ADDR, T + 0.13)
    assert endpoint.best is None
    again = [wish for _, wish in run(endpoint, T + 1) if isinstance(wish, SendPing) and wish.to == ADDR]
    assert {ping.socket for ping in again} == {0}


def test_after_a_refused_send_an_address_is_tried_by_a_usual_socket(endpoint: Endpoint) -> None:
    learn(endpoint, ADDR)
    endpoint.handle_pong(by_spare(endpoint, T + 0.1).tx_id, ADDR, T + 0.12)
    assert endpoint.uses(SocketId(3), T + 0.13)
    endpoint.handle_send_failed(ADDR, T + 0.2)
    again = [wish for _, wish in run(endpoint, T + 1) if isinstance(wish, SendPing) and wish.to == ADDR]
    assert {ping.socket for ping in again} == {0}
