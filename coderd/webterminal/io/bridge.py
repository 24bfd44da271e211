"""One terminal in a browser.

Messages of a WebSocket to frames on a stream of a workspace, and back, each end waiting for the other.

Three tasks: one takes from the browser, one from the workspace, one looks every second whether the person
still may and which way the path goes. Whichever is first to see an end says so to both.
"""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

import trio
from starlette.websockets import WebSocket, WebSocketDisconnect

from coderd.http.turns import Turn
from coderd.model import limits
from coderd.model.errors import MalformedPacket
from coderd.terminal import frames
from coderd.terminal.frames import Close, Exited, FrameSplitter, FromWorkspace, Open, Opened, Output, Refused
from coderd.webterminal.messages import (
    WINDOW,
    FromBrowser,
    Path,
    Seen,
    ShellIds,
    encode_for_browser,
    parse_from_browser,
)

OPEN_TIMEOUT: Final = limits.TERMINAL_BRIDGE_OPEN_TIMEOUT
SILENCE_TIMEOUT: Final = limits.TERMINAL_BROWSER_SILENCE_TIMEOUT
"""Seconds without a message after which a browser is taken for gone; pages ping every two."""
SEND_TIMEOUT: Final = limits.TERMINAL_SEND_TIMEOUT
FAREWELL_TIMEOUT: Final = limits.TERMINAL_FAREWELL_TIMEOUT
WATCH_INTERVAL: Final = 1.0
CHUNK: Final = 1 << 16


class End(Enum):
    """How it ended; the value is the code with which the WebSocket is closed."""

    OVER = 1000
    """The shell has ended or the workspace has refused, and the page has been notified."""
    GONE = 1001
    """The browser is not there any more."""
    MALFORMED = 1003
    REVOKED = 1008
    BROKEN = 4000
    """The path to the workspace broke; a browser that reconnects with the id goes on."""


class Bridge:
    """A terminal on its way.

    Args:
        websocket: accepted, nothing said yet.
        ids: of this user's shells in this workspace.
        may: why the person may not any more, None while they may.
        path: the way to the workspace, in words for people; empty while unknown.
        on_opened: called with the shell's token.
    """

    def __init__(
        self,
        websocket: WebSocket,
        ids: ShellIds,
        *,
        may: Callable[[], Awaitable[Refused | None]],
        path: Callable[[], str],
        on_opened: Callable[[bytes], None],
    ) -> None:
        self._websocket = websocket
        self._ids = ids
        self._may = may
        self._path = path
        self._on_opened = on_opened
        self._sending = trio.Lock()
        self._place = 0
        """Behind the last byte that was sent to the browser."""
        self._seen = 0
        self._was_seen = trio.Event()
        self._end = End.GONE
        self.has_ended = False
        """Whether the shell is known to have ended, or to be about to."""

    async def opening(self) -> Open:
        """Receives the browser's first message. Raises MalformedPacket, trio.TooSlowError."""
        with trio.fail_after(OPEN_TIMEOUT):
            message = await self._receive()
        if not isinstance(message, Open):
            raise MalformedPacket("a terminal that is not opened")
        return message

    async def run(self, stream: trio.abc.Stream, opening: Open) -> End:
        """Copies between browser and workspace until either end is gone or the right to it is.

        The caller closes the stream.
        """
        try:
            await stream.send_all(frames.encode(opening))
            async with trio.open_nursery() as nursery:
                for task in (self._to_workspace, self._to_browser, self._watch):
                    nursery.start_soon(self._run_first, task, stream, nursery.cancel_scope)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return End.BROKEN
        return self._end

    async def send(self, message: FromWorkspace | Path) -> None:
        """Says something to the browser. Raises WebSocketDisconnect, trio.TooSlowError."""
        with trio.fail_after(SEND_TIMEOUT):
            async with self._sending:
                try:
                    await self._websocket.send_bytes(encode_for_browser(message, self._ids))
                except RuntimeError:  # it has been closed
                    raise WebSocketDisconnect(End.GONE.value) from None

    async def _run_first(
        self,
        task: Callable[[trio.abc.Stream], Awaitable[End]],
        stream: trio.abc.Stream,
        both: trio.CancelScope,
    ) -> None:
        """The first task to return, or to fail, says how it ended."""
        try:
            end = await task(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            end = End.BROKEN
        except (WebSocketDisconnect, trio.TooSlowError):
            end = End.GONE
        except MalformedPacket:
            end = End.MALFORMED
        if not both.cancel_called:
            self._end = end
            both.cancel()

    async def _to_workspace(self, stream: trio.abc.Stream) -> End:
        while True:
            with trio.fail_after(SILENCE_TIMEOUT):
                message = await self._receive()
            if isinstance(message, Seen):
                self._note_seen(message.place)
                continue
            if isinstance(message, Open):
                raise MalformedPacket("a terminal that is opened twice")
            self.has_ended = self.has_ended or isinstance(message, Close)
            await stream.send_all(frames.encode(message))

    async def _to_browser(self, stream: trio.abc.Stream) -> End:
        splitter, turn = FrameSplitter(), Turn()
        while data := await stream.receive_some(CHUNK):
            for kind, body in splitter.feed(data):
                await turn.count()
                message = frames.parse_from_workspace(kind, body)
                await self._pass_on(message)
                if isinstance(message, Exited | Refused):
                    self.has_ended = isinstance(message, Exited) or message.code == "no_session"
                    return End.OVER
        return End.BROKEN

    async def _pass_on(self, message: FromWorkspace) -> None:
        if isinstance(message, Opened):
            self._place = self._seen = message.place
            self._on_opened(message.token)
        elif isinstance(message, Output):
            while self._place - self._seen >= WINDOW:
                await self._was_seen.wait()
            self._place += len(message.data)
        await self.send(message)

    async def _watch(self, stream: trio.abc.Stream) -> End:
        shown = ""
        while True:
            if (refusal := await self._may()) is not None:
                with trio.move_on_after(FAREWELL_TIMEOUT):
                    await self.send(refusal)
                return End.REVOKED
            if (path := self._path()) and path != shown:
                await self.send(Path(path))
                shown = path
            await trio.sleep(WATCH_INTERVAL)

    def _note_seen(self, place: int) -> None:
        self._seen = min(max(place, self._seen), self._place)
        self._was_seen.set()
        self._was_seen = trio.Event()

    async def _receive(self) -> FromBrowser:
        try:
            event = await self._websocket.receive()
        except RuntimeError:
            raise WebSocketDisconnect(End.GONE.value) from None
        if event["type"] != "websocket.receive":
            raise WebSocketDisconnect(End.GONE.value)
        return parse_from_browser(event.get("bytes") or b"", self._ids)
