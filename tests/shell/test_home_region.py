"""Ten regions, each a relay behind TLS and a STUN server that takes its time: which one a node calls home, and when it moves.

The node is a whole one but for its tunnel: paths, sockets and relay links. Delays are so far apart that a busy machine does
not blur them.
"""

import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from coderd.http.server import Listener
from coderd.http.tls import TlsListener
from coderd.magicsock import Conn, HomeChanged, NetcheckDone, home
from coderd.magicsock.io.relays import RelayLinks
from coderd.magicsock.io.sockets import UdpSockets
from coderd.metrics import Counters
from coderd.model import Buffer
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.keys import DiscoPrivate, NodePrivate, NodePublic
from coderd.model.transport import DerpTransmit
from coderd.stun import encode_response, parse_request
from tests.shell.derp_world import serving

pytestmark = pytest.mark.slow

N_REGIONS = 10
DELAYS = {region: 0.20 + 0.05 * (region - 1) for region in range(1, N_REGIONS + 1)}
"""Seconds: 200 ms for the first, 650 ms for the last."""


class Region:
    """A relay, and STUN at a distance that can be changed."""

    def __init__(self, number: int, delay: float) -> None:
        self.number = number
        self.delay = delay
        self.relay = trio.CancelScope()
        self._port = 0
        self._stun = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    async def run(self, authority: ssl.SSLContext, *, task_status: trio.TaskStatus[None]) -> None:
        with self._stun:
            await self._stun.bind(("127.0.0.1", 0))
            async with trio.open_nursery() as nursery:
                await nursery.start(self._serve_relay, authority)
                nursery.start_soon(self._serve, nursery)
                task_status.started()

    async def _serve_relay(self, authority: ssl.SSLContext, *, task_status: trio.TaskStatus[None]) -> None:
        def secured(listener: trio.SocketListener) -> Listener:
            return TlsListener(listener, lambda: authority)

        with self.relay:
            async with serving(wrap=secured) as server:
                self._port = server.port
                task_status.started()
                await trio.sleep_forever()

    async def _serve(self, nursery: trio.Nursery) -> None:
        while True:
            request, client = await self._stun.recvfrom(2000)
            nursery.start_soon(self._answer, request, client)

    async def _answer(self, request: bytes, client: tuple[str, int]) -> None:
        await trio.sleep(self.delay)
        await self._stun.sendto(encode_response(parse_request(request), client), client)

    def described(self) -> DerpRegion:
        node = DerpNode(
            f"{self.number}a",
            self.number,
            "localhost",
            ipv4="127.0.0.1",
            ipv6="none",
            stun_port=self._stun.getsockname()[1],
            derp_port=self._port,
        )
        return DerpRegion(self.number, f"r{self.number}", f"Region {self.number}", (node,))


class Wanderer:
    """A node without a tunnel."""

    def __init__(self) -> None:
        key = NodePrivate.generate(os.urandom)
        self.homes: list[int] = []
        self.report_at: float | None = None
        self.connected: set[int] = set()
        self._changed = trio.Event()
        self._alarm = trio.CancelScope()
        self._sockets = UdpSockets.open(0)
        self._buffer = bytearray(65536)
        self.conn = Conn(
            node_key=key.public(),
            disco_key=DiscoPrivate.generate(os.urandom),
            rng=os.urandom,
            now=trio.current_time(),
        )
        self._links = RelayLinks(key, counters=Counters(), rng=os.urandom)

    async def run(self, derp_map: DerpMap, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._links.run, self)
                for sock in self._sockets.sockets:
                    nursery.start_soon(self._pump, sock)
                nursery.start_soon(self._run_alarm)
                self.conn.set_local_endpoints(self._sockets.v4_port, None, ["127.0.0.1"], trio.current_time())
                self._links.set_derp_map(derp_map)
                self.conn.set_derp_map(derp_map, {}, trio.current_time())
                self.drain()
                task_status.started()
        finally:
            self._sockets.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(20):
            while not condition():
                await self._changed.wait()

    async def look(self) -> None:
        """Measures everything anew, and waits for the report."""
        before = self.report_at
        self.conn.check(trio.current_time())
        self.drain()
        await self.until(lambda: self.report_at != before)

    def drain(self) -> None:
        while (transmit := self.conn.poll_transmit()) is not None:
            if isinstance(transmit, DerpTransmit):
                self._links.send_nowait(transmit)
            else:
                self._sockets.send_nowait(transmit)
        while (event := self.conn.poll_event()) is not None:
            if isinstance(event, HomeChanged):
                self.homes.append(event.region)
                self._links.set_home(event.region)
            elif isinstance(event, NetcheckDone):
                self.report_at = event.report.taken_at
            self._changed.set()
            self._changed = trio.Event()
        deadline = self.conn.poll_timeout()
        self._alarm.deadline = deadline.when if deadline is not None else float("inf")

    def handle_relayed(self, region: int, sender: NodePublic, packets: Sequence[Buffer]) -> None:
        pass

    def handle_peer_gone(self, region: int, peer: NodePublic) -> None:
        pass

    def handle_relay_connected(self, region: int) -> None:
        self.connected.add(region)
        self.conn.handle_relay_connected(region, trio.current_time())
        self._changed.set()
        self.drain()

    def handle_relay_broken(self, region: int) -> None:
        self.connected.discard(region)
        self.conn.handle_relay_broken(region, trio.current_time())
        self.drain()

    async def _pump(self, sock: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            while (received := self._sockets.receive(sock, self._buffer)) is not None:
                self.conn.handle_udp(received[0], received[1], trio.current_time())
            self.drain()

    async def _run_alarm(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._alarm.deadline) as self._alarm:
                await trio.sleep_forever()
            self.conn.handle_timeout(trio.current_time())
            self.drain()


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """What the relays show; the node's system roots are the authority that signed it."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    return context


@asynccontextmanager
async def a_world(authority: ssl.SSLContext) -> AsyncIterator[tuple[dict[int, Region], Wanderer]]:
    async with trio.open_nursery() as nursery:
        regions = {number: Region(number, delay) for number, delay in DELAYS.items()}
        for region in regions.values():
            await nursery.start(region.run, authority)
        node = Wanderer()
        derp_map = DerpMap({number: region.described() for number, region in regions.items()})
        await nursery.start(node.run, derp_map)
        yield regions, node
        nursery.cancel_scope.cancel()


async def test_the_nearest_of_ten_is_home_and_home_moves_only_for_one_that_is_much_nearer(
    authority: ssl.SSLContext,
) -> None:
    async with a_world(authority) as (regions, node):
        await node.until(lambda: node.homes[-1:] == [1] and 1 in node.connected)
        regions[4].delay = 0.17
        await node.look()
        assert node.homes[-1] == 1, "a little nearer is no reason to move"
        regions[7].delay = 0.02
        await node.look()
        await node.until(lambda: node.homes[-1] == 7 and 7 in node.connected)


async def test_a_home_whose_relay_dies_is_left_for_the_next_nearest(
    authority: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "PATIENCE", 0.5)
    async with a_world(authority) as (regions, node):
        await node.until(lambda: node.homes[-1:] == [1] and 1 in node.connected)
        regions[1].relay.cancel()  # its STUN goes on
        await node.until(lambda: node.homes[-1] == 2 and 2 in node.connected)
