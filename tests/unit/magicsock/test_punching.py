"""Spare sockets and searches, on a literal clock: what is opened, sent in which order, told and closed."""

from random import Random
from typing import TypeVar

import pytest

from coderd.magicsock.birthday import (
    N_PROBES,
    N_SOCKETS,
    PROBES_AT_ONCE,
    RETRY,
    SEARCH_AFTER,
    Scatter,
    public_ports,
)
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.port_sequence import TRIES
from coderd.magicsock.punching import (
    ANSWER_PATIENCE,
    MOST_SPARE,
    MOST_TARGETS,
    SPARE_LIFETIME,
    Call,
    CloseSocket,
    OpenSockets,
    ProbeFrom,
    Punching,
    SendFrom,
    Wish,
)
from coderd.model.addresses import AddrPort
from coderd.model.keys import NodePublic
from coderd.model.transport import SocketId
from coderd.stun import encode_response, parse_request

T = 1000.0
PEER, OTHER = NodePublic(b"p" * 32), NodePublic(b"o" * 32)
SERVERS = [("192.0.2.10", 3478), ("192.0.2.10", 3479)]
TARGETS = [("203.0.113.1", 41641), ("203.0.113.1", 41642)]
OUTER = "198.51.100.1"
HARD_CALL = [(OUTER, 20000), (OUTER, 41641)]
Kind = TypeVar("Kind", bound=Wish)


@pytest.fixture
def used() -> set[SocketId]:
    """The spare sockets that a path in use goes by."""
    return set()


@pytest.fixture
def punching(used: set[SocketId]) -> Punching:
    punching = Punching(
        rng=Random(1).randbytes,
        plays_birthday=True,
        budget=PingBudget(),
        is_used=lambda peer, socket, now: socket in used,
    )
    for peer in (PEER, OTHER):
        punching.set_willing(peer, is_willing=True)
    return punching


def wishes(punching: Punching) -> list[Wish]:
    return list(iter(punching.poll_wish, None))


def those(kind: type[Kind], found: list[Wish]) -> list[Kind]:
    return [wish for wish in found if isinstance(wish, kind)]


def begin_row(
    punching: Punching, targets: list[AddrPort] | None = None, now: float = T
) -> tuple[SocketId, list[SendFrom]]:
    """Has a row begun; its socket, and its two questions."""
    punching.punch(PEER, targets or TARGETS, SERVERS, now)
    (opened,) = those(OpenSockets, wishes(punching))
    punching.handle_opened(opened.sockets, now)
    return opened.sockets[0], those(SendFrom, wishes(punching))


def answer(punching: Punching, question: SendFrom, port: int, now: float = T) -> bool:
    return punching.handle_stun(
        encode_response(parse_request(question.datagram), (OUTER, port)), question.socket, now
    )


def make_random(punching: Punching, now: float = T) -> None:
    for _ in range(3):
        punching.sequence.predict(1000, 40000, 1, now)


def test_a_row_asks_a_server_pings_the_peer_and_asks_the_other(punching: Punching) -> None:
    punching.punch(PEER, TARGETS, SERVERS, T)
    (opened,) = wishes(punching)
    assert isinstance(opened, OpenSockets)
    (socket,) = opened.sockets
    punching.handle_opened(opened.sockets, T)
    first, *probes, last = wishes(punching)
    assert isinstance(first, SendFrom)
    assert isinstance(last, SendFrom)
    assert [first.to, last.to] == SERVERS
    assert probes == [ProbeFrom(PEER, socket, to) for to in TARGETS]


def test_both_answers_foretell_what_is_told_to_that_peer_alone(punching: Punching) -> None:
    _, (first, last) = begin_row(punching)
    assert answer(punching, last, 20003)
    assert punching.predicted(PEER) == ()
    assert answer(punching, first, 20000)
    assert wishes(punching) == [Call(PEER)]
    assert punching.predicted(PEER) == ((OUTER, 20001), (OUTER, 20002))
    assert punching.predicted(OTHER) == ()


def test_an_answer_counts_once_and_to_its_own_socket_only(punching: Punching) -> None:
    socket, (first, _) = begin_row(punching)
    assert not answer(punching, first._replace(socket=SocketId(socket + 1)), 20000)
    assert answer(punching, first, 20000)
    assert not answer(punching, first, 20000)
    assert not punching.handle_stun(b"nonsense", socket, T)


def test_answers_that_show_no_sequence_give_the_socket_up(punching: Punching) -> None:
    socket, (first, last) = begin_row(punching)
    answer(punching, first, 20000)
    answer(punching, last, 50000)
    assert wishes(punching) == [CloseSocket(PEER, socket)]


def test_answers_that_show_no_sequence_close_no_socket_that_a_path_has_come_to_use(
    punching: Punching, used: set[SocketId]
) -> None:
    socket, (first, last) = begin_row(punching)
    used.add(socket)
    answer(punching, first, 20000)
    answer(punching, last, 50000)
    assert wishes(punching) == []
    assert punching.is_open(socket)


def test_two_outer_addresses_are_no_sequence(punching: Punching) -> None:
    socket, (first, last) = begin_row(punching)
    answer(punching, first, 20000)
    punching.handle_stun(encode_response(parse_request(last.datagram), ("198.51.100.9", 20003)), socket, T)
    assert wishes(punching) == [CloseSocket(PEER, socket)]


def test_a_round_while_a_row_waits_begins_no_other(punching: Punching) -> None:
    begin_row(punching)
    punching.punch(PEER, TARGETS, SERVERS, T + ANSWER_PATIENCE - 0.1)
    assert wishes(punching) == []
    punching.punch(PEER, TARGETS, SERVERS, T + ANSWER_PATIENCE)
    assert [type(wish) for wish in wishes(punching)] == [CloseSocket, OpenSockets]


def test_a_peer_without_addresses_or_a_single_server_is_no_use(punching: Punching) -> None:
    punching.punch(PEER, [], SERVERS, T)
    punching.punch(PEER, TARGETS, SERVERS[:1], T)
    assert wishes(punching) == []


def test_a_row_is_bounded_and_so_are_all_rows(punching: Punching) -> None:
    punching.punch(PEER, [(OUTER, port) for port in range(1, 50)], SERVERS, T)
    (opened,) = those(OpenSockets, wishes(punching))
    punching.handle_opened(opened.sockets, T)
    assert len(those(ProbeFrom, wishes(punching))) == MOST_TARGETS
    for n in range(2 * MOST_SPARE):
        punching.punch(NodePublic(n.to_bytes(32, "big")), TARGETS, SERVERS, T)
    assert len(those(OpenSockets, wishes(punching))) == MOST_SPARE - 1


def test_a_socket_that_no_path_uses_is_closed_and_one_in_use_is_kept(
    punching: Punching, used: set[SocketId]
) -> None:
    socket, _ = begin_row(punching)
    deadline = punching.poll_timeout()
    assert deadline is not None
    assert deadline.when == T + SPARE_LIFETIME
    used.add(socket)
    punching.handle_timeout(T + SPARE_LIFETIME)
    assert wishes(punching) == []
    used.clear()
    punching.handle_timeout(T + 2 * SPARE_LIFETIME)
    assert wishes(punching) == [CloseSocket(PEER, socket)]
    assert punching.poll_timeout() is None


def test_a_socket_that_opens_too_late_is_closed_again(punching: Punching) -> None:
    punching.punch(PEER, TARGETS, SERVERS, T)
    (opened,) = those(OpenSockets, wishes(punching))
    punching.forget_peer(PEER)
    wishes(punching)
    punching.handle_opened(opened.sockets, T)
    assert wishes(punching) == [CloseSocket(None, opened.sockets[0])]


def test_random_ports_and_an_easy_peer_are_a_birthday_once_in_a_while(punching: Punching) -> None:
    make_random(punching)
    punching.punch(PEER, TARGETS[:1], SERVERS, T)
    (opened,) = those(OpenSockets, wishes(punching))
    assert len(opened.sockets) == N_SOCKETS
    punching.handle_opened(opened.sockets, T)
    scatter, call = wishes(punching)
    assert isinstance(scatter, Scatter)
    assert scatter.ways == tuple((socket, TARGETS[0]) for socket in opened.sockets)
    assert call == Call(PEER)
    punching.handle_timeout(T + SPARE_LIFETIME)
    assert len(those(CloseSocket, wishes(punching))) == N_SOCKETS
    make_random(punching, T + RETRY - 1)
    punching.punch(PEER, TARGETS[:1], SERVERS, T + RETRY - 1)
    assert wishes(punching) == []
    punching.punch(PEER, TARGETS[:1], SERVERS, T + RETRY)
    assert len(those(OpenSockets, wishes(punching))) == 1


def test_random_ports_on_both_sides_are_no_birthday(punching: Punching) -> None:
    make_random(punching)
    punching.punch(PEER, TARGETS, SERVERS, T)
    assert wishes(punching) == []


def search(punching: Punching, begin: float) -> list[tuple[SocketId, AddrPort]]:
    """All that a search sends, from its first call on, in time."""
    punching.search(PEER, HARD_CALL, begin)
    punching.search(PEER, HARD_CALL, begin + SEARCH_AFTER)
    ways: list[tuple[SocketId, AddrPort]] = []
    while True:
        ways += [way for wish in those(Scatter, wishes(punching)) for way in wish.ways]
        deadline = punching.poll_timeout()
        if deadline is None:
            return ways
        punching.handle_timeout(deadline.when)


def test_a_search_waits_for_easier_ways_then_sends_so_many_and_no_more(punching: Punching) -> None:
    punching.search(PEER, HARD_CALL, T)
    punching.search(PEER, HARD_CALL, T + SEARCH_AFTER - 0.1)
    assert wishes(punching) == []
    ways = search(punching, T)
    assert len(set(ways)) == N_PROBES
    assert {(socket, ip) for socket, (ip, _) in ways} == {(0, OUTER)}
    assert all(1024 <= port < 65536 for _, (_, port) in ways)
    punching.search(PEER, HARD_CALL, T + RETRY)
    assert wishes(punching) == []


def test_a_search_is_paced_and_ends_with_a_path(punching: Punching) -> None:
    punching.search(PEER, HARD_CALL, T)
    punching.search(PEER, HARD_CALL, T + SEARCH_AFTER)
    (volley,) = those(Scatter, wishes(punching))
    assert len(volley.ways) == PROBES_AT_ONCE
    punching.handle_direct(PEER)
    assert punching.poll_timeout() is None


def test_nobody_searches_for_an_easy_peer_nor_without_the_wish(punching: Punching) -> None:
    for at in range(10):
        punching.search(PEER, HARD_CALL[:1], T + at)
    assert wishes(punching) == []
    unwilling = Punching(
        rng=Random(1).randbytes,
        plays_birthday=False,
        budget=PingBudget(),
        is_used=lambda peer, socket, now: False,
    )
    assert search(unwilling, T) == []


def test_a_birthday_is_for_two_whose_users_both_asked_for_it(punching: Punching) -> None:
    punching.set_willing(PEER, is_willing=False)
    assert search(punching, T) == []
    for attempt in range(TRIES):
        _, (first, last) = begin_row(punching, now=T + attempt)
        answer(punching, first, 40000, T + attempt)
        answer(punching, last, 20000 + attempt * 999, T + attempt)
        wishes(punching)
    punching.punch(PEER, TARGETS[:1], SERVERS, T + 5)
    assert wishes(punching) == []


def test_two_peers_that_name_one_address_have_it_searched_once_in_two_minutes(punching: Punching) -> None:
    assert len(search(punching, T)) == N_PROBES
    for at in (0.0, SEARCH_AFTER, 60.0):
        punching.search(OTHER, HARD_CALL, T + 10 + at)
    assert those(Scatter, wishes(punching)) == []
    punching.search(OTHER, HARD_CALL, T + SEARCH_AFTER + RETRY)
    assert len(those(Scatter, wishes(punching))) == 1


def test_one_search_goes_on_at_a_time(punching: Punching) -> None:
    for peer, ip in ((PEER, OUTER), (OTHER, "198.51.100.2")):
        for at in (0.0, SEARCH_AFTER):
            punching.search(peer, [(ip, 1), (ip, 2)], T + at)
    assert {wish.peer for wish in those(Scatter, wishes(punching))} == {PEER}


def test_a_row_begins_no_more_flows_than_the_budget_admits(punching: Punching) -> None:
    named = [("203.0.113.1", 1000 + i) for i in range(4)]
    for peer in (PEER, OTHER):
        punching.punch(peer, named, SERVERS, T)
        (opened,) = those(OpenSockets, wishes(punching))
        punching.handle_opened(opened.sockets, T)
        assert len(those(ProbeFrom, wishes(punching))) == (4 if peer == PEER else 1)


def test_private_addresses_and_ipv6_name_no_outer_port() -> None:
    assert public_ports([("10.0.0.1", 1), ("2001:db8::1", 2), (OUTER, 3), (OUTER, 4)]) == {OUTER: [3, 4]}


def test_a_new_network_closes_everything(punching: Punching) -> None:
    socket, (first, last) = begin_row(punching)
    answer(punching, first, 20000)
    answer(punching, last, 20003)
    wishes(punching)
    punching.handle_rebound()
    assert wishes(punching) == [CloseSocket(PEER, socket)]
    assert punching.predicted(PEER) == ()
    assert punching.sequence.step is None
