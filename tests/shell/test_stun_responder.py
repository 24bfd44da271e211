"""The STUN responder on real loopback sockets."""

import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from coderd.metrics import Counters
from coderd.model.addresses import AddrPort
from coderd.model.errors import UserError
from coderd.stun import Answer, Question, encode_question, encode_request, parse_answer, parse_response
from coderd.stun.allowance import BURST
from coderd.stun.io import serve_stun

TX = bytes(range(12))


@asynccontextmanager
async def responder(*addresses: AddrPort, counters: Counters | None = None) -> AsyncIterator[list[AddrPort]]:
    counts: Counters = Counter() if counters is None else counters
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[list[AddrPort]]) -> None:
            await serve_stun(addresses, counters=counts, task_status=task_status)

        yield await nursery.start(serve)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def client(ip: str) -> AsyncIterator[tuple[trio.socket.SocketType, AddrPort]]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as sock, trio.fail_after(5):
        await sock.bind((ip, 0))
        yield sock, sock.getsockname()[:2]


async def test_a_client_learns_its_own_address() -> None:
    async with responder(("127.0.0.1", 0)) as (bound,), client("127.0.0.1") as (sock, own):
        await sock.sendto(encode_request(TX), bound)
        reply, sender = await sock.recvfrom(100)
    assert parse_response(reply) == (TX, own)
    assert sender == bound


async def test_a_dual_stack_socket_answers_ipv4_clients_with_an_ipv4_address() -> None:
    async with responder(("::", 0)) as (bound,), client("127.0.0.1") as (sock, own):
        await sock.sendto(encode_request(TX), ("127.0.0.1", bound[1]))
        reply = await sock.recv(100)
    assert len(reply) == 32
    assert parse_response(reply) == (TX, own)


async def test_a_dual_stack_socket_answers_ipv6_clients() -> None:
    async with responder(("::", 0)) as (bound,), client("::1") as (sock, own):
        await sock.sendto(encode_request(TX), ("::1", bound[1]))
        reply = await sock.recv(100)
    assert len(reply) == 44
    assert parse_response(reply) == (TX, own)


@pytest.mark.parametrize("listen", ["0.0.0.0", "::"])
async def test_the_reply_leaves_from_the_address_that_was_asked(listen: str) -> None:
    async with responder((listen, 0)) as (bound,), client("127.0.0.1") as (sock, _):
        await sock.sendto(encode_request(TX), ("127.0.0.3", bound[1]))
        _, sender = await sock.recvfrom(100)
    assert sender == ("127.0.0.3", bound[1])


async def test_two_ports_show_one_client_the_same_address() -> None:
    both = responder(("127.0.0.1", 0), ("127.0.0.1", 0))
    async with both as bound, client("127.0.0.1") as (sock, own):
        for address in bound:
            await sock.sendto(encode_request(TX), address)
        replies = [await sock.recvfrom(100) for _ in bound]
    assert {sender for _, sender in replies} == set(bound)
    assert {parse_response(reply)[1] for reply, _ in replies} == {own}


async def test_hostile_datagrams_are_counted_and_the_next_request_is_answered() -> None:
    counters: Counters = Counter()
    request = encode_request(TX)
    hostile = [b"", b"\x00", request[:-1], request + bytes(2000), bytes(65_507 // 8), b"\x01" * 148]
    async with responder(("127.0.0.1", 0), counters=counters) as (bound,), client("127.0.0.1") as (sock, own):
        for datagram in hostile:
            await sock.sendto(datagram, bound)
        await sock.sendto(request, bound)
        assert parse_response(await sock.recv(100)) == (TX, own)
    assert counters == {"stun.drop.malformed": len(hostile), "stun.answered": 1, "stun.answered_here": 1}


async def test_more_than_one_batch_is_answered() -> None:
    n_requests = 100
    async with responder(("127.0.0.1", 0)) as (bound,), client("127.0.0.1") as (sock, own):
        for number in range(n_requests):
            await sock.sendto(encode_request(number.to_bytes(12, "big")), bound)
        replies = [parse_response(await sock.recv(100)) for _ in range(n_requests)]
    assert replies == [(number.to_bytes(12, "big"), own) for number in range(n_requests)]


async def test_a_response_gets_no_response() -> None:
    counters: Counters = Counter()
    both = responder(("127.0.0.1", 0), ("127.0.0.1", 0), counters=counters)
    async with both as bound, client("127.0.0.1") as (sock, _):
        await sock.sendto(encode_request(TX), bound[0])
        reply = await sock.recv(100)
        await sock.sendto(reply, bound[0])
        await sock.sendto(encode_request(TX), bound[0])
        await sock.recv(100)
    assert counters == {"stun.answered": 2, "stun.answered_here": 2, "stun.drop.malformed": 1}


async def test_a_source_that_asks_for_larger_answers_soon_gets_none_and_plain_ones_still() -> None:
    counters: Counters = Counter()
    both = responder(("127.0.0.1", 0), ("127.0.0.1", 0), counters=counters)
    async with both as (bound, _), client("127.0.0.1") as (sock, own):
        for _ in range(2 * BURST):
            await sock.sendto(encode_question(Question(TX)), bound)
        await sock.sendto(encode_request(TX), bound)
        while len(reply := await sock.recv(100)) > 32:
            pass
    assert parse_response(reply) == (TX, own)
    assert counters["stun.drop.larger"] >= BURST - 5


async def test_a_taken_port_is_one_sentence() -> None:
    async with responder(("127.0.0.1", 0)) as (bound,):
        with pytest.raises(
            UserError, match=r"STUN cannot listen on UDP 127\.0\.0\.1:\d+: Address already in use"
        ):
            await serve_stun([bound], counters=Counter())


async def test_a_question_is_answered_from_the_port_and_address_that_it_asks_for() -> None:
    places = [("127.0.0.1", 0), ("127.0.0.1", 0), ("127.0.0.2", 0)]
    async with responder(*places) as (one, two, elsewhere), client("127.0.0.1") as (sock, own):
        for change_ip, change_port, answers_from in [
            (False, False, one),
            (False, True, two),
            (True, True, elsewhere),
        ]:
            await sock.sendto(encode_question(Question(TX, change_ip, change_port)), one)
            reply, sender = await sock.recvfrom(100)
            assert sender == answers_from
            assert parse_answer(reply) == Answer(TX, own, one, elsewhere)


async def test_what_no_socket_can_do_is_not_answered_and_counted() -> None:
    counters: Counters = Counter()
    async with responder(("127.0.0.1", 0), counters=counters) as (bound,), client("127.0.0.1") as (sock, own):
        await sock.sendto(encode_question(Question(TX, change_port=True)), bound)
        await sock.sendto(encode_question(Question(TX)), bound)
        assert parse_answer(await sock.recv(100)) == Answer(TX, own, bound, None)
    assert counters["stun.drop.unable"] == 1


async def test_a_dual_stack_server_answers_from_its_other_port_and_as_large_as_it_was_asked() -> None:
    async with responder(("::", 0), ("::", 0)) as (one, two), client("127.0.0.1") as (sock, own):
        await sock.sendto(encode_question(Question(TX, change_port=True)), ("127.0.0.3", one[1]))
        reply, sender = await sock.recvfrom(100)
        assert sender == ("127.0.0.3", two[1])
        assert parse_answer(reply) == Answer(TX, own, ("127.0.0.3", one[1]), ("127.0.0.3", two[1]))
        await sock.sendto(
            encode_question(Question(TX, is_extended=True, is_padded=True), size=1312), ("127.0.0.3", one[1])
        )
        assert len(await sock.recv(2000)) == 1312
