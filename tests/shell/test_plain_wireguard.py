"""The shells of a plain WireGuard on this host: sockets on loopback that change under way, and the socket for wg."""

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from coderd.metrics import Counters
from coderd.model.errors import UserError
from coderd.model.transport import BUFFER_SIZE, LocalAddress, UdpSource, UdpTransmit
from coderd.plain.io.removal import wait_removed
from coderd.plain.io.sockets import PlainSockets
from coderd.plain.io.uapi import bound_socket, serve_uapi, socket_path
from coderd.wireguard.uapi import Operation, Request, encode_errno

IP_MTU_DISCOVER, DONT = 10, 0


class World:
    """Sockets, and what they told."""

    def __init__(self) -> None:
        self.n_rebound = 0
        self.stale: list[LocalAddress] = []
        self.sockets = PlainSockets(Counters(), on_rebound=self._rebound, on_stale=self.stale.append)

    def _rebound(self) -> None:
        self.n_rebound += 1

    async def receive(self, version: int) -> tuple[UdpSource, list[bytes]]:
        sock = self.sockets.sockets[0 if version == 4 else 1]
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(sock)
        received = self.sockets.receive(sock, bytearray(BUFFER_SIZE))
        assert received is not None
        return received[0], [bytes(datagram) for datagram in received[1]]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with closing(world.sockets):
        yield world


def free_port() -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::", 0))
        port: int = sock.getsockname()[1]
    return port


def taken_port() -> tuple[socket.socket, int]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


@pytest.mark.parametrize(("version", "local"), [(4, "127.0.0.9"), (6, "::1")])
async def test_a_batch_says_where_it_was_sent_to_and_the_answer_leaves_from_there(
    world: World, version: int, local: str
) -> None:
    world.sockets.open()
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.settimeout(5)
        peer.bind(("127.0.0.1" if version == 4 else "::1", 0))
        peer.sendto(b"hello", (local, world.sockets.port))
        source, datagrams = await world.receive(version)
        assert datagrams == [b"hello"]
        assert source == UdpSource(
            peer.getsockname()[:2], local=LocalAddress(socket.inet_pton(family, local))
        )
        for answer in ([b"alone"], [b"first", b"next"]):
            transmit = UdpTransmit(source.addr, answer, len(answer[0]), source.local)
            assert world.sockets.send_nowait(transmit) == 0
            for expected in answer:
                assert peer.recvfrom(100)[0:2] == (expected, _name(peer, local, world.sockets.port))
    assert world.stale == []


def _name(sock: socket.socket, ip: str, port: int) -> tuple[object, ...]:
    return (ip, port) if sock.family == socket.AF_INET else (ip, port, 0, 0)


@pytest.mark.parametrize(
    ("local", "to"), [(bytes([192, 0, 2, 1]), "127.0.0.1"), (b"\x20\x01\x0d\xb8" + bytes(12), "::1")]
)
@pytest.mark.parametrize("datagrams", [[b"alone"], [b"first", b"next"]])
async def test_an_address_that_is_not_ours_any_more_is_told_and_left_aside(
    world: World, local: bytes, to: str, datagrams: list[bytes]
) -> None:
    world.sockets.open()
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.settimeout(5)
        peer.bind((to, 0))
        stale = LocalAddress(local)
        transmit = UdpTransmit((to, peer.getsockname()[1]), datagrams, len(datagrams[0]), stale)
        assert world.sockets.send_nowait(transmit) == 0
        assert [peer.recv(100) for _ in datagrams] == datagrams
    assert world.stale == [stale]


async def test_the_kernel_may_fragment(world: World) -> None:
    world.sockets.open()
    assert world.sockets.sockets[0].getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER) == DONT


async def test_a_chosen_port_stays_also_through_down_and_up_and_any_port_means_this_one(world: World) -> None:
    world.sockets.open()
    port = world.sockets.port
    world.sockets.close()
    assert (world.sockets.sockets, world.sockets.port) == ((), port)
    world.sockets.open()
    before = world.sockets.sockets
    world.sockets.configure(0, None)
    world.sockets.configure(port, None)
    assert (world.sockets.sockets, world.sockets.port) == (before, port)


async def test_another_port_is_bound_before_the_old_one_is_given_up(world: World) -> None:
    world.sockets.open()
    old, n_rebound = world.sockets.sockets, world.n_rebound
    port = free_port()
    world.sockets.configure(port, None)
    assert world.sockets.port == port
    assert {sock.getsockname()[1] for sock in world.sockets.sockets} == {port}
    assert all(sock.fileno() == -1 for sock in old)
    assert world.n_rebound == n_rebound + 1
    world.sockets.configure(0, None)
    assert world.sockets.port not in (0, port), "any port, once there was a wish, is another"


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_port_that_is_taken_costs_nothing(world: World, is_open: bool) -> None:
    if is_open:
        world.sockets.open()
    before = (world.sockets.sockets, world.sockets.port)
    taken, port = taken_port()
    with taken, pytest.raises(OSError, match="in use") as caught:
        world.sockets.configure(port, None)
    assert caught.value.errno == errno.EADDRINUSE
    assert (world.sockets.sockets, world.sockets.port) == before


# The socket for wg


def test_its_file_is_for_root_alone_in_a_directory_for_all_and_goes_at_the_end(tmp_path: Path) -> None:
    directory = tmp_path / "wireguard"
    with bound_socket("wg0", directory):
        path = socket_path("wg0", directory)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not path.exists()


def test_a_living_daemon_is_respected_a_dead_ones_file_replaced(tmp_path: Path) -> None:
    with (
        bound_socket("wg0", tmp_path),
        pytest.raises(UserError, match="already answers"),
        bound_socket("wg0", tmp_path),
    ):
        pass
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(socket_path("wg0", tmp_path)))
    with bound_socket("wg0", tmp_path) as listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(listening.getsockname())


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    file = socket_path("wg0", tmp_path)
    file.write_text("precious")
    with pytest.raises(UserError, match="not a socket"), bound_socket("wg0", tmp_path):
        pass
    assert file.read_text() == "precious"


async def test_whoever_replaced_the_file_keeps_it(tmp_path: Path) -> None:
    path = socket_path("wg0", tmp_path)
    with bound_socket("wg0", tmp_path):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


class Answering:
    """The socket, served: each request is answered with how many lines it had."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[Request] = []

    def answer(self, request: Request) -> bytes:
        self.requests.append(request)
        return encode_errno(-len(request.lines))

    async def connect(self) -> trio.SocketStream:
        return await trio.open_unix_socket(os.fspath(self.path))


@pytest.fixture
async def served(tmp_path: Path, nursery: trio.Nursery) -> Answering:
    world = Answering(socket_path("wg0", tmp_path))

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        with bound_socket("wg0", tmp_path) as listening:
            task_status.started()
            await serve_uapi(listening, world.answer)

    await nursery.start(serve)
    return world


async def test_requests_on_one_connection_are_answered_in_turn(served: Answering) -> None:
    async with await served.connect() as stream:
        await stream.send_all(b"get=1\n\nset=1\na=1\nb=2\n\n")
        with trio.fail_after(5):
            reply = b""
            while reply.count(b"\n\n") < 2:
                reply += await stream.receive_some()
    assert reply == b"errno=0\n\nerrno=-2\n\n"


async def test_a_set_may_end_with_the_connection(served: Answering) -> None:
    async with await served.connect() as stream:
        await stream.send_all(b"set=1\nfwmark=1\n")
        await stream.send_eof()
        with trio.fail_after(5):
            assert await stream.receive_some() == b"errno=-1\n\n"
            assert await stream.receive_some() == b""
    assert served.requests == [Request(Operation.SET, ["fwmark=1"])]


@pytest.mark.parametrize("data", [b"", b"get=1\n", b"set=1\nfwmark=", b"nonsense\n", b"\0" * 100_000])
async def test_who_breaks_off_or_talks_nonsense_gets_nothing_and_others_go_on(
    served: Answering, data: bytes
) -> None:
    async with await served.connect() as stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
        except trio.BrokenResourceError:
            pass  # closed with our bytes unread
    async with await served.connect() as stream:
        await stream.send_all(b"get=1\n\n")
        with trio.fail_after(5):
            assert await stream.receive_some() == b"errno=0\n\n"


async def test_who_stops_within_a_request_is_let_go(served: Answering, autojump_clock: object) -> None:
    async with await served.connect() as stream:
        await stream.send_all(b"set=1\nfwmark=1\n")
        with trio.fail_after(60):
            assert await stream.receive_some() == b""
    assert served.requests == []


def unlink(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_suffix(".old"))


def replace(path: Path) -> None:
    path.with_suffix(".new").touch()
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("remove", [unlink, rename, replace])
@pytest.mark.parametrize("is_waiting", [False, True])
async def test_a_file_that_goes_is_noticed(
    tmp_path: Path, nursery: trio.Nursery, remove: Callable[[Path], None], is_waiting: bool
) -> None:
    path = tmp_path / "file"
    with path.open("w") as held:
        if not is_waiting and remove is unlink:
            remove(path)
        done = trio.Event()

        async def wait() -> None:
            await wait_removed(path)
            done.set()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        if path.exists():
            os.utime(path)
            await trio.testing.wait_all_tasks_blocked()
            assert not done.is_set(), "a new time is no removal"
            remove(path)
        with trio.fail_after(5):
            await done.wait()
        assert not held.closed
