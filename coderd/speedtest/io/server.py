"""The serving node's end: accepts, checks who and what, and hands the socket to a worker process."""

import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Generic, TypeVar

import structlog
import trio

from coderd.metrics import Counters
from coderd.model import limits
from coderd.model.errors import MalformedPacket
from coderd.model.paths import Pin
from coderd.model.seats import NoSeat, Seats
from coderd.speedtest.plan import (
    MAX_LINE,
    StartReply,
    StartRequest,
    encode,
    objection,
    parse_start_request,
)

REQUEST_TIMEOUT = 10.0
BUSY_GRACE = 1.0
"""Seconds that a test waits for its predecessor, whose process may still be on its way out."""
MAX_STRANGERS: Final = limits.MAX_SPEEDTEST_STRANGERS
MAX_STRANGERS_PER_PERSON: Final = limits.MAX_SPEEDTEST_STRANGERS_PER_PERSON
NO_PROOF = "the machine's daemon has not let this connection come: use coderctl there"
BUSY = "another speed test to this workspace is running: try again when it has ended"

log = structlog.get_logger()
PeerT = TypeVar("PeerT")


async def serve_speedtest(
    listeners: Sequence[trio.SocketListener],
    authorise: Callable[[str], PeerT | None],
    pin: Callable[[PeerT, Pin], AbstractContextManager[None]],
    *,
    person: Callable[[PeerT], str] = str,
    proves: Callable[[PeerT, str], Awaitable[bool]] | None = None,
    counters: Counters | None = None,
) -> None:
    """Serves speed tests, one at a time, until cancelled; a running test ends then.

    Args:
        listeners: on the node's tailnet address, port 3.
        authorise: returns the peer with this source address, which WireGuard has authenticated; None if it
            may not run tests.
        pin: keeps this node's sending to a peer to a path, while its context lasts.
        person: returns the person that a peer's machine belongs to; each has a share of the connections that
            wait.
        proves: returns whether a secret is that of a peer's daemon; None: every process on the peer's machine
            may connect.
        counters: ``speedtest.*``.
    """
    server = _SpeedtestServer(
        authorise, pin, person, proves, counters if counters is not None else Counters()
    )
    await trio.serve_listeners(server.serve, list(listeners))


class _SpeedtestServer(Generic[PeerT]):
    """Owns the one running test."""

    def __init__(
        self,
        authorise: Callable[[str], PeerT | None],
        pin: Callable[[PeerT, Pin], AbstractContextManager[None]],
        person: Callable[[PeerT], str],
        proves: Callable[[PeerT, str], Awaitable[bool]] | None,
        counters: Counters,
    ) -> None:
        self._authorise = authorise
        self._pin = pin
        self._person = person
        self._proves = proves
        self._counters = counters
        self._turn = trio.Semaphore(1)
        self._strangers = Seats[trio.CancelScope](
            limit=MAX_STRANGERS, limit_each=MAX_STRANGERS_PER_PERSON, displaces_own=True
        )

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await self._serve(stream)
        except (trio.BrokenResourceError, OSError):
            self._counters["speedtest.drop.broken"] += 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        peer = self._authorise(stream.socket.getpeername()[0])
        if peer is None:
            self._counters["speedtest.refused"] += 1
            return
        request: StartRequest | None = None
        is_proved = self._proves is None
        with trio.move_on_after(REQUEST_TIMEOUT) as waiting:
            try:
                displaced = self._strangers.take(self._person(peer), waiting)
            except NoSeat:
                self._counters["speedtest.refused"] += 1
                return
            if displaced is not None:
                displaced.cancel()
            try:
                request = await self._read_request(stream)
                if request is not None and self._proves is not None:
                    is_proved = await self._proves(peer, request.secret)
            finally:
                self._strangers.leave(waiting)
        if request is None:
            self._counters["speedtest.drop.malformed"] += 1
            return
        if why := objection(request) or ("" if is_proved else NO_PROOF):
            await self._refuse(stream, why)
            return
        with trio.move_on_after(BUSY_GRACE) as waiting:
            await self._turn.acquire()
        if waiting.cancelled_caught:
            await self._refuse(stream, BUSY)
            return
        try:
            await self._run(stream, peer, request)
        finally:
            self._turn.release()

    async def _refuse(self, stream: trio.SocketStream, why: str) -> None:
        self._counters["speedtest.refused"] += 1
        with trio.move_on_after(REQUEST_TIMEOUT):
            await stream.send_all(encode(StartReply(error=why)))

    async def _read_request(self, stream: trio.SocketStream) -> StartRequest | None:
        """One JSON object, with or without a newline behind it."""
        data = b""
        while len(data) < MAX_LINE and (chunk := await stream.receive_some(MAX_LINE - len(data))):
            data += chunk
            if data.rstrip().endswith(b"}"):
                try:
                    return parse_start_request(data)
                except MalformedPacket:
                    continue
        return None

    async def _run(self, stream: trio.SocketStream, peer: PeerT, request: StartRequest) -> None:
        self._counters["speedtest.tests"] += 1
        with self._pin(peer, request.path):
            await _run_worker(stream, request)


async def _run_worker(stream: trio.SocketStream, request: StartRequest) -> None:
    fd = stream.socket.fileno()
    # -P: the daemon's working directory is no place to import from
    command = [sys.executable, "-P", "-m", "coderd.speedtest.io.worker", str(fd), str(request.direction)]
    process = await trio.lowlevel.open_process(
        [*command, str(request.time)], pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
    log.debug("speed test ended", status=status, seconds=request.duration)
