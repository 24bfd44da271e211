"""The UDP sockets on real loopback: whole batches out and in, and what happens where the kernel says no."""

import errno
import socket
from collections.abc import Iterator

import pytest
import trio

from coderd.magicsock.io.sockets import UdpSockets
from coderd.metrics import Counters
from coderd.model.addresses import AddrPort
from coderd.model.transport import BUFFER_SIZE, SocketId, UdpSource, UdpTransmit

SPARE = SocketId(7)
SIZE = 1392
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


class Pair:
    """Two nodes' sockets on this host."""

    def __init__(self) -> None:
        self.a_counters, self.b_counters = Counters(), Counters()
        self.a = UdpSockets.open(0, self.a_counters)
        self.b = UdpSockets.open(0, self.b_counters)

    def addr_of(self, sockets: UdpSockets, version: int) -> AddrPort:
        port = sockets.v4_port if version == 4 else sockets.v6_port
        assert port is not None
        return (LOOPBACK[version], port)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.a.close()
    pair.b.close()


def socket_of(sockets: UdpSockets, version: int) -> socket.socket:
    return sockets.sockets[0 if version == 4 else 1]


async def receive(sockets: UdpSockets, version: int) -> tuple[UdpSource, list[bytes]]:
    sock, buffer = socket_of(sockets, version), bytearray(BUFFER_SIZE)
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(sock)
    received = sockets.receive(sock, buffer)
    assert received is not None
    return received[0], [bytes(datagram) for datagram in received[1]]


def batch(n: int, tail: int = SIZE) -> list[bytes]:
    return [bytes([i]) * SIZE for i in range(n - 1)] + [b"\xff" * tail]


@pytest.mark.parametrize("version", [4, 6])
async def test_a_batch_of_45_leaves_in_one_call_and_arrives_in_one(pair: Pair, version: int) -> None:
    datagrams = batch(45, tail=100)
    assert pair.a.send_nowait(UdpTransmit(pair.addr_of(pair.b, version), datagrams, SIZE)) == 0
    sender, received = await receive(pair.b, version)
    assert sender.addr == pair.addr_of(pair.a, version)
    assert received == datagrams
    assert (pair.a_counters["udp.sendmsg"], pair.a_counters["udp.sent_datagrams"]) == (1, 45)
    assert (pair.b_counters["udp.recvmsg"], pair.b_counters["udp.received_datagrams"]) == (1, 45)


async def test_a_single_datagram_arrives_as_one(pair: Pair) -> None:
    pair.a.send_nowait(UdpTransmit(pair.addr_of(pair.b, 4), [b"alone"], 5))
    assert (await receive(pair.b, 4))[1] == [b"alone"]


async def test_an_empty_datagram_is_no_datagram(pair: Pair) -> None:
    pair.a.send_nowait(UdpTransmit(pair.addr_of(pair.b, 4), [b""], 0))
    assert (await receive(pair.b, 4))[1] == []


def test_nothing_to_read_is_none(pair: Pair) -> None:
    assert pair.b.receive(socket_of(pair.b, 4), bytearray(BUFFER_SIZE)) is None


def test_both_families_share_a_port(pair: Pair) -> None:
    assert pair.a.v4_port == pair.a.v6_port


def test_a_port_that_is_taken_gives_way_to_another(pair: Pair) -> None:
    third = UdpSockets.open(pair.a.v4_port)
    assert third.v4_port not in (pair.a.v4_port, None)
    third.close()


class Refusing:
    """A socket whose kernel refuses segmentation with an errno; everything else is the real one's."""

    def __init__(self, real: socket.socket, error: int) -> None:
        self._real = real
        self._error = error
        self.n_asked = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def sendmsg(self, *_: object) -> int:
        self.n_asked += 1
        raise OSError(self._error, "refused")


def refuse(sockets: UdpSockets, error: int) -> Refusing:
    refusing = Refusing(socket_of(sockets, 4), error)
    sockets._v4 = refusing  # type: ignore[assignment]
    sockets._with_gso.add(refusing)  # type: ignore[arg-type]
    return refusing


@pytest.mark.parametrize(("error", "n_asked"), [(errno.EIO, 1), (errno.EINVAL, 1), (errno.EMSGSIZE, 2)])
async def test_a_refused_batch_goes_one_by_one_and_a_kernel_that_cannot_is_not_asked_again(
    pair: Pair, error: int, n_asked: int
) -> None:
    refusing = refuse(pair.a, error)
    for _ in range(2):
        assert pair.a.send_nowait(UdpTransmit(pair.addr_of(pair.b, 4), batch(3), SIZE)) == 0
    arrived: list[bytes] = []
    while len(arrived) < 6:
        arrived += (await receive(pair.b, 4))[1]
    assert arrived == batch(3) * 2
    assert refusing.n_asked == n_asked


def test_other_errors_are_told_and_nothing_is_sent(pair: Pair) -> None:
    refuse(pair.a, errno.EPERM)
    assert pair.a.send_nowait(UdpTransmit(pair.addr_of(pair.b, 4), batch(3), SIZE)) == errno.EPERM
    assert pair.a_counters["udp.sent_datagrams"] == 0


def test_a_datagram_longer_than_the_device_carries_is_refused_not_fragmented(pair: Pair) -> None:
    too_long = [bytes(65508)]
    assert pair.a.send_nowait(UdpTransmit(pair.addr_of(pair.b, 4), too_long, 65508)) == errno.EMSGSIZE


def test_the_kernel_refuses_a_networks_broadcast_address(pair: Pair) -> None:
    assert pair.a.send_nowait(UdpTransmit(("127.255.255.255", 9), [b"ping"], 4)) == errno.EACCES


@pytest.mark.parametrize("scope", ["\u00b2", "\u0663", "no such", "99999999999999999999999", "1\n", "-1", ""])
def test_a_scope_that_is_none_is_an_error_like_any_other(pair: Pair, scope: str) -> None:
    """Whoever names an address to this node, be it the server or a peer through it, does not end it by that."""
    transmit = UdpTransmit((f"2001:db8::1%{scope}", 9), [b"x"], 1)
    assert isinstance(pair.a.send_nowait(transmit), int)


def test_without_a_socket_of_its_family_an_address_is_refused() -> None:
    sockets = UdpSockets(None, None, Counters())
    assert sockets.send_nowait(UdpTransmit(("127.0.0.1", 1), [b"x"], 1)) == errno.EAFNOSUPPORT


async def test_with_segmentation_switched_off_all_arrives_all_the_same(pair: Pair) -> None:
    plain = UdpSockets.open(0, gro=False)
    plain._with_gso.clear()  # as on a kernel without UDP_SEGMENT
    assert plain.send_nowait(UdpTransmit(pair.addr_of(pair.b, 4), batch(3), SIZE)) == 0
    arrived: list[bytes] = []
    while len(arrived) < 3:
        arrived += (await receive(pair.b, 4))[1]
    assert arrived == batch(3)
    plain.close()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("tos", "is_congested"), [(0, False), (2, False), (3, True), (0x88, False)])
@pytest.mark.parametrize("n", [1, 5])
async def test_the_service_byte_travels_with_a_batch(
    pair: Pair, version: int, tos: int, is_congested: bool, n: int
) -> None:
    transmit = UdpTransmit(pair.addr_of(pair.b, version), batch(n), SIZE, tos=tos)
    assert pair.a.send_nowait(transmit) == 0
    sock = socket_of(pair.b, version)
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(sock)
    message = pair.b.receive_message(sock, bytearray(BUFFER_SIZE))
    assert message is not None
    assert len(message.datagrams) == n
    assert message.is_congested == is_congested
    assert [data[0] for level, _, data in message.ancillary if level in (0, 41)] == [tos]


async def test_what_the_kernel_had_no_room_for_is_counted(pair: Pair) -> None:
    sock = socket_of(pair.b, 4)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sender, addr = socket_of(pair.a, 4), pair.addr_of(pair.b, 4)
    for _ in range(50):
        sender.sendto(bytes(1000), addr)
    drain(pair.b, sock)
    sender.sendto(bytes(1000), addr)  # the first that has room again brings word of those that had none
    drain(pair.b, sock)
    n_lost = 51 - pair.b_counters["udp.received_datagrams"]
    assert pair.b_counters["udp.drop.kernel"] == n_lost > 0


def drain(sockets: UdpSockets, sock: socket.socket) -> None:
    while sockets.receive(sock, bytearray(BUFFER_SIZE)) is not None:
        pass


async def test_a_spare_socket_sends_from_a_port_of_its_own_and_tells_what_comes_to_it(pair: Pair) -> None:
    spare = pair.a.open_spare(SPARE)
    assert spare is not None
    port = spare.getsockname()[1]
    assert port != pair.a.v4_port
    here = pair.addr_of(pair.b, 4)
    assert pair.a.send_nowait(UdpTransmit(here, batch(3), SIZE, socket=SPARE)) == 0
    assert await receive(pair.b, 4) == (UdpSource((LOOPBACK[4], port)), batch(3))
    assert pair.b.send_nowait(UdpTransmit((LOOPBACK[4], port), batch(3), SIZE)) == 0
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(spare)
    received = pair.a.receive(spare, bytearray(BUFFER_SIZE))
    assert received is not None
    assert received[0] == UdpSource(here, SPARE)
    assert [bytes(datagram) for datagram in received[1]] == batch(3)


def test_a_spare_socket_that_is_closed_sends_nothing_and_is_no_usual_one(pair: Pair) -> None:
    spare = pair.a.open_spare(SPARE)
    assert spare is not None
    assert spare not in pair.a.sockets
    pair.a.close_spare(SPARE)
    pair.a.close_spare(SPARE)
    assert pair.a.spare(SPARE) is None
    assert spare.fileno() == -1
    to = pair.addr_of(pair.b, 4)
    assert pair.a.send_nowait(UdpTransmit(to, [b"x"], 1, socket=SPARE)) == errno.EBADF


def test_the_end_closes_spare_sockets_too() -> None:
    sockets = UdpSockets.open(0)
    spares = [sockets.open_spare(SocketId(number)) for number in range(1, 4)]
    sockets.close()
    assert [spare.fileno() for spare in spares if spare is not None] == [-1, -1, -1]
