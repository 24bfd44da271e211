"""The driver over real sockets: two engines on loopback, their TUNs played by socket pairs."""

import errno
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network

import pytest
import trio

from coderd.engine.dataplane import DataPlane
from coderd.engine.io.driver import Driver
from coderd.metrics import Counters
from coderd.model import Buffer
from coderd.model.addresses import AddrPort
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.transport import DerpTransmit, UdpTransmit
from coderd.packet import checksum
from coderd.plain.io.sockets import PlainSockets
from coderd.plain.paths import PlainPaths
from coderd.tun.virtio import HEADER_SIZE
from coderd.wireguard import Device

HEADER = bytes(HEADER_SIZE)


class FakeTun:
    """A TUN whose kernel side is the other end of a socket pair."""

    name = "fake0"

    def __init__(self) -> None:
        self.kernel, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.setblocking(False)
        self._ours.setblocking(False)
        self.is_deleted = False

    def fileno(self) -> int:
        return self._ours.fileno()

    def read_into(self, header: bytearray, buffer: bytearray | memoryview) -> int:
        if self.is_deleted:
            raise OSError(errno.EBADFD, os.strerror(errno.EBADFD))
        return os.readv(self.fileno(), [header, buffer]) - len(header)

    def write(self, iovec: list[Buffer]) -> None:
        if self.is_deleted:
            raise OSError(errno.EBADFD, os.strerror(errno.EBADFD))
        os.writev(self.fileno(), iovec)

    def delete(self) -> None:
        """As ``ip link delete`` does: every waiter wakes, every call fails."""
        self.is_deleted = True
        self.kernel.send(b"\0" * (HEADER_SIZE + 1))

    def close(self) -> None:
        self.kernel.close()
        self._ours.close()


class NoLinks:
    def send_nowait(self, transmit: DerpTransmit) -> None:
        raise AssertionError("nothing is relayed here")

    def __init__(self) -> None:
        self.is_crowded = False
        self.room = trio.Event()

    async def wait_room(self) -> None:
        await self.room.wait()
        self.is_crowded = False


class Paths(PlainPaths):
    """Remembers what the kernel refused."""

    def __init__(self, *, counters: Counters) -> None:
        super().__init__(counters=counters)
        self.send_errors: list[tuple[AddrPort, int]] = []

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        self.send_errors.append((addr, error))


class Node:
    """One engine with one peer."""

    def __init__(self, seed: int) -> None:
        self.counters: Counters = Counter()
        self.rng = random.Random(seed).randbytes
        self.key = NodePrivate.generate(self.rng)
        self.tun = FakeTun()
        self.paths = Paths(counters=self.counters)
        self.device = Device(rng=self.rng, now=trio.current_time(), mtu=1420, counters=self.counters)
        self.sockets = PlainSockets(self.counters, on_rebound=lambda: None, on_stale=lambda local: None)
        self.sockets.open()
        self.links = NoLinks()
        self.driver = Driver(
            DataPlane(self.device, self.paths, uso=False, counters=self.counters),
            self.tun,  # type: ignore[arg-type]  # a stand-in at the seam
            self.sockets,
            self.links,
            on_flushed=lambda: False,
            counters=self.counters,
        )

    def meet(self, peer: NodePublic, network: str, addr: AddrPort) -> None:
        now = trio.current_time()
        self.device.set_private_key(self.key, now)
        self.device.set_peer(peer, now, allowed_ips=[IPv4Network(network)])
        self.paths.set_endpoint(peer, addr)
        self.device.up(now)

    def close(self) -> None:
        self.tun.close()
        self.sockets.close()


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[Node, Node, trio.Nursery]]:
    one, two = Node(1), Node(2)
    one.meet(two.key.public(), "10.0.0.2/32", ("127.0.0.1", two.sockets.port))
    two.meet(one.key.public(), "10.0.0.1/32", ("127.0.0.1", one.sockets.port))
    try:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                yield one, two, nursery
                nursery.cancel_scope.cancel()
    finally:
        one.close()
        two.close()


def packet(source: str, destination: str, payload: bytes) -> bytes:
    """An IPv4 packet of an experimental protocol, so that nothing is coalesced."""
    head = bytearray(b"\x45\0" + (20 + len(payload)).to_bytes(2) + b"\0\0\0\0\x40\xfd\0\0")
    head += socket.inet_aton(source) + socket.inet_aton(destination)
    head[10:12] = checksum(head).to_bytes(2)
    return bytes(head) + payload


async def kernel_reads(node: Node) -> bytes:
    """The next packet that the node hands to its kernel."""
    while True:
        try:
            return node.tun.kernel.recv(65600)[HEADER_SIZE:]
        except BlockingIOError:
            await trio.lowlevel.wait_readable(node.tun.kernel)


async def test_a_packet_put_into_one_tun_comes_out_of_the_other() -> None:
    async with two_nodes() as (one, two, nursery):
        await nursery.start(one.driver.run)
        await nursery.start(two.driver.run)
        there = packet("10.0.0.1", "10.0.0.2", b"there")
        one.tun.kernel.send(HEADER + there)
        assert await kernel_reads(two) == there
        back = packet("10.0.0.2", "10.0.0.1", b"and back")
        two.tun.kernel.send(HEADER + back)
        assert await kernel_reads(one) == back


async def test_packets_read_together_leave_in_one_batch_and_in_order() -> None:
    async with two_nodes() as (one, two, nursery):
        packets = [packet("10.0.0.1", "10.0.0.2", bytes([n]) * 100) for n in range(20)]
        await nursery.start(two.driver.run)
        for each in packets:
            one.tun.kernel.send(HEADER + each)
        await nursery.start(one.driver.run)
        assert [await kernel_reads(two) for _ in packets] == packets
        assert one.counters["tun.reads"] == 20
        assert one.counters["udp.sendmsg"] < 10


async def test_while_a_relay_link_is_crowded_packets_wait_in_the_tun_and_others_still_arrive() -> None:
    async with two_nodes() as (one, two, nursery):
        await nursery.start(one.driver.run)
        await nursery.start(two.driver.run)
        first, second = (packet("10.0.0.1", "10.0.0.2", text) for text in (b"first", b"second"))
        one.links.is_crowded = True
        one.tun.kernel.send(HEADER + first)
        assert await kernel_reads(two) == first
        one.tun.kernel.send(HEADER + second)
        back = packet("10.0.0.2", "10.0.0.1", b"back")
        two.tun.kernel.send(HEADER + back)
        assert await kernel_reads(one) == back
        assert one.counters["tun.reads"] == 1
        one.links.room.set()
        assert await kernel_reads(two) == second


async def test_an_alarm_set_by_a_command_fires() -> None:
    """The initiation has no answer: its retransmission is the alarm's doing."""
    async with two_nodes() as (one, _two, nursery):
        await nursery.start(one.driver.run)
        one.device.set_peer(_two.key.public(), trio.current_time(), persistent_keepalive=25)
        one.driver.drain()
        while one.counters["wireguard.initiations_sent"] < 1:
            await trio.lowlevel.checkpoint()


async def test_a_refused_destination_is_counted_and_reported() -> None:
    async with two_nodes() as (one, _two, _nursery):
        one.driver._transmit(UdpTransmit(("127.0.0.1", 0), [b"nobody listens at port 0"], 24), 0.0)
        assert one.paths.send_errors == [(("127.0.0.1", 0), errno.EINVAL)]
        assert one.counters["udp.drop.einval"] == 1


async def test_a_deleted_interface_is_the_readers_news_and_only_counted_by_writers() -> None:
    async with two_nodes() as (one, two, nursery):
        await nursery.start(one.driver.run)
        one.tun.kernel.send(HEADER + packet("10.0.0.1", "10.0.0.2", b"x"))
        ended = trio.Event()

        async def run_two() -> None:
            with pytest.raises(ExceptionGroup) as caught:
                await two.driver.run()
            assert caught.group_contains(OSError, match="bad state")
            ended.set()

        two.tun.is_deleted = True
        nursery.start_soon(run_two)
        while not two.counters["tun.drop.ebadfd"]:
            await trio.lowlevel.checkpoint()
        assert not ended.is_set()
        two.tun.delete()
        await ended.wait()
