"""Asks a STUN server the questions of RFC 5780, from sockets of its own that no path of the tunnel uses.

Questions are asked concurrently, each up to three times, and count as unanswered after a few round trips. The
whole examination takes two seconds at most.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from coderd.model.addresses import AddrPort, is_ipv6
from coderd.model.errors import MalformedPacket
from coderd.netcheck.mapped_address import HostAddresses
from coderd.netcheck.nat_behavior import UNKNOWN_BEHAVIOR, NatBehavior, alternates_of, filtering_of
from coderd.stun import (
    TX_SIZE,
    Answer,
    Question,
    encode_question,
    encode_request,
    parse_answer,
    parse_request,
)

TIMEOUT = 2.0
"""Seconds for a whole examination."""
TRIES = 3
"""Times that a question is sent, at most."""
INTERVAL = 0.1
"""Seconds between two tries of a question."""
PATIENCE = 0.3
"""Seconds that the last try waits for an answer, at least; four round trips where those are longer."""

_READ_SIZE = 9216
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3


async def examine(server: AddrPort, here: HostAddresses, size: int) -> NatBehavior:
    """Returns how the NAT between this host and a STUN server behaves, and whether full-size datagrams pass.

    Args:
        server: a STUN server that answers plain requests.
        here: this host's addresses: a mapped address among them shows that there is no NAT.
        size: bytes of UDP payload that the tunnel needs carried.
    """
    found = UNKNOWN_BEHAVIOR
    with trio.move_on_after(TIMEOUT):
        async with _asking(server) as near, _asking(server) as far:
            found = await _examine(near, far, here, size)
    return found


async def _examine(near: "_Asker", far: "_Asker", here: HostAddresses, size: int) -> NatBehavior:
    asked_at = trio.current_time()
    plain = await near.ask(Question(b"", is_extended=True), PATIENCE)
    if plain is None:
        return UNKNOWN_BEHAVIOR
    patience = max(PATIENCE, 4 * (trio.current_time() - asked_at))
    has_port, has_address = alternates_of(plain)
    is_masked = here.why_foreign(plain.mapped[0], near.server[0]) is not None
    came: dict[str, bool] = {}

    async def note(name: str, question: Question, asker: _Asker) -> None:
        came[name] = await asker.ask(question, patience, size=size) is not None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(note, "full", Question(b"", is_extended=True, is_padded=True), far)
        if has_port and not is_masked:
            nursery.start_soon(note, "port", Question(b"", change_port=True, is_extended=True), near)
        if has_address and not is_masked:
            question = Question(b"", change_ip=True, change_port=True, is_extended=True)
            nursery.start_soon(note, "address", question, near)
        if not is_masked and plain.mapped[0] not in here.addresses:
            nursery.start_soon(partial(_turn_around, near, plain.mapped, patience, came))
    filtering, by_port = UNKNOWN_BEHAVIOR.filtering, UNKNOWN_BEHAVIOR.filters_by_port
    if "port" in came:
        filtering, by_port = filtering_of(
            lets_in_port=came["port"],
            lets_in_address=came.get("address", False),
            has_other_address=has_address,
        )
    return NatBehavior(filtering, by_port, came.get("hairpin"), came["full"])


async def _turn_around(near: "_Asker", mapped: AddrPort, patience: float, came: dict[str, bool]) -> None:
    """Tests hairpinning: sends from a new socket, which has no mapping yet, to ``mapped``.

    Records in ``came`` whether the request arrives at ``near``, which the STUN server sees at ``mapped``.
    """
    with _socket(mapped) as sock:
        came["hairpin"] = await near.hear(sock, mapped, patience)


class _Asker:
    """Socket that asks one STUN server, with the waiters for its answers by transaction ID."""

    def __init__(self, sock: trio.socket.SocketType, server: AddrPort) -> None:
        self.server = server
        self._sock = sock
        self._waiting: dict[bytes, tuple[trio.Event, list[Answer]]] = {}

    async def read(self) -> None:
        """Reads datagrams and wakes the waiters of their transaction IDs, until cancelled."""
        while True:
            try:
                datagram = await self._sock.recv(_READ_SIZE)
            except OSError:  # an ICMP error about something sent earlier
                continue
            self._hand_out(datagram)

    def _hand_out(self, datagram: bytes) -> None:
        try:
            answer = parse_answer(datagram)
            if (waiting := self._waiting.get(answer.tx)) is not None:
                waiting[1].append(answer)
                waiting[0].set()
        except MalformedPacket:
            with_tx = _tx_of(datagram)
            if with_tx in self._waiting:
                self._waiting[with_tx][0].set()

    async def ask(self, question: Question, patience: float, *, size: int = 0) -> Answer | None:
        """Asks the server up to ``TRIES`` times; returns its answer, or None where none comes."""
        event, answers = trio.Event(), list[Answer]()
        for left in reversed(range(TRIES)):
            tx = os.urandom(TX_SIZE)
            self._waiting[tx] = (event, answers)
            await _send(self._sock, encode_question(question._replace(tx=tx), size=size), self.server)
            with trio.move_on_after(INTERVAL if left else patience):
                await event.wait()
                break
        return answers[0] if answers else None

    async def hear(self, sender: trio.socket.SocketType, mapped: AddrPort, patience: float) -> bool:
        """Returns whether a request that ``sender`` sends to ``mapped`` arrives at this socket."""
        event = trio.Event()
        for left in reversed(range(TRIES)):
            tx = os.urandom(TX_SIZE)
            self._waiting[tx] = (event, [])
            await _send(sender, encode_request(tx), mapped)
            with trio.move_on_after(INTERVAL if left else patience):
                await event.wait()
                break
        return event.is_set()


@asynccontextmanager
async def _asking(server: AddrPort) -> AsyncIterator[_Asker]:
    with _socket(server) as sock:
        async with trio.open_nursery() as nursery:
            asker = _Asker(sock, server)
            nursery.start_soon(asker.read)
            yield asker
            nursery.cancel_scope.cancel()


def _socket(peer: AddrPort) -> trio.socket.SocketType:
    """Returns a UDP socket of a peer's address family that sends with DF set (``IP_PMTUDISC_PROBE``)."""
    is_six = is_ipv6(peer)
    sock = trio.socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, socket.SOCK_DGRAM)
    level = socket.IPPROTO_IPV6 if is_six else socket.IPPROTO_IP
    sock.setsockopt(level, _IPV6_MTU_DISCOVER if is_six else _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    return sock


async def _send(sock: trio.socket.SocketType, datagram: bytes, to: AddrPort) -> None:
    """Sends a datagram; one that cannot be sent counts as lost on its way."""
    try:
        await sock.sendto(datagram, to)
    except OSError:
        await trio.lowlevel.checkpoint()


def _tx_of(datagram: bytes) -> bytes:
    try:
        return parse_request(datagram)
    except MalformedPacket:
        return b""
