"""Which relay of a region is dialled and how fast: fast start, failed nodes, relays that fall silent."""

import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from coderd.derp.dial_history import DialHistory
from coderd.derp.dial_plan import dial_plans
from coderd.derp.gate import HANDSHAKES_PER_SOURCE
from coderd.derp.io.client import RESTARTING, DerpLink
from coderd.derp.io.meta_certificate import is_meta, key_of, meta_certificate
from coderd.http.tls import TlsListener
from coderd.magicsock.io.relays import RelayLinks
from coderd.metrics import Counters
from coderd.model import Buffer
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.keys import NodePublic, ServerPrivate
from tests.shell.derp_world import A, B, Inbox, Server, serving

ISSUED = trustme.CA().issue_cert("localhost")
"""One certificate: the CA that issued it is no part of the chain."""
PIN = hashlib.sha256(ssl.PEM_cert_to_DER_cert(ISSUED.cert_chain_pems[0].bytes().decode())).hexdigest()
PACKETS = [bytes([4, index]) * 600 for index in range(64)]


@asynccontextmanager
async def running(link: DerpLink) -> AsyncIterator[Inbox]:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, inbox)
        yield inbox
        nursery.cancel_scope.cancel()


async def connect(region: DerpRegion, history: DialHistory | None = None) -> DerpLink:
    return await DerpLink.connect(region, A, is_home=True, rng=os.urandom, history=history)


@asynccontextmanager
async def serving_tls(tmp_path: Path, meta: bytes) -> AsyncIterator[Server]:
    """A server whose chain ends in a certificate that announces some relay's key."""
    chain = tmp_path / "chain.pem"
    chain.write_bytes(ISSUED.private_key_and_cert_chain_pem.bytes() + meta)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    async with serving(wrap=lambda tcp: TlsListener(tcp, lambda: context)) as server:
        yield server


async def test_a_relay_whose_tls_tells_its_key_is_not_waited_for(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, meta_certificate(ServerPrivate(b"s" * 32).public())) as server:
        link = await connect(server.region(force_http=False, insecure_for_tests=True))
        async with running(link) as inbox:
            link.send_nowait(A.public(), PACKETS)
            await inbox.wait_for(lambda: len(inbox.packets) == 64)
        assert server.counters["derp.accept.fast_start"] == 1
        assert link.why_websocket == ""


async def test_a_pin_is_held_to_the_real_certificate_alone(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, meta_certificate(ServerPrivate(b"s" * 32).public())) as server:
        link = await connect(server.region(force_http=False, cert_name=f"sha256-raw:{PIN}"))
        await link.aclose()
        with pytest.raises(ssl.CertificateError, match="not the pinned one"):
            await connect(server.region(force_http=False, cert_name="sha256-raw:" + "ab" * 32))


def test_the_certificate_that_we_make_is_read_again() -> None:
    key = ServerPrivate(b"s" * 32).public()
    der = ssl.PEM_cert_to_DER_cert(meta_certificate(key).decode())
    assert is_meta(der)
    assert key_of(der) == key


def two_nodes(first: int, second: int) -> DerpRegion:
    fields: dict[str, Any] = {"ipv4": "127.0.0.1", "force_http": True}
    nodes = (
        DerpNode("a", 1, "localhost", derp_port=first, **fields),
        DerpNode("b", 1, "localhost", derp_port=second, **fields),
    )
    return DerpRegion(1, "lab", "Lab", nodes)


async def closed_port() -> int:
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_a_region_s_next_relay_is_taken_and_the_failed_one_comes_last_for_a_while() -> None:
    async with serving() as server:
        region, history = two_nodes(await closed_port(), server.port), DialHistory()
        link = await connect(region, history)
        assert link.node.name == "b"
        assert [plan.node.name for plan in history.in_order(dial_plans(region), trio.current_time())] == [
            "b",
            "a",
        ]
        assert [
            plan.node.name for plan in history.in_order(dial_plans(region), trio.current_time() + 130)
        ] == [
            "a",
            "b",
        ]
        await link.aclose()


class Freezer:
    """Passes bytes both ways until it is frozen; then every connection stays open, and nothing comes through."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._is_frozen = False
        self.port = 0

    def freeze(self) -> None:
        self._is_frozen = True

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, self._handle, 0, host="127.0.0.1"))
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _handle(self, stream: trio.SocketStream) -> None:
        async with stream, await self._server.dial() as onward, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, onward, stream)
            await self._pump(stream, onward)
            nursery.cancel_scope.cancel()

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while data := await source.receive_some():
            if not self._is_frozen:
                await sink.send_all(data)


class Links:
    """A node's relay links, and what they told and when."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []
        self._news = trio.Event()
        self.relays = RelayLinks(A, counters=Counters(), rng=os.urandom)

    def handle_relayed(self, region: int, sender: NodePublic, packets: Sequence[Buffer]) -> None:
        pass

    def handle_peer_gone(self, region: int, peer: NodePublic) -> None:
        pass

    def handle_relay_connected(self, region: int) -> None:
        self._note("connected")

    def handle_relay_broken(self, region: int) -> None:
        self._note("broken")

    def _note(self, what: str) -> None:
        self.told.append((what, trio.current_time()))
        self._news.set()

    async def wait_for(self, n_told: int) -> None:
        with trio.fail_after(60):
            while len(self.told) < n_told:
                self._news = trio.Event()
                await self._news.wait()


async def test_a_relay_that_goes_dark_is_noticed_within_five_seconds_and_another_one_taken(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with serving() as server:
        freezer = Freezer(server)
        await nursery.start(freezer.serve)
        links = Links()
        await nursery.start(links.relays.run, links)
        links.relays.set_derp_map(DerpMap({1: two_nodes(freezer.port, server.port)}))
        links.relays.set_home(1)
        await links.wait_for(1)
        assert links.relays.infos()[0].node == "a"
        freezer.freeze()
        dark_at = trio.current_time()
        await links.wait_for(3)
        assert [what for what, _ in links.told] == ["connected", "broken", "connected"]
        assert links.told[1][1] - dark_at <= 5.0
        assert links.told[2][1] - links.told[1][1] < 0.5, "it does not wait for the dark one first"
        assert links.relays.infos()[0].node == "b"
        nursery.cancel_scope.cancel()


async def test_an_only_relay_that_goes_dark_is_dialled_on_and_on(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with serving() as server:
        freezer = Freezer(server)
        await nursery.start(freezer.serve)
        links = Links()
        await nursery.start(links.relays.run, links)
        node = DerpNode("a", 1, "localhost", derp_port=freezer.port, ipv4="127.0.0.1", force_http=True)
        links.relays.set_derp_map(DerpMap({1: DerpRegion(1, "lab", "Lab", (node,))}))
        links.relays.set_home(1)
        await links.wait_for(1)
        freezer.freeze()
        await trio.sleep(120)
        assert [what for what, _ in links.told] == ["connected", "broken"]
        assert "did not answer" in links.relays.infos()[0].failure
        freezer._is_frozen = False
        await links.wait_for(3)
        assert links.relays.infos()[0].is_connected
        nursery.cancel_scope.cancel()


async def test_a_relay_that_restarts_says_so() -> None:
    async with serving() as server:
        link, why = await connect(server.region()), []

        async def run() -> None:
            why.append(await link.run(Inbox()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await server.relay.announce_restart()
            server.scope.cancel()
        assert why == [RESTARTING]


async def _link_once_the_source_has_room(server: Server) -> DerpLink:
    """Comes back as it was told to: handshakes that came to nothing have used up the source's burst, which fills by ten a second."""
    with trio.fail_after(10):
        while True:
            with suppress(ConnectionRefusedError):
                return await server.link(B)
            await trio.sleep(0.05)


async def test_handshakes_of_one_source_are_bounded_and_the_rest_is_told_to_come_back() -> None:
    answer = trio.Event()

    async def admit(key: NodePublic, source: str) -> object | None:
        await answer.wait()
        return key

    async with serving(admit) as server:
        waiting = [await server.dial() for _ in range(HANDSHAKES_PER_SOURCE)]
        for stream in waiting:
            await stream.send_all(b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\n\r\n")
            await stream.receive_some()
        with pytest.raises(ConnectionRefusedError, match="too many"):
            await server.link(B)
        assert server.counters["derp.close.too_many"] == 1
        for stream in waiting:
            await stream.aclose()
        while server.counters["derp.close.left"] < HANDSHAKES_PER_SOURCE:
            await trio.lowlevel.checkpoint()
        answer.set()
        await (await _link_once_the_source_has_room(server)).aclose()
