"""Terminals by browser, as a browser speaks: cookies, Origin, messages of a WebSocket; real sockets and shells behind."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from coderd.model.paths import PathRule
from coderd.webterminal.messages import ID_SIZE, WINDOW
from coderd.webterminal.page import Problem
from tests.shell.terminal_world import ANNS, BOB, BOBS, PAGE, World, world

pytestmark = pytest.mark.slow

OPEN, INPUT, RESIZE, PING, CLOSE, SEEN = range(1, 7)
OPENED, OUTPUT, EXITED, PONG, REFUSED, PATH = range(0x81, 0x87)


class Page:
    """What the page does, by hand."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self.output, self.place, self.id, self.path = b"", 0, b"", ""

    async def send(self, kind: int, body: bytes = b"") -> None:
        await self._socket.send_message(bytes([kind]) + body)

    async def next(self, *, tells: bool = True) -> tuple[int, bytes]:
        message = await self._socket.get_message()
        assert isinstance(message, bytes)
        kind, body = message[0], message[1:]
        if kind == OPENED:
            (self.place,), self.id = struct.unpack(">Q", body[:8]), body[8:]
        elif kind == OUTPUT:
            self.output += body
            self.place += len(body)
            if tells:
                await self.send(SEEN, struct.pack(">Q", self.place))
        elif kind == PATH:
            self.path = body.decode()
        return kind, body

    async def until(self, kind: int) -> bytes:
        while True:
            got, body = await self.next()
            if got == kind:
                return body

    async def read_until(self, text: bytes) -> None:
        while text not in self.output:
            await self.next()

    async def closed(self) -> int:
        """The code with which the server closes."""
        with suppress(ConnectionClosed):
            while True:
                await self.next()
        reason = self._socket.closed
        assert reason is not None
        return int(reason.code)


@asynccontextmanager
async def connected(here: World, session: bytes = ANNS, origin: str = "") -> AsyncIterator[Page]:
    headers = [("cookie", here.cookie(session)), ("origin", origin or here.origin)]
    fields = [(name.encode(), value.encode()) for name, value in headers]
    with trio.fail_after(20):
        async with (
            await trio.open_tcp_stream("127.0.0.1", here.port) as stream,
            trio.open_nursery() as nursery,
        ):
            socket = await wrap_client_stream(
                nursery, stream, f"127.0.0.1:{here.port}", f"{PAGE}/ws", extra_headers=fields
            )
            yield Page(socket)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(
    here: World, session: bytes = ANNS, *, id: bytes = b"", seen: int = 0
) -> AsyncIterator[Page]:
    async with connected(here, session) as page:
        await page.send(OPEN, struct.pack(">QHH", seen, 24, 80) + id)
        yield page


async def status_of_socket(here: World, session: bytes, origin: str = "") -> int:
    """How a request for a WebSocket is refused."""
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    key = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    if origin != "none at all":
        key["origin"] = origin or here.origin
    async with client(here, session) as http:
        return (await http.get(f"{PAGE}/ws", headers=upgrade | key)).status_code


def is_running(pid_file: Path) -> bool:
    return Path("/proc", pid_file.read_text().strip()).exists()


def client(here: World, session: bytes | None = ANNS) -> httpx.AsyncClient:
    headers = {"cookie": here.cookie(session)} if session is not None else {}
    return httpx.AsyncClient(base_url=here.origin, headers=headers, timeout=10)


async def test_a_shell_is_typed_to_resized_pinged_and_ended(tmp_path: Path) -> None:
    async with world(tmp_path) as here, opened(here) as page:
        await page.until(OPENED)
        await page.send(INPUT, b"stty size; pwd\n")
        await page.read_until(b"24 80\r\n")
        await page.send(RESIZE, struct.pack(">HH", 50, 132))
        await page.send(INPUT, b"stty size\n")
        await page.read_until(b"50 132\r\n")
        await page.send(PING, b"12345678")
        assert await page.until(PONG) == b"12345678"
        assert page.path == "relay Here"
        here.server.path = "direct"
        assert await page.until(PATH) == b"direct"
        await page.send(INPUT, b"exit 7\n")
        assert await page.until(EXITED) == bytes([7])
        assert await page.closed() == 1000


async def test_after_the_way_broke_the_page_comes_back_where_it_was_and_one_that_was_reloaded_sees_all(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        async with opened(here) as first:
            await first.until(OPENED)
            await first.send(INPUT, b"echo be''fore; read x; echo af''ter\n")
            await first.read_until(b"before\r\n")
            here.server.cut()
            assert await first.closed() == 4000
        async with opened(here, id=first.id, seen=first.place) as second:
            await second.until(OPENED)
            assert (second.place, second.id) == (first.place, first.id)
            await second.send(INPUT, b"\n")
            await second.read_until(b"after\r\n")
            assert b"before" not in second.output
            async with opened(here, id=first.id) as reloaded:
                await reloaded.read_until(b"after\r\n")
                assert reloaded.output.startswith(first.output)
                assert (await second.until(REFUSED)).startswith(b"taken_over ")
                await reloaded.send(CLOSE)
                assert await reloaded.until(EXITED) == bytes([129])


async def test_whose_share_is_taken_away_is_told_within_two_seconds_and_the_shells_they_left_end(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        async with opened(here, BOBS) as left:
            await left.until(OPENED)
            await left.send(INPUT, b"echo $$ > left; echo rea''dy\n")
            await left.read_until(b"ready\r\n")
        async with opened(here, BOBS) as used, opened(here, ANNS) as anns:
            await used.until(OPENED)
            await used.send(INPUT, b"echo $$ > used; echo rea''dy\n")
            await used.read_until(b"ready\r\n")
            await anns.until(OPENED)
            here.server.unshare()
            with trio.fail_after(2):
                assert (await used.until(REFUSED)).startswith(
                    b"revoked Your access to this workspace was revoked"
                )
                assert await used.closed() == 1008
            with trio.fail_after(3):
                while any(is_running(tmp_path / file) for file in ("left", "used")):  # noqa: ASYNC110
                    await trio.sleep(0.02)
            await anns.send(INPUT, b"echo st''ill\n")
            await anns.read_until(b"still\r\n")
        assert await status_of_socket(here, BOBS) == 403


async def test_who_is_signed_out_is_told_and_finds_the_shell_again(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with opened(here) as page:
            await page.until(OPENED)
            await page.send(INPUT, b"echo he''re\n")
            await page.read_until(b"here\r\n")
            anns = here.server.sessions.pop(ANNS)
            with trio.fail_after(2):
                assert (await page.until(REFUSED)).startswith(b"signed_out ")
        here.server.sessions[ANNS] = anns
        async with opened(here, id=page.id) as again:
            await again.read_until(b"here\r\n")


async def test_a_browser_that_shows_nothing_is_sent_no_more_than_a_window(tmp_path: Path) -> None:
    async with world(tmp_path) as here, opened(here) as page:
        await page.until(OPENED)
        await page.send(INPUT, b"head -c 3000000 /dev/zero | tr '\\0' x; echo do''ne\n")
        with trio.move_on_after(0.7):
            while True:
                await page.next(tells=False)
        assert WINDOW <= page.place <= WINDOW + 16384
        await page.send(SEEN, struct.pack(">Q", page.place))
        await page.read_until(b"done\r\n")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01" + bytes(3),
        bytes([OPEN]) + struct.pack(">QHH", 0, 0, 80),
        bytes([OPEN]) + struct.pack(">QHH", 0, 24, 80) + bytes(ID_SIZE),
        bytes([INPUT]) + b"ls\n",
        bytes([0x7F]),
        "text",
    ],
)
async def test_what_is_no_message_of_the_page_closes_the_socket(tmp_path: Path, message: bytes | str) -> None:
    async with world(tmp_path) as here, connected(here) as page:
        await page._socket.send_message(message)
        assert await page.closed() == 1003
        assert here.server.streams == []


async def test_anothers_shell_is_not_opened_by_its_id(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with opened(here, ANNS) as anns:
            await anns.until(OPENED)
        async with opened(here, BOBS, id=anns.id) as bobs:
            assert await bobs.closed() == 1003


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://127.0.0.1:1", "none at all"])
async def test_a_page_of_another_origin_opens_no_socket(tmp_path: Path, origin: str) -> None:
    async with world(tmp_path) as here:
        assert await status_of_socket(here, ANNS, origin) == 403


async def test_the_page_is_for_who_may_meet_the_workspace_under_a_policy_without_unsafe_inline(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here, client(here, BOBS) as bob, client(here) as ann:
        async with client(here, None) as stranger:
            asked = await stranger.get(PAGE)
            assert (asked.status_code, asked.headers["location"]) == (
                303,
                "/login?next=%2F%40ann%2Fdev%2Fterminal",
            )
        shown = await bob.get(PAGE)
        assert shown.status_code == 200
        assert "unsafe" not in shown.headers["content-security-policy"]
        assert (await ann.get(PAGE, headers={"host": "evil.example"})).status_code == 421
        here.server.unshare()
        assert (await bob.get(PAGE)).status_code == 404
        assert here.server.workspace is not None
        here.server.workspace = replace(here.server.workspace, path=PathRule.DENY)
        assert (await ann.get(PAGE)).status_code == 404


async def test_a_guest_without_a_terminal_in_their_share_gets_none_by_browser(tmp_path: Path) -> None:
    async with world(tmp_path) as here, client(here, BOBS) as bob:
        async with opened(here, BOBS) as page:
            await page.until(OPENED)
            assert here.server.workspace is not None
            assert [visit.user for visit in here.server.visits.of(here.server.workspace.node_id)] == [BOB]
        (share,) = here.server.workspace.shares
        here.server.workspace = replace(here.server.workspace, shares=(replace(share, terminal=False),))
        assert (await bob.get(PAGE)).status_code == 404
        assert await status_of_socket(here, BOBS) == 403


async def test_where_there_is_no_terminal_the_page_says_what_to_do(tmp_path: Path) -> None:
    async with world(tmp_path, is_on=False) as here:
        async with opened(here) as page:
            refused = await page.until(REFUSED)
            assert refused.startswith(b"no_terminal The workspace offers no terminal. Its owner can switch")
        here.server.is_offline = True
        async with opened(here) as page:
            assert (await page.until(REFUSED)).startswith(b"offline Ann/dev is not connected. Start it")
        here.server.problem = Problem("This server is no node.", "Do <this>.")
        async with client(here) as ann:
            said = await ann.get(PAGE)
        assert said.status_code == 503
        assert "This server is no node." in said.text
        assert "Do &lt;this&gt;." in said.text
