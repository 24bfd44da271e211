"""The table of docs/security.md on what answers a datagram: each row is asked of the real parts, and measured."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from coderd.disco import MAGIC, CallMeMaybe, Ping, Pong
from coderd.magicsock import DiscoUnreadable
from coderd.model.addresses import AddrPort
from coderd.model.transport import UdpTransmit
from coderd.stun import Question, encode_question, encode_request
from coderd.stun.io import serve_stun
from tests.unit.magicsock.test_conn import ADDR, MAPPED, OTHER, REGION, Bench, T
from tests.unit.wireguard.support import UNIX, Pair, feed, take_datagrams

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
TX = bytes(range(12))
Measured = tuple[int, int]


def rows() -> dict[tuple[str, str], Measured]:
    """Responder and datagram of each row of the page: bytes in, bytes out."""
    section = PAGE.split("## What answers a datagram")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()[3:]]
    return {
        (row[0], row[1]): (int(row[2].replace(",", "")), int(row[3].replace(",", "")))
        for row in cells
        if len(row) == 5 and row[2][:1].isdigit()
    }


# STUN: the responder, on loopback


async def ask_stun(ip: str, datagram: bytes) -> Measured:
    """What the server sends back within a moment; two sockets, so that it has all to tell that it can."""
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[list[AddrPort]]) -> None:
            await serve_stun([(ip, 0), (ip, 0)], counters=Counter(), task_status=task_status)

        bound, _ = await nursery.start(serve)
        with trio.socket.socket(
            trio.socket.AF_INET6 if ":" in ip else trio.socket.AF_INET, trio.socket.SOCK_DGRAM
        ) as sock:
            await sock.bind((ip, 0))
            await sock.sendto(datagram, bound)
            await sock.sendto(encode_request(b"the last one"), bound)
            sizes = 0
            while b"the last one" not in (reply := await sock.recv(4000)):
                sizes += len(reply)
        nursery.cancel_scope.cancel()
    return len(datagram), sizes


def shortest(datagram: bytes, size: int) -> bytes:
    """A request cut to its header and its next attribute, which CHANGE-REQUEST is made to be."""
    asked = bytes.fromhex("0003000400000000")[: size - 20]
    return datagram[:2] + len(asked).to_bytes(2, "big") + datagram[4:20] + asked


STUN = {
    "a node's request, IPv4": ("127.0.0.1", encode_request(TX)),
    "a node's request, IPv6": ("::1", encode_request(TX)),
    "the shortest request, IPv4": ("127.0.0.1", shortest(encode_request(TX), 20)),
    "the shortest request, IPv6": ("::1", shortest(encode_request(TX), 20)),
    "the shortest question about a NAT, IPv4": ("127.0.0.1", shortest(encode_request(TX), 28)),
    "the shortest question about a NAT, IPv6": ("::1", shortest(encode_request(TX), 28)),
    "a padded question": (
        "127.0.0.1",
        encode_question(Question(TX, is_extended=True, is_padded=True), size=1312),
    ),
    "an answer, or noise": ("127.0.0.1", bytes.fromhex("0101000c2112a442") + TX + bytes(12)),
}


# A node's port: Conn


def out(bench: Bench) -> int:
    """Bytes of all that waits to be sent, by whatever way."""
    return sum(len(datagram) for transmit in bench.transmits() for datagram in transmit.datagrams)


def quiet_bench(*endpoints: AddrPort) -> Bench:
    """A node with one peer, its first round over."""
    bench = Bench()
    bench.start(replace(bench.peer, endpoints=endpoints))
    return bench


def by_udp(bench: Bench, datagram: bytes, source: AddrPort = OTHER) -> Measured:
    bench.transmits()
    bench.conn.handle_udp(source, [datagram], T + 0.5)
    return len(datagram), out(bench)


def by_relay(bench: Bench, datagram: bytes) -> Measured:
    """What is sent at once, and by UDP within the second: rounds and turns go on."""
    bench.transmits()
    bench.conn.handle_relayed(REGION, bench.key, [datagram], T + 0.5)
    n_sent = out(bench)
    while (deadline := bench.conn.poll_timeout()) is not None and deadline.when < T + 1.49:
        bench.conn.handle_timeout(deadline.when)
    later = [t for t in bench.transmits() if isinstance(t, UdpTransmit)]
    return len(datagram), n_sent + sum(len(d) for t in later for d in t.datagrams)


def new_address(padding: int) -> Measured:
    bench = quiet_bench()
    return by_udp(bench, bench.sealed(Ping(TX, bench.key, padding)))


def proven() -> Measured:
    bench = quiet_bench(ADDR)
    bench.make_direct(T)
    return by_udp(bench, bench.sealed(Ping(TX, bench.key)), ADDR)


def replayed() -> Measured:
    bench = quiet_bench()
    packet = bench.sealed(Ping(TX, bench.key))
    by_udp(bench, packet, ADDR)
    return by_udp(bench, packet)


def too_small() -> Measured:
    bench = quiet_bench()
    return by_udp(bench, bench.sealed(Ping(TX)))


def first_pong() -> Measured:
    bench = quiet_bench(ADDR)
    ping = next(message for to, message in bench.messages() if to == ADDR and isinstance(message, Ping))
    return by_udp(bench, bench.sealed(Pong(ping.tx_id, MAPPED)), ADDR)


def unasked_pong() -> Measured:
    bench = quiet_bench(ADDR)
    return by_udp(bench, bench.sealed(Pong(TX, MAPPED)), ADDR)


def stranger() -> Measured:
    bench = quiet_bench()
    packet = bytearray(bench.sealed(Ping(TX, bench.key)))
    packet[6:38] = bytes(range(32))
    return by_udp(bench, bytes(packet))


def unreadable() -> Measured:
    """Twice within the second; the ping is the node's, and the handshake that the event makes the device's."""
    bench, pair = quiet_bench(ADDR), Pair()
    packet = MAGIC + bytes(104)
    sent = [by_udp(bench, packet, ADDR)[1], by_udp(bench, packet, ADDR)[1]]
    (_,) = bench.events(DiscoUnreadable)
    pair.a.initiate(pair.key_b.public(), 0.0, UNIX)
    return len(packet), sum(sent) + sum(map(len, take_datagrams(pair.a)))


def call(endpoints: list[AddrPort]) -> Measured:
    bench = quiet_bench()
    return by_relay(bench, bench.sealed(CallMeMaybe(tuple(endpoints))))


def relayed_ping() -> Measured:
    bench = quiet_bench()
    return by_relay(bench, bench.sealed(Ping(TX, bench.key)))


def unasked_stun() -> Measured:
    answer = bytes.fromhex("0101000c2112a442") + TX + bytes.fromhex("002000080001bd53e112a645")
    assert by_udp(quiet_bench(), answer) == (32, 0)
    return by_udp(quiet_bench(), encode_request(TX))


# WireGuard: Device


def initiation(pair: Pair) -> bytes:
    pair.a.initiate(pair.key_b.public(), 0.0, UNIX)
    (datagram,) = take_datagrams(pair.a)
    return datagram


def to_b(pair: Pair, *datagrams: bytes) -> Measured:
    feed(pair.b, datagrams, pair.source_a, now=1.0)
    return len(datagrams[-1]), max(map(len, take_datagrams(pair.b)), default=0)


def initiated() -> Measured:
    pair = Pair()
    return to_b(pair, initiation(pair))


def under_load() -> Measured:
    pair = Pair()
    return to_b(pair, *[initiation(pair)] * 300)


def initiated_again() -> Measured:
    pair = Pair()
    first = initiation(pair)
    to_b(pair, first)
    return to_b(pair, first)


def wrong_mac() -> Measured:
    pair = Pair()
    return to_b(pair, initiation(pair)[:-32] + bytes(32))


def responded() -> Measured:
    pair = Pair()
    feed(pair.b, [initiation(pair)], pair.source_a)
    (response,) = take_datagrams(pair.b)
    feed(pair.a, [response], pair.source_b)
    return len(response), sum(map(len, take_datagrams(pair.a)))


def no_session() -> Measured:
    return to_b(Pair(), b"\x04\0\0\0" + bytes(28))


NODE: dict[tuple[str, str], Callable[[], Measured]] = {
    (
        "node, disco",
        "a peer's ping from a new address: a pong, and a ping to see whether it is there",
    ): lambda: new_address(0),
    ("node, disco", "the same at full size"): lambda: new_address(1188),
    ("node, disco", "a peer's ping from where it has answered"): proven,
    ("node, disco", "a ping that came before, from anywhere"): replayed,
    ("node, disco", "a ping too small for a pong"): too_small,
    (
        "node, disco",
        "the pong that shows that a peer is at a new address: a ping of the tunnel's size",
    ): first_pong,
    ("node, disco", "a pong that was not requested"): unasked_pong,
    ("node, disco", "anything from an address of no peer"): stranger,
    (
        "node, disco",
        "undecryptable bytes from a peer's candidate: a ping there, a handshake, a call-me-maybe by relay",
    ): unreadable,
    ("node, by relay", "a call-me-maybe that names 64 ports of one address"): lambda: call(
        [(OTHER[0], 1000 + i) for i in range(64)]
    ),
    ("node, by relay", "a call-me-maybe that names 64 addresses"): lambda: call(
        [(f"203.0.{i}.1", 1000) for i in range(64)]
    ),
    ("node, by relay", "a ping"): relayed_ping,
    ("node, STUN", "an unrequested answer, or a request"): unasked_stun,
    ("WireGuard", "a peer's initiation"): initiated,
    ("WireGuard", "the same under load: a cookie"): under_load,
    ("WireGuard", "an initiation that came before"): initiated_again,
    ("WireGuard", "an initiation without the right MAC"): wrong_mac,
    ("WireGuard", "a response to our initiation: what was waiting, else a keepalive"): responded,
    ("WireGuard", "data of no session"): no_session,
}


def test_each_row_is_measured() -> None:
    assert set(rows()) == {*NODE, *(("STUN", name) for name in STUN)}


@pytest.mark.parametrize("row", NODE, ids=": ".join)
def test_a_node_answers_with_as_much_as_the_page_says(row: tuple[str, str]) -> None:
    assert NODE[row]() == rows()[row]


@pytest.mark.parametrize("name", STUN)
async def test_the_stun_server_answers_with_as_much_as_the_page_says(name: str) -> None:
    with trio.fail_after(5):
        assert await ask_stun(*STUN[name]) == rows()["STUN", name]


def test_what_gains_most_is_named_with_its_limit() -> None:
    """Whatever is larger than its question by more than four bytes has a limit in the last column."""
    section = PAGE.split("## What answers a datagram")[1].split("\n## ")[0]
    for (responder, datagram), (n_in, n_out) in rows().items():
        if n_out > n_in + 4:
            (line,) = [
                each for each in section.splitlines() if each.startswith(f"| {responder} | {datagram} |")
            ]
            assert re.search(r"second|one for each|the same", line.split("|")[5])
