"""The STUN responder: a few UDP sockets, read in batches, each valid Binding request answered at once.

A reply leaves from the very address that the request came to (PKTINFO goes in and out again): on a host with
several addresses the kernel's own choice of source would be dropped by the NAT that the client wants to learn
about.

A request with CHANGE-REQUEST (RFC 5780) is answered from another socket: one with another port or, where the
sockets are bound to different addresses, another address. A request that no socket fits is not answered.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

import trio

from coderd.metrics import Counters
from coderd.model.addresses import AddrPort, canonical_ip, format_addr_port, is_ipv6
from coderd.model.errors import MalformedPacket, UserError
from coderd.stun.allowance import Allowance
from coderd.stun.message import (
    Answer,
    Question,
    encode_answer,
    encode_request,
    encode_response,
    parse_question,
    parse_response,
)

READ_SIZE = 9216
"""Bytes; a longer datagram is cut, so its length field no longer fits and it is dropped."""
BATCH = 64
"""Datagrams read per wake-up before other tasks have their turn."""

ANSWERED_HERE = "stun.answered_here"
"""The counter of answers to this very host, which show that we are well, and nothing of the network."""

ROUND_TRIP_TRIES = (0.3, 0.6, 1.1)
"""Seconds that each request of ``stun_round_trip`` waits for its answer."""
_TX_SIZE = 12

_IP_PKTINFO = 8
"""Linux's number; Python 3.11 does not name it. Value: interface, local address, destination."""
_PKTINFO4 = struct.Struct("=I4s4s")
_PKTINFO6 = struct.Struct("=16sI")
_ANCILLARY_SIZE = socket.CMSG_SPACE(_PKTINFO6.size) + socket.CMSG_SPACE(_PKTINFO4.size)

_Ancillary = tuple[int, int, bytes]
_ANY = ("::", "0.0.0.0")


async def serve_stun(
    addresses: Sequence[AddrPort],
    *,
    counters: Counters,
    task_status: trio.TaskStatus[list[AddrPort]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers STUN on every address, until cancelled.

    Args:
        addresses: where to listen; ``::`` takes IPv4 too, port 0 any port.
        counters: told ``stun.answered``, of those ``stun.answered_here``, and ``stun.drop.*``.
        task_status: started with the addresses as bound, in the same order.

    Raises:
        UserError: an address cannot be had.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(_bind(address)) for address in addresses]
        allowance = Allowance()
        task_status.started([_name_of(sock) for sock in sockets])
        async with trio.open_nursery() as nursery:
            for sock in sockets:
                nursery.start_soon(_serve, sock, sockets, allowance, counters)


async def _serve(
    sock: socket.socket, sockets: Sequence[socket.socket], allowance: Allowance, counters: Counters
) -> None:
    buffer = memoryview(bytearray(READ_SIZE))
    while True:
        await trio.lowlevel.wait_readable(sock)
        for _ in range(BATCH):
            try:
                size, ancillary, _, client = sock.recvmsg_into([buffer], _ANCILLARY_SIZE)
            except BlockingIOError:
                break
            except OSError:  # out of memory, or an ICMP error that concerns one client
                counters["stun.drop.receive_error"] += 1
                break
            _answer(sock, sockets, buffer[:size], ancillary, client, allowance, counters)


def _answer(
    sock: socket.socket,
    sockets: Sequence[socket.socket],
    datagram: memoryview,
    ancillary: Iterable[_Ancillary],
    client: tuple[str, int],
    allowance: Allowance,
    counters: Counters,
) -> None:
    try:
        question = parse_question(datagram)
    except MalformedPacket:
        counters["stun.drop.malformed"] += 1
        return
    sender = _sender(question, sock, sockets)
    if sender is None:
        counters["stun.drop.unable"] += 1
        return
    mapped, source = (client[0], client[1]), _source(ancillary)
    if question.is_extended:
        here = _address_of(source, sock)
        answer = Answer(question.tx, mapped, here, _other(here, sock, sockets))
        response = encode_answer(answer, size=len(datagram) if question.is_padded else 0)
    else:
        response = encode_response(question.tx, mapped)
    if not allowance.admits(client[0], len(datagram), len(response), trio.current_time()):
        counters["stun.drop.larger"] += 1
        return
    try:
        sender.sendmsg([response], [] if question.change_ip else source, 0, client)
    except (
        OSError
    ):  # a full buffer, no way back, a port of 0: STUN is asked again, and forged senders are not helped
        counters["stun.drop.send_error"] += 1
    else:
        counters["stun.answered"] += 1
        if canonical_ip(client[0]) == _address_of(source, sock)[0]:
            counters[ANSWERED_HERE] += 1


def _sender(
    question: Question, sock: socket.socket, sockets: Sequence[socket.socket]
) -> socket.socket | None:
    """Returns the socket that answers a question, which may want another than the one that it came to.

    Returns None where there is no such socket.
    """
    if not question.is_extended:
        return sock
    wanted = (question.change_ip, question.change_port)
    return next((other for other in (sock, *sockets) if _difference(sock, other) == wanted), None)


def _other(here: AddrPort, sock: socket.socket, sockets: Sequence[socket.socket]) -> AddrPort | None:
    """Returns the other address and port that questions can be answered from, None without one.

    Both differ if some socket has another address and another port, else the port alone.
    """
    others = {_difference(sock, other): _name_of(other) for other in sockets}
    if (elsewhere := others.get((True, True))) is not None:
        return elsewhere
    return (here[0], others[False, True][1]) if (False, True) in others else None


def _difference(sock: socket.socket, other: socket.socket) -> tuple[bool, bool] | None:
    """Returns whether another socket differs in address, and in port.

    Returns None where the address may be either, as one of the two is unspecified, or the families differ.
    """
    (ip, port), (other_ip, other_port) = _name_of(sock), _name_of(other)
    is_elsewhere = ip != other_ip
    if sock.family != other.family or (is_elsewhere and (ip in _ANY or other_ip in _ANY)):
        return None
    return is_elsewhere, port != other_port


def _address_of(source: Sequence[_Ancillary], sock: socket.socket) -> AddrPort:
    """The address that a request came to."""
    ip, port = _name_of(sock)
    for level, _, value in source:
        if level == socket.IPPROTO_IPV6:
            ip = canonical_ip(str(IPv6Address(value[:16])))
        else:
            ip = str(IPv4Address(value[4:8]))
    return (ip, port)


def _source(ancillary: Iterable[_Ancillary]) -> list[_Ancillary]:
    """The received destination as the source to send from, by whatever interface the routes say."""
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(value) == _PKTINFO6.size:
            address, interface = _PKTINFO6.unpack(value)
            is_link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
            return [(level, kind, _PKTINFO6.pack(address, interface if is_link_local else 0))]
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(value) == _PKTINFO4.size:
            _, local, _ = _PKTINFO4.unpack(value)
            return [(level, kind, _PKTINFO4.pack(0, local, bytes(4)))]
    return []


def _bind(address: AddrPort) -> socket.socket:
    try:
        return _bound_socket(address)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT and address[0] == "::":  # a kernel without IPv6
            return _bind(("0.0.0.0", address[1]))
        raise UserError(
            f"STUN cannot listen on UDP {format_addr_port(address)}: {error.strerror or error}",
            hint="Give another address with --stun-address, or turn STUN off with --stun-address off.",
            code="stun_address",
        ) from error


def _bound_socket(address: AddrPort) -> socket.socket:
    family = socket.AF_INET6 if is_ipv6(address) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _name_of(sock: socket.socket) -> AddrPort:
    ip, port = sock.getsockname()[:2]
    return (canonical_ip(ip), port)


async def stun_round_trip(target: AddrPort) -> float | None:
    """Measures the seconds from a Binding request to its answer, from a socket of its own.

    Returns None if none of the requests, one for each of ``ROUND_TRIP_TRIES``, is answered.
    """
    family = trio.socket.AF_INET6 if is_ipv6(target) else trio.socket.AF_INET
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
        await sock.connect(target)
        sent: dict[bytes, float] = {}
        for patience in ROUND_TRIP_TRIES:
            tx = os.urandom(_TX_SIZE)
            sent[tx] = trio.current_time()
            try:
                await sock.send(encode_request(tx))
                with trio.move_on_after(patience):
                    return await _receive_answer(sock, sent)
            except OSError:  # the port is closed, which also answers: there is no client
                await trio.sleep(patience)
    return None


async def _receive_answer(sock: trio.socket.SocketType, sent: dict[bytes, float]) -> float:
    while True:
        datagram = await sock.recv(1500)
        try:
            tx, _ = parse_response(datagram)
        except MalformedPacket:
            continue
        if tx in sent:
            return trio.current_time() - sent[tx]
