"""Links and a relay over real loopback sockets, on one port with an app."""

import hashlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from coderd.derp.client_rate import ClientRate
from coderd.derp.frame import FrameReader, FrameType, encode_send_packets
from coderd.derp.handshake import ClientInfo, encode_client_info
from coderd.derp.io.client import DerpLink
from coderd.derp.relay import MAX_CONNECTIONS
from coderd.http.tls import TlsListener
from coderd.model.derpmap import DerpRegion
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.token_bucket import Rate
from tests.derp_frames import encode_recv_packets
from tests.shell.derp_world import A, B, Inbox, Server, serving

PACKETS = [bytes([4, index]) * 600 for index in range(64)]


@asynccontextmanager
async def running(link: DerpLink) -> AsyncIterator[Inbox]:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, inbox)
        yield inbox
        nursery.cancel_scope.cancel()


async def raw_client(
    server: Server, key: NodePrivate, *, request: bytes = b"Upgrade: DERP\r\n"
) -> trio.SocketStream:
    """A client that says only what it is told to."""
    stream = await server.dial()
    await stream.send_all(b"GET /derp HTTP/1.1\r\nHost: x\r\n" + request + b"\r\n")
    info = encode_client_info(ClientInfo(), key, server.relay.public, os.urandom)
    await stream.send_all(info)
    return stream


async def test_two_links_exchange_a_batch_in_order() -> None:
    async with serving() as server:
        a, b = await server.link(A), await server.link(B)
        async with running(a) as at_a, running(b) as at_b:
            a.send_nowait(B.public(), PACKETS)
            await at_b.wait_for(lambda: len(at_b.packets) == 64)
            b.send_nowait(A.public(), PACKETS[:3])
            await at_a.wait_for(lambda: len(at_a.packets) == 3)
            stats = server.relay.stats()
        assert at_b.packets == [(A.public(), packet) for packet in PACKETS]
        assert stats[A.public()].packets_in == 64
        assert a.server_key == server.relay.public


async def test_a_fast_start_needs_no_http_answer() -> None:
    async with serving() as server:
        stream = await raw_client(server, A, request=b"Derp-Fast-Start: 1\r\nUpgrade: DERP\r\n")
        await stream.send_all(encode_send_packets(A.public(), [b"me"]))
        reader = FrameReader()
        kinds: list[int] = []
        while FrameType.RECV_PACKET not in kinds:
            reader.feed(await stream.receive_some())
            kinds += [frame.kind for frame in reader]
        assert kinds == [FrameType.SERVER_KEY, FrameType.SERVER_INFO, FrameType.RECV_PACKET]
        await stream.aclose()


async def test_everything_in_one_write_is_understood() -> None:
    async with serving() as server:
        b = await server.link(B)
        async with running(b) as inbox:
            stream = await server.dial()
            info = encode_client_info(ClientInfo(), A, server.relay.public, os.urandom)
            await stream.send_all(
                b"GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nUpgrade: DERP\r\n\r\n"
                + info
                + encode_send_packets(B.public(), PACKETS[:2])
            )
            await inbox.wait_for(lambda: len(inbox.packets) == 2)
            await stream.aclose()
            await inbox.wait_for(lambda: bool(inbox.gone))
        assert inbox.gone == [(A.public(), 0)]


async def test_a_key_that_is_not_admitted_is_refused() -> None:
    async def admit(key: NodePublic, source: str) -> object | None:
        return key if key == A.public() else None

    async with serving(admit) as server:
        await (await server.link(A)).aclose()
        with pytest.raises(ConnectionRefusedError, match="did not admit"):
            await server.link(B)
        assert server.counters["derp.close.not_admitted"] == 1


async def test_admission_that_fails_means_no() -> None:
    async def admit(key: NodePublic, source: str) -> object | None:
        raise RuntimeError("no database")

    async with serving(admit) as server:
        with pytest.raises(ConnectionRefusedError):
            await server.link(A)
        assert server.counters["derp.admit.failed"] == 1


async def test_admission_that_never_answers_means_no(autojump_clock: trio.testing.MockClock) -> None:
    async def admit(key: NodePublic, source: str) -> object | None:
        await trio.sleep_forever()
        return key

    async with serving(admit) as server:
        stream = await raw_client(server, A)
        await read_to_end(stream)
        assert server.counters["derp.admit.timed_out"] == 1


async def test_a_client_that_never_introduces_itself_is_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as server:
        stream = await server.dial()
        await stream.send_all(b"GET /derp HTTP/1.1\r\nUpgrade: DERP\r\n\r\n")
        await read_to_end(stream)
        assert server.counters["derp.close.slow_handshake"] == 1


async def read_to_end(stream: trio.SocketStream) -> bytes:
    received = b""
    try:
        while data := await stream.receive_some():
            received += data
    except trio.BrokenResourceError:
        pass
    await stream.aclose()
    return received


async def test_closing_a_key_ends_its_links() -> None:
    async with serving() as server:
        link, reasons = await server.link(A), []

        async def run() -> None:
            reasons.append(await link.run(Inbox()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            assert server.relay.close_client(A.public()) == 1
        assert reasons == ["the relay closed the connection"]
        assert server.relay.stats() == {}


async def test_a_key_closed_while_its_admission_is_asked_for_is_not_let_in() -> None:
    asked, answer = trio.Event(), trio.Event()

    async def admit(key: NodePublic, source: str) -> object | None:
        asked.set()
        await answer.wait()
        return key  # as it was when the question came

    async with serving(admit=admit) as server, trio.open_nursery() as nursery:

        async def dial() -> None:
            with pytest.raises(OSError, match="did not admit"):
                await server.link(A)

        nursery.start_soon(dial)
        await asked.wait()
        server.relay.close_client(A.public())
        answer.set()


async def test_a_key_has_a_few_connections_and_the_quietest_makes_room() -> None:
    async with serving() as server:
        links = [await server.link(A) for _ in range(MAX_CONNECTIONS + 1)]
        with trio.fail_after(5):
            assert await links[0].run(Inbox()) == "the relay closed the connection"
        assert server.relay.stats()[A.public()].n_connections == MAX_CONNECTIONS
        for link in links:
            await link.aclose()


async def test_the_newest_of_two_connections_gets_the_packets_and_its_end_gives_them_back() -> None:
    async with serving() as server:
        a, old, new = await server.link(A), await server.link(B), await server.link(B)
        async with running(a), running(old) as at_old:
            async with running(new) as at_new:
                a.send_nowait(B.public(), [b"one"])
                await at_new.wait_for(lambda: bool(at_new.packets))
            while server.relay.stats()[B.public()].n_connections == 2:
                await trio.lowlevel.checkpoint()
            a.send_nowait(B.public(), [b"two"])
            await at_old.wait_for(lambda: bool(at_old.packets))
        assert at_new.packets == [(A.public(), b"one")]
        assert at_old.packets == [(A.public(), b"two")]


@pytest.mark.slow
async def test_a_slow_reader_is_closed_and_disturbs_nobody() -> None:
    async with serving() as server:
        slow_key = NodePrivate(b"z" * 32)
        slow = await raw_client(server, slow_key)
        while slow_key.public() not in server.relay.stats():
            await trio.lowlevel.checkpoint()
        a, b = await server.link(A), await server.link(B)
        async with running(a), running(b) as at_b:
            n_sent = 0
            with trio.fail_after(20):
                while slow_key.public() in server.relay.stats():
                    a.send_nowait(slow_key.public(), PACKETS)
                    a.send_nowait(B.public(), [b"\x04"])
                    n_sent += 1
                    await at_b.wait_for(partial(at_b.has, n_sent))
        assert server.counters["derp.close.slow_reader"] == 1
        assert server.counters["derp.drop.queue_full"] > 0
        await slow.aclose()


async def test_who_sends_faster_than_its_rate_is_read_no_faster_and_disturbs_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving(client_rate=100_000) as server:
        greedy = await raw_client(server, NodePrivate(b"z" * 32))
        a, b = await server.link(A), await server.link(B)
        async with running(a), running(b) as at_b:
            started = trio.current_time()
            batch = encode_send_packets(B.public(), [bytes([1]) * 963] * 500)  # 1000 bytes each with header
            await greedy.send_all(batch)
            a.send_nowait(B.public(), [b"\2"])
            await at_b.wait_for(lambda: any(packet == b"\2" for _, packet in at_b.packets))
            assert trio.current_time() - started < 1.0
            await at_b.wait_for(lambda: len(at_b.packets) == 501)
            # what is over the burst takes its time, less the last portion, which is paused for afterwards
            burst = ClientRate.of(100_000)
            assert burst is not None
            assert 3.0 <= trio.current_time() - started <= (500_000 - burst.burst) / 100_000 + 0.1
        assert server.counters["derp.paused"] > 0
        await greedy.aclose()


async def test_our_own_links_keep_to_the_rate_that_they_are_told() -> None:
    async with serving(client_rate=100_000) as server:
        link = await server.link(A)
        async with running(link) as inbox:
            link.send_nowait(A.public(), [bytes([1]) * 963] * 500)
            await inbox.wait_for(lambda: len(inbox.packets) == 65)
        assert server.counters["derp.paused"] == 0


async def test_a_link_notices_when_the_relay_stops() -> None:
    async with serving() as server:
        link = await server.link(A)
        server.scope.cancel()
    with trio.fail_after(1):
        assert await link.run(Inbox())


async def test_a_link_notices_a_relay_that_falls_silent_within_five_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as server:
        link = await server.link(A)
        # The relay's whole end stands still: nobody answers, nobody closes.
        (served,) = server.relay._links.values()
        served.stream.receive_some = trio.sleep_forever  # type: ignore[assignment]
        link._client.handle_data(b"", trio.current_time())
        link._stream, real = _Mute(link._stream), link._stream
        started = trio.current_time()
        assert await link.run(Inbox()) == "the relay has fallen silent"
        assert trio.current_time() - started < 5
        await real.aclose()


class _Mute(trio.abc.Stream):
    """A stream on which nothing ever arrives."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_hostile_frames_close_their_connection_alone() -> None:
    async with serving() as server:
        b = await server.link(B)
        async with running(b) as inbox:
            for hostile in (b"\xff" * 100, b"\x04\xff\xff\xff\xff", b"\x10\0\0\0\0"):
                stream = await raw_client(server, A)
                await stream.send_all(hostile)
                await read_to_end(stream)
            a = await server.link(A)
            async with running(a):
                a.send_nowait(B.public(), [b"still here"])
                await inbox.wait_for(lambda: bool(inbox.packets))
        assert server.counters["derp.close.malformed"] == 2
        assert server.counters["derp.close.no_mesh"] == 1


async def test_a_region_without_relays_or_with_a_dead_one_says_so() -> None:
    with pytest.raises(OSError, match="has no relay"):
        await DerpLink.connect(DerpRegion(1, "x", "X"), A, is_home=False, rng=os.urandom)
    async with serving() as server:
        region = server.region()
    with pytest.raises(OSError, match=r"refused|failed"):
        await DerpLink.connect(region, A, is_home=False, rng=os.urandom)


async def test_a_server_that_is_no_relay_is_named_as_such() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + encode_recv_packets(A.public(), [b""]))
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        server = Server(listener.socket.getsockname()[1], None, None, None)  # type: ignore[arg-type]
        with pytest.raises(ConnectionRefusedError, match="is not a relay: it answers 200"):
            await server.link(A)
        nursery.cancel_scope.cancel()


CA = trustme.CA()
CERTIFICATE = CA.issue_cert("localhost", "front.example")
PIN = (
    "sha256-raw:"
    + hashlib.sha256(ssl.PEM_cert_to_DER_cert(CERTIFICATE.cert_chain_pems[0].bytes().decode())).hexdigest()
)


@asynccontextmanager
async def serving_tls() -> AsyncIterator[Server]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CERTIFICATE.configure_cert(context)
    async with serving(wrap=lambda tcp: TlsListener(tcp, lambda: context)) as server:
        yield server


@pytest.mark.parametrize("node", [{"insecure_for_tests": True}, {"cert_name": PIN}])
async def test_a_link_runs_over_tls(node: dict[str, object]) -> None:
    async with serving_tls() as server:
        link = await server.link(A, force_http=False, **node)
        async with running(link) as inbox:
            link.send_nowait(A.public(), PACKETS)
            await inbox.wait_for(lambda: len(inbox.packets) == 64)


@pytest.mark.parametrize("cert_name", ["", "front.example", "sha256-raw:" + "ab" * 32])
async def test_a_certificate_that_nothing_vouches_for_is_refused(cert_name: str) -> None:
    async with serving_tls() as server:
        with pytest.raises(OSError, match=r"certificate|CERTIFICATE"):
            await server.link(A, force_http=False, cert_name=cert_name)


@pytest.mark.parametrize("cert_name", ["", "other.example"])
async def test_the_server_s_own_relay_is_held_to_the_pin_alone_whatever_its_names_and_chain(
    cert_name: str,
) -> None:
    certificate = trustme.CA().create_child_ca().issue_cert("elsewhere.example")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    leaf = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    trust = f"sha256:{hashlib.sha256(leaf).hexdigest()}"
    async with serving(wrap=lambda tcp: TlsListener(tcp, lambda: context)) as server:
        link = await server.link(A, force_http=False, cert_name=cert_name, server_trust=trust)
        await link.aclose()
        with pytest.raises(OSError, match="not the pinned"):
            await server.link(A, force_http=False, server_trust="sha256:" + "ab" * 32)


async def test_the_server_s_own_relay_is_held_to_the_server_s_authorities_and_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with serving_tls() as server:
        link = await server.link(A, force_http=False, server_trust=f"ca:{tmp_path}/ca.pem")
        await link.aclose()
        for name, why in (("other.pem", "CERTIFICATE_VERIFY_FAILED"), ("none.pem", "cannot be used")):
            with pytest.raises(OSError, match=why):
                await server.link(A, force_http=False, server_trust=f"ca:{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("cert_name", "is_good"), [("", True), ("front.example", True), ("other.example", False)]
)
async def test_names_are_held_to_the_chain(
    cert_name: str, is_good: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    with CA.cert_pem.tempfile() as ca_file:
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)
        async with serving_tls() as server:
            if is_good:
                await (await server.link(A, force_http=False, cert_name=cert_name)).aclose()
                return
            with pytest.raises(OSError, match=r"not for other\.example"):
                await server.link(A, force_http=False, cert_name=cert_name)


async def test_two_strangers_do_not_keep_a_node_from_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coderd.derp.gate.HANDSHAKES", Rate(40, 0.0))
    monkeypatch.setattr("coderd.derp.gate.HANDSHAKES_OF_SOURCE", Rate(8, 0.0))
    async with serving() as server:
        for address in ("127.0.0.2", "127.0.0.3"):
            for number in range(30):
                stream = await trio.open_tcp_stream("127.0.0.1", server.port, local_address=address)
                async with stream:
                    await stream.send_all(
                        b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
                    )
                    expected = b"HTTP/1.1 101" if number < 8 else b"HTTP/1.1 429"
                    assert (await stream.receive_some()).startswith(expected)
        link = await server.link(A)
        await link.aclose()
