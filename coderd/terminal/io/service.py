"""The terminals of a workspace: frames on streams of the node API to shells on PTYs.

Owns the shells; whose they are and how long they last is ``Sessions``'. A stream opens a shell or comes back
to one, and is then two tasks: one reads frames, one sends what lies behind the place that the client has
seen. A newer client takes over from the one before. A stream that ends, or on which nothing comes for a
while, detaches; only ``close``, the clock and the end of its owner's right to come end a shell.
"""

import os
from collections.abc import Callable
from typing import Final

import structlog
import trio

from coderd.http.turns import Turn
from coderd.metrics import Counters
from coderd.model import Buffer, limits
from coderd.model.account import Login
from coderd.model.errors import MalformedPacket, UserError
from coderd.terminal.frames import (
    MAX_BODY,
    Close,
    Exited,
    FrameSplitter,
    FromClient,
    FromWorkspace,
    Input,
    Open,
    Opened,
    Output,
    Ping,
    Pong,
    Refused,
    Resize,
    encode,
    parse_from_client,
)
from coderd.terminal.io.shell import Shell
from coderd.terminal.io.starting import start_shell
from coderd.terminal.sessions import Session, Sessions

OPEN_TIMEOUT: Final = limits.TERMINAL_OPEN_TIMEOUT
SILENCE_TIMEOUT: Final = limits.TERMINAL_SILENCE_TIMEOUT
"""Seconds without a frame after which a client is taken for gone; clients ping every few seconds."""
SWEEP_INTERVAL = 1.0
"""Seconds after which a shell is ended, at most, whose owner may not come any more."""
CHUNK = 1 << 16
TAKEN_OVER = Refused("taken_over", "the terminal was opened elsewhere")

log = structlog.get_logger(__name__)


class TerminalService:
    """Serves terminals while ``run`` runs.

    Args:
        login: where shells come from; see ``check_account``.
        counters: ``terminal.*``.
        may_come: whether an owner of sessions may still reach this node, be it connected or not.
        sessions: the table, of usual size if none is given.
    """

    def __init__(
        self,
        login: Login,
        counters: Counters,
        may_come: Callable[[str], bool] = lambda owner: True,
        sessions: Sessions | None = None,
    ) -> None:
        self._login = login
        self._counters = counters
        self._may_come = may_come
        self._sessions = sessions if sessions is not None else Sessions(os.urandom)
        self._live: dict[Session, _Live] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the shells until cancelled, which ends them."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                await trio.sleep(SWEEP_INTERVAL)
                self.sweep()

    def sweep(self) -> None:
        """Ends shells without a client for too long, and those of owners who may not come any more."""
        now = trio.current_time()
        for session in (*self._sessions.forsaken(self._may_come, now), *self._sessions.expired(now)):
            if (live := self._live.get(session)) is not None:  # else its shell is just being started
                self._sessions.close(session)  # no client may attach while it hangs up
                live.scope.cancel()

    async def serve(
        self,
        stream: trio.abc.Stream,
        rest: bytes,
        owner: str,
        grace: float = 0.0,
        *,
        person: str = "",
        is_hosts: bool = False,
    ) -> None:
        """Serves one client until its stream or its shell ends.

        Args:
            stream: after the node API's reply.
            rest: what has come behind the request already.
            owner: whose sessions it may have.
            grace: seconds that a new one outlasts its owner's right to come, at most.
            person: whose machine the owner is: places are shared by person.
            is_hosts: whether that person owns the workspace.
        """
        frames = _Frames(stream)
        try:
            with trio.fail_after(OPEN_TIMEOUT):
                frames.feed(rest)
                opening = await frames.next()
                if not isinstance(opening, Open):
                    raise MalformedPacket("a terminal that is not opened")
                live = await self._find_or_start(
                    opening,
                    owner,
                    lambda: self._sessions.open(
                        owner, trio.current_time(), person=person, is_hosts=is_hosts, grace=grace
                    ),
                )
            await live.attach(frames, opening)
        except MalformedPacket as error:
            self._counters["terminal.drop.malformed"] += 1
            await frames.send(Refused("malformed", str(error)))
        except UserError as error:
            self._counters["terminal.refused"] += 1
            await frames.send(Refused(error.code, error.message))
        except (EOFError, trio.TooSlowError):
            self._counters["terminal.drop.silent"] += 1

    async def _find_or_start(self, opening: Open, owner: str, make: Callable[[], Session]) -> "_Live":
        if opening.token:
            return self._live[self._sessions.find(owner, opening.token)]
        session = make()
        try:
            shell = await start_shell(self._login, opening.size)
        except OSError as error:
            self._sessions.close(session)
            log.warning("terminal_not_started", why=error.strerror)
            raise UserError("the workspace cannot start a shell", code="no_shell") from None
        except BaseException:
            self._sessions.close(session)
            raise
        live = self._live[session] = _Live(self._sessions, session, shell)
        assert self._nursery is not None
        self._nursery.start_soon(self._follow, live)
        self._counters["terminal.opened"] += 1
        log.info("terminal_opened", login=self._login.name, n_open=len(self._sessions))
        return live

    async def _follow(self, live: "_Live") -> None:
        try:
            with live.scope:
                await live.shell.run()
        finally:
            self._sessions.close(live.session)
            del self._live[live.session]
            log.info("terminal_ended", n_open=len(self._sessions))


class _Live:
    """A session, its shell and the attached client."""

    def __init__(self, sessions: Sessions, session: Session, shell: Shell) -> None:
        self.session = session
        self.shell = shell
        self.scope = trio.CancelScope()
        self._sessions = sessions
        self._client: trio.CancelScope | None = None

    async def attach(self, frames: "_Frames", opening: Open) -> None:
        """Serves a client in the place of the one before. Raises what ``_Frames.next`` raises."""
        if self._client is not None:
            self._client.cancel()
        number = self._sessions.attach(self.session)
        self.shell.resize(opening.size)
        scope = self._client = trio.CancelScope()
        try:
            with scope:
                await self._talk(frames, self.shell.scrollback.clamp(opening.seen))
        finally:
            self._sessions.detach(self.session, number, trio.current_time())
            if self._client is scope:
                self._client = None
                self.shell.set_reader(None)
        if scope.cancelled_caught:
            await frames.send(TAKEN_OVER)

    async def _talk(self, frames: "_Frames", place: int) -> None:
        self.shell.set_reader(place)
        await frames.send(Opened(place, self.session.token))
        failed: list[Exception] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, frames, place, nursery.cancel_scope)
            try:
                await self._receive(frames)
            except (EOFError, MalformedPacket, trio.TooSlowError) as error:
                failed.append(error)
                nursery.cancel_scope.cancel()
        if failed:
            raise failed[0]

    async def _send(self, frames: "_Frames", place: int, both: trio.CancelScope) -> None:
        scrollback = self.shell.scrollback
        while True:
            changed = self.shell.changed
            if data := scrollback.read(place, MAX_BODY):
                await frames.send(Output(data))
                place += len(data)
                self.shell.set_reader(place)
            elif self.shell.exit_code is not None:
                await frames.send(Exited(self.shell.exit_code))
                both.cancel()
                return
            else:
                await changed.wait()

    async def _receive(self, frames: "_Frames") -> None:
        while True:
            with trio.fail_after(SILENCE_TIMEOUT):
                message = await frames.next()
            match message:
                case Input(data):
                    await self.shell.write(data)
                case Resize(size):
                    self.shell.resize(size)
                case Ping(mark):
                    await frames.send(Pong(mark))
                case Close():
                    self._sessions.close(self.session)  # no client may attach while it hangs up
                    self.scope.cancel()
                case Open():
                    raise MalformedPacket("a terminal that is opened twice")


class _Frames:
    """A client's frames, and ours to it, one at a time."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._splitter = FrameSplitter()
        self._turn = Turn()
        self._sending = trio.Lock()
        self._is_torn = False
        """A frame was sent in part only: nothing can follow it."""

    def feed(self, data: Buffer) -> None:
        """Takes bytes of the stream."""
        self._splitter.feed(data)

    async def next(self) -> FromClient:
        """The next one. Raises EOFError where the stream has ended, MalformedPacket."""
        await self._turn.count()
        while (frame := self._splitter.next_frame()) is None:
            try:
                data = await self._stream.receive_some(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise EOFError from None
            if not data:
                raise EOFError
            self.feed(data)
        return parse_from_client(*frame)

    async def send(self, message: FromWorkspace) -> None:
        """Sends, for as long as the client takes; one that is gone is noticed by reading."""
        async with self._sending:
            if self._is_torn:
                return
            self._is_torn = True
            try:
                with trio.move_on_after(SILENCE_TIMEOUT):
                    await self._stream.send_all(encode(message))
                    self._is_torn = False
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
