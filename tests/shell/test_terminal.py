"""Terminals over real streams and real PTYs: a shell is opened, resized, left, resumed and ended."""

import os
import pwd
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from coderd.metrics import Counters
from coderd.model.account import Account
from coderd.model.errors import UserError
from coderd.model.netmap import Peer
from coderd.peerapi.io.node_api import ServeTerminal
from coderd.peerapi.message import TerminalRequest, encode, parse_dial_reply
from coderd.terminal import frames
from coderd.terminal.frames import Exited, Input, Open, Opened, Output, Ping, Pong, Refused, Resize, Size
from coderd.terminal.io.service import TerminalService
from tests.shell.node_api_world import SERVER, serve_anybody

SCREEN = Size(24, 80)
pytestmark = pytest.mark.slow


def account(home: Path) -> Account:
    me = pwd.getpwuid(os.getuid())
    return Account(me.pw_name, me.pw_uid, me.pw_gid, str(home), "/bin/sh")


def is_running(pid_file: Path) -> bool:
    return Path("/proc", pid_file.read_text().strip()).exists()


class Client:
    """One end of a terminal, by hand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.seen = 0
        self.output = b""
        self._splitter = frames.FrameSplitter()
        self._ahead: list[tuple[int, bytes]] = []

    async def send(self, message: frames.FromClient) -> None:
        await self.stream.send_all(frames.encode(message))

    async def next(self) -> frames.FromWorkspace:
        while not self._ahead:
            self._ahead = list(self._splitter.feed(await self.stream.receive_some()))
        message = frames.parse_from_workspace(*self._ahead.pop(0))
        if isinstance(message, Opened):
            self.seen = message.place
        elif isinstance(message, Output):
            self.output += message.data
            self.seen += len(message.data)
        return message

    async def until(self, is_it: Callable[[frames.FromWorkspace], bool]) -> frames.FromWorkspace:
        while not is_it(message := await self.next()):
            pass
        return message

    async def read_until(self, text: bytes) -> None:
        while text not in self.output:
            await self.next()


class Workspace:
    """A node API, and clients of it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.streams: list[trio.SocketStream] = []

    async def open(self, token: bytes = b"", seen: int = 0) -> tuple[Client, Opened]:
        stream = await trio.open_tcp_stream(*self._address)
        self.streams.append(stream)
        await stream.send_all(encode(TerminalRequest()))
        line = b""
        while not line.endswith(b"\n"):
            line += await stream.receive_some(1)
        parse_dial_reply(line)
        client = Client(stream)
        await client.send(Open(seen, SCREEN, token))
        opened = await client.next()
        if isinstance(opened, Refused):
            raise UserError(opened.message, code=opened.code)
        assert isinstance(opened, Opened)
        return client, opened


@asynccontextmanager
async def workspace(
    home: Path,
    *,
    is_on: bool = True,
    user: Account | None = None,
    may_come: Callable[[str], bool] = lambda owner: True,
    peer: Peer = SERVER,
) -> AsyncIterator[Workspace]:
    async with trio.open_nursery() as nursery:
        service = TerminalService(user or account(home), Counters(), may_come)
        await nursery.start(service.run)

        async def serve(stream: trio.SocketStream, rest: bytes, caller: Peer, grace: float) -> None:
            await service.serve(stream, rest, caller.name, grace)

        terminal: ServeTerminal | None = serve if is_on else None
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(serve_anybody, listeners, terminal=terminal, peer=peer))
        with trio.fail_after(20):
            dev = Workspace(listeners[0].socket.getsockname())
            try:
                yield dev
            finally:
                for stream in dev.streams:
                    stream.socket.close()
        nursery.cancel_scope.cancel()


async def test_a_shell_sees_the_size_of_the_screen_and_its_exit_code_comes_back(tmp_path: Path) -> None:
    async with workspace(tmp_path) as dev:
        client, _ = await dev.open()
        await client.send(Input(b"stty size; pwd; tty\n"))
        await client.read_until(b"24 80\r\n")
        await client.read_until(str(tmp_path).encode())
        await client.read_until(b"/dev/pts/")
        await client.send(Resize(Size(50, 132)))
        await client.send(Input(b"stty size\n"))
        await client.read_until(b"50 132\r\n")
        await client.send(Input(b"exit 7\n"))
        assert await client.until(lambda message: isinstance(message, Exited)) == Exited(7)


async def test_who_comes_back_goes_on_where_they_were_and_who_knows_nothing_gets_the_scrollback(
    tmp_path: Path,
) -> None:
    async with workspace(tmp_path) as dev:
        first, opened = await dev.open()
        await first.send(Input(b"echo be''fore; read x; echo af''ter\n"))
        await first.read_until(b"before\r\n")
        await first.stream.aclose()
        second, again = await dev.open(opened.token, first.seen)
        assert again == Opened(first.seen, opened.token)
        await second.send(Input(b"\n"))
        await second.read_until(b"after\r\n")
        assert b"before" not in second.output
        third, _ = await dev.open(opened.token)
        await third.read_until(b"after\r\n")
        assert third.output.startswith(first.output)
        gone = await second.until(lambda message: isinstance(message, Refused))
        assert isinstance(gone, Refused)
        assert gone.code == "taken_over"


async def test_closing_ends_the_shell_for_good(tmp_path: Path) -> None:
    async with workspace(tmp_path) as dev:
        client, opened = await dev.open()
        await client.send(Ping(b"12345678"))
        await client.until(lambda message: message == Pong(b"12345678"))
        await client.send(frames.Close())
        assert await client.until(lambda message: isinstance(message, Exited)) == Exited(129)
        with pytest.raises(UserError) as caught:
            await dev.open(opened.token)
        assert caught.value.code == "no_session"


async def test_a_shell_whose_owner_may_not_come_any_more_ends_within_two_seconds_be_somebody_attached_or_not(
    tmp_path: Path,
) -> None:
    may_come = True
    async with workspace(tmp_path, may_come=lambda owner: may_come) as dev:
        left, opened = await dev.open()
        used, _ = await dev.open()
        for client, file in ((left, b"left"), (used, b"used")):
            await client.send(Input(b"echo $$ > %s; echo rea''dy\n" % file))
            await client.read_until(b"ready\r\n")
        await left.stream.aclose()
        may_come = False
        with trio.fail_after(2.5):
            assert await used.until(lambda message: isinstance(message, Exited)) == Exited(129)
            while any(is_running(tmp_path / file) for file in ("left", "used")):  # noqa: ASYNC110
                await trio.sleep(0.02)
        with pytest.raises(UserError) as caught:
            await dev.open(opened.token)
    assert caught.value.code == "no_session"


@pytest.mark.netns
async def test_a_daemon_that_is_root_becomes_the_user_and_keeps_nothing(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    user = Account("nobody", nobody.pw_uid, nobody.pw_gid, "/nonexistent", "/bin/sh")
    async with workspace(tmp_path, user=user) as dev:
        client, _ = await dev.open()
        await client.send(
            Input(b"echo; pwd; grep -E 'Uid|Gid|Groups|CapEff|CapPrm|CapAmb' /proc/self/status; exit\n")
        )
        await client.until(lambda message: isinstance(message, Exited))
    lines = [b" ".join(line.split()) for line in client.output.split(b"\r\n")]
    uid, gid = b" %d" % user.uid * 4, b" %d" % user.gid * 4
    assert {b"/", b"Uid:" + uid, b"Gid:" + gid, b"Groups: %d" % user.gid} <= set(lines)
    assert {name + b": " + b"0" * 16 for name in (b"CapEff", b"CapPrm", b"CapAmb")} <= set(lines)


async def test_a_workspace_without_terminals_refuses_them(tmp_path: Path) -> None:
    async with workspace(tmp_path, is_on=False) as dev:
        with pytest.raises(UserError) as caught:
            await dev.open()
    assert caught.value.code == "no_terminal"


async def test_bytes_that_are_no_frames_are_refused(tmp_path: Path) -> None:
    async with workspace(tmp_path) as dev:
        client, _ = await dev.open()
        await client.stream.send_all(b"\xff" * 3)
        refused = await client.until(lambda message: isinstance(message, Refused))
    assert isinstance(refused, Refused)
    assert refused.code == "malformed"


async def test_a_shell_ignores_no_signal_that_its_programs_rely_on(tmp_path: Path) -> None:
    async with workspace(tmp_path) as here:
        client, _ = await here.open()
        await client.send(Input(b"grep SigIgn /proc/self/status; exit\n"))
        await client.until(lambda message: isinstance(message, Exited))
    assert b"SigIgn:\t0000000000000000" in client.output
