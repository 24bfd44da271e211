"""TLS streams against each other and against trio's own, over pipes in memory and real sockets."""

import ssl

import pytest
import trio
import trio.testing
import trustme

from coderd.http.tls_stream import TlsStream

NAME = "one.example"


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def shake_hands(server: trio.abc.Stream, client: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        for end in (server, client):
            nursery.start_soon(end.do_handshake)  # type: ignore[attr-defined]


def ends(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[TlsStream, TlsStream]:
    below = trio.testing.memory_stream_pair()
    server = TlsStream(below[0], contexts[0], server_side=True)
    return server, TlsStream(below[1], contexts[1], server_hostname=NAME)


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = await stream.receive_some(size - len(received))
        assert data
        received += data
    return received


async def test_megabytes_go_both_ways_at_once(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = ends(contexts)
    await shake_hands(server, client)
    data = bytes(range(256)) * 8192

    async def take(stream: TlsStream) -> None:
        assert await receive_exactly(stream, len(data)) == data

    async with trio.open_nursery() as nursery:
        for end in (server, client):
            nursery.start_soon(end.send_all, data)
            nursery.start_soon(take, end)


async def test_one_read_takes_all_records_that_have_come_and_no_more_than_asked_for(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = ends(contexts)
    await shake_hands(server, client)
    await client.send_all(bytes(100_000))
    assert len(await server.receive_some(70_000)) == 70_000
    assert len(await server.receive_some()) == 30_000


async def test_it_speaks_with_trios(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    for ours_serves in (False, True):
        one, two = trio.testing.memory_stream_pair()
        ours: TlsStream
        theirs: trio.SSLStream[trio.abc.Stream]
        if ours_serves:
            ours = TlsStream(one, contexts[0], server_side=True)
            theirs = trio.SSLStream(two, contexts[1], server_hostname=NAME)
        else:
            ours = TlsStream(one, contexts[1], server_hostname=NAME)
            theirs = trio.SSLStream(two, contexts[0], server_side=True)
        await shake_hands(ours, theirs)
        await theirs.send_all(b"question")
        assert await receive_exactly(ours, 8) == b"question"
        await ours.send_all(b"answer")
        assert await receive_exactly(theirs, 6) == b"answer"
        await ours.aclose()
        assert await theirs.receive_some(1) == b""


async def test_a_goodbye_and_a_cut_are_both_an_end(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    for cuts in (False, True):
        server, client = ends(contexts)
        await shake_hands(server, client)
        await client.send_all(b"last words")
        if cuts:
            await trio.aclose_forcefully(client.transport_stream)
        else:
            await client.aclose()
        assert await server.receive_some() == b"last words"
        assert await server.receive_some() == b""


async def test_a_certificate_for_another_name_ends_it_before_a_word_is_said(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    below = trio.testing.memory_stream_pair()
    server = TlsStream(below[0], contexts[0], server_side=True)
    client = TlsStream(below[1], contexts[1], server_hostname="two.example")
    failures: list[BaseException | None] = []

    async def shake(end: TlsStream) -> None:
        with pytest.raises(trio.BrokenResourceError) as failure:
            await end.do_handshake()
        failures.append(failure.value.__cause__)
        await trio.aclose_forcefully(end.transport_stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, server)
        nursery.start_soon(shake, client)
    assert any(isinstance(failure, ssl.SSLCertVerificationError) for failure in failures)


async def test_garbage_breaks_it(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = ends(contexts)
    await shake_hands(server, client)
    await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()


async def test_what_tls_itself_has_to_answer_never_falls_between_records_of_a_write(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = ends(contexts)
    await shake_hands(server, client)
    sent: list[bytes] = []
    halfway, go_on = trio.Event(), trio.Event()

    async def send_slowly(records: bytes) -> None:
        await server.transport_stream.send_all(records[:100])
        halfway.set()
        await go_on.wait()
        await server.transport_stream.send_all(records[100:])
        sent.append(records)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_with, send_slowly, bytes(1000))
        await halfway.wait()
        nursery.start_soon(server.send_all, b"after")
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert await receive_exactly(client, 1005) == bytes(1000) + b"after"
    assert len(sent) == 1


async def test_what_the_kernel_took_only_in_part_leaves_before_what_is_sent_next(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = ends(contexts)
    await shake_hands(server, client)
    taken = bytearray()

    def take(records: bytes) -> int:
        taken.extend(records[:3])
        return 3

    assert server.send_nowait(take, b"first ")
    assert server.is_behind
    assert not server.send_nowait(take, b"never ")
    await server.transport_stream.send_all(bytes(taken))
    await server.send_all(b"second")
    assert not server.is_behind
    assert await receive_exactly(client, 12) == b"first second"
