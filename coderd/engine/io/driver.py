"""The loop around the data plane: wait once, take many, feed, drain once, re-arm the alarm.

Three readers (TUN, UDP over IPv4, UDP over IPv6), one alarm, and relays that call in (``RelayFeed``). Every
wake-up ends in ``drain``: synchronous, therefore atomic, therefore without locks. What a socket or the TUN
does not take at once is dropped and counted: a VPN sheds load, it does not stall. Only a relay link that
fills up has the TUN wait, for milliseconds.

How much a wake-up takes is a bargain between three. Small packets are cheap to read and dear to send, so many
reads share a drain. A big read is a batch by itself: it goes on at once, else the next hop would idle and
then choke on many. And after a few big ones the other direction has its turn, for it carries the
acknowledgements that keep this one going.
"""

import errno
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import trio

from coderd.metrics import Counters
from coderd.model import Buffer
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline
from coderd.model.transport import BUFFER_SIZE, DerpTransmit, UdpSource, UdpTransmit
from coderd.tun.io.device import TunDevice
from coderd.tun.virtio import HEADER_SIZE

READS_PER_WAKEUP = 32
BYTES_PER_WAKEUP = 4 * 65536
"""About a millisecond of work."""
FULL = 48_000
"""A read of so many bytes is a super-packet or a full batch."""
ROUNDS_PER_DRAIN = 8
"""Rounds of one drain. The answer to a command mostly takes one more; the rest waits for the alarm."""


class Machine(Protocol):
    """Pure machine that a driver feeds: a ``Node``, or the ``DataPlane`` of a plain WireGuard."""

    def handle_tun(self, header: Buffer, packet: Buffer, now: float, unix_now: float) -> None:
        """Takes one TUN read, its buffers borrowed."""

    def handle_udp(
        self,
        source: UdpSource,
        datagrams: Sequence[Buffer],
        now: float,
        unix_now: float,
        *,
        is_congested: bool = False,
    ) -> None:
        """Takes one UDP read, its buffers borrowed."""

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        """Notes that the kernel refused to send to an address, with this errno."""

    def handle_timeout(self, now: float, unix_now: float) -> None:
        """Fires every timer that is due."""

    def drain(self, now: float, unix_now: float) -> None:
        """Makes what is ready pollable."""

    def poll_transmit(self) -> UdpTransmit | DerpTransmit | None:
        """Returns the next batch for a socket or a relay."""

    def poll_tun(self) -> list[Buffer] | None:
        """Returns the next TUN write."""

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``."""


class Links(Protocol):
    """Relay links, as the driver sends through them."""

    def send_nowait(self, transmit: DerpTransmit) -> None:
        """Queues a batch to a region's relay, dialling it if need be."""

    @property
    def is_crowded(self) -> bool:
        """Whether a link's queue is so full that it may soon drop."""

    async def wait_room(self) -> None:
        """Waits until the queues have room, a few milliseconds at most."""


class Sockets(Protocol):
    """UDP sockets, as the driver reads them and sends by them."""

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The open sockets, to wait on and read from."""

    def receive(
        self, sock: socket.socket, buffer: bytearray | memoryview
    ) -> tuple[UdpSource, list[memoryview], bool] | None:
        """Reads one batch: its source, its datagrams, and whether it was marked CE; None without one."""

    def send_nowait(self, transmit: UdpTransmit) -> int:
        """Sends one batch. Returns 0 when the kernel took it, else the errno."""


class Driver:
    """Moves bytes between one TUN, the UDP sockets, the relay links and a pure machine.

    Args:
        machine: decides everything.
        tun: the opened device.
        sockets: the bound UDP sockets.
        links: relay links, to send by; what they deliver comes from ``RelayFeed``.
        on_flushed: carries out the machine's commands; returns whether they gave it new input.
        counters: batches and drops of the shell.
    """

    def __init__(
        self,
        machine: Machine,
        tun: TunDevice,
        sockets: Sockets,
        links: Links,
        *,
        on_flushed: Callable[[], bool],
        counters: Counters,
    ) -> None:
        self._machine = machine
        self._tun = tun
        self._sockets = sockets
        self._links = links
        self._on_flushed = on_flushed
        self._counters = counters
        self._is_draining = False
        self._is_stale = False
        self._alarm = trio.CancelScope()
        self._readers = trio.CancelScope()
        self._spare: dict[socket.socket, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._tun_header = bytearray(HEADER_SIZE)
        self._tun_buffer = memoryview(bytearray(BUFFER_SIZE))
        self._udp_buffer = memoryview(bytearray(BUFFER_SIZE))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled. Raises OSError when the interface is deleted under us."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._pump, self._tun.fileno(), self._take_tun, self._pause)
            nursery.start_soon(self._pump_sockets)
            nursery.start_soon(self._run_alarm)
            task_status.started()

    def handle_rebound(self) -> None:
        """Stops reading the present sockets, and reads those of ``sockets`` anew.

        Call it before the old ones are closed.
        """
        self._readers.cancel()

    def read_also(self, sock: socket.socket) -> None:
        """Reads one more socket, until ``stop_reading``."""
        if self._nursery is not None:
            self._spare[sock] = trio.CancelScope()
            self._nursery.start_soon(self._pump_spare, sock, self._spare[sock])

    def stop_reading(self, sock: socket.socket) -> None:
        """Stops reading a socket of ``read_also``. Call it before the socket is closed."""
        if (scope := self._spare.pop(sock, None)) is not None:
            scope.cancel()

    def drain(self) -> None:
        """Sends, writes and carries out what is ready, then re-arms. Call it after any command.

        Never entered twice: called from within ``on_flushed``, it leaves what is new to the loop that is
        under way.
        """
        if self._is_draining:
            self._is_stale = True
            return
        self._is_draining = True
        try:
            self._drain(trio.current_time(), time.time())
        finally:
            self._is_draining = False

    def _drain(self, now: float, unix_now: float) -> None:
        for _ in range(ROUNDS_PER_DRAIN):
            self._is_stale = False
            self._flush(now, unix_now)
            if not (self._on_flushed() or self._is_stale):
                deadline = self._machine.poll_timeout()
                self._alarm.deadline = deadline.when if deadline is not None else float("inf")
                return
        self._alarm.deadline = now

    async def _pump_sockets(self) -> None:
        while True:
            with trio.CancelScope() as self._readers:
                async with trio.open_nursery() as nursery:
                    for sock in self._sockets.sockets:
                        nursery.start_soon(self._pump, sock, partial(self._take_udp, sock))
                    await trio.sleep_forever()

    async def _pump_spare(self, sock: socket.socket, scope: trio.CancelScope) -> None:
        with scope:
            await self._pump(sock, partial(self._take_udp, sock))

    async def _pause(self) -> None:
        """Leaves packets in the TUN's queue while relay links are full; the kernel slows their senders."""
        if self._links.is_crowded:
            await self._links.wait_room()

    async def _pump(
        self,
        source: int | socket.socket,
        take: Callable[[float, float], int],
        pause: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """One direction.

        ``take`` reads and feeds the plane, and returns the size of what it read, 0 for nothing.
        """
        while True:
            # A replaced socket is closed: nothing to wait for.
            await trio.lowlevel.checkpoint_if_cancelled()
            await trio.lowlevel.wait_readable(source)
            now, unix_now = trio.current_time(), time.time()
            n_bytes = n_flushed = 0
            for _ in range(READS_PER_WAKEUP):
                size = take(now, unix_now)
                n_bytes += size
                if not size or n_bytes >= BYTES_PER_WAKEUP:
                    break
                if n_bytes - n_flushed >= FULL:
                    self._flush(now, unix_now)
                    n_flushed = n_bytes
            self.drain()
            if pause is not None:
                await pause()

    def _take_tun(self, now: float, unix_now: float) -> int:
        try:
            size = self._tun.read_into(self._tun_header, self._tun_buffer)
        except BlockingIOError:
            return 0
        self._machine.handle_tun(self._tun_header, self._tun_buffer[:size], now, unix_now)
        return size

    def _take_udp(self, sock: socket.socket, now: float, unix_now: float) -> int:
        """Reads a batch; after a full one another, mostly the rest of the same super-packet."""
        size = self._receive(sock, now, unix_now)
        return size + self._receive(sock, now, unix_now) if size >= FULL else size

    def _receive(self, sock: socket.socket, now: float, unix_now: float) -> int:
        received = self._sockets.receive(sock, self._udp_buffer)
        if received is None:
            return 0
        source, datagrams, is_congested = received
        self._machine.handle_udp(source, datagrams, now, unix_now, is_congested=is_congested)
        return sum(map(len, datagrams))

    def _flush(self, now: float, unix_now: float) -> None:
        """Passes on what is ready."""
        machine = self._machine
        machine.drain(now, unix_now)
        while (transmit := machine.poll_transmit()) is not None:
            self._transmit(transmit, now)
        while (iovec := machine.poll_tun()) is not None:
            self._write_tun(iovec)

    async def _run_alarm(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._alarm.deadline) as self._alarm:
                await trio.sleep_forever()
            self._machine.handle_timeout(trio.current_time(), time.time())
            self.drain()

    def _transmit(self, transmit: UdpTransmit | DerpTransmit, now: float) -> None:
        if isinstance(transmit, DerpTransmit):
            self._links.send_nowait(transmit)
            return
        error = self._sockets.send_nowait(transmit)
        if error:
            self._counters[f"udp.drop.{errno.errorcode.get(error, 'other').lower()}"] += len(
                transmit.datagrams
            )
            self._machine.handle_send_error(transmit.addr, error, now)

    def _write_tun(self, iovec: list[Buffer]) -> None:
        try:
            self._tun.write(iovec)
        except OSError as error:  # of a deleted interface, too: its reader hears of that and ends us
            self._counters[f"tun.drop.{errno.errorcode.get(error.errno or 0, 'other').lower()}"] += 1
            return
        self._counters["tun.writes"] += 1
