"""The CLI's end of a test: dials the peer through the tunnel and moves the bytes itself. Blocking."""

import socket
import time
from collections.abc import Callable

from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.model.paths import Pin
from coderd.speedtest.io.streams import StreamBroken, read_line, receive, send
from coderd.speedtest.plan import (
    MAX_LINE,
    Direction,
    StartRequest,
    encode,
    parse_start_reply,
    start_request,
)
from coderd.speedtest.tally import Interval, Tally

DIAL_TIMEOUT = 10.0
REPLY_TIMEOUT = 10.0
LIMIT_FACTOR = 4
EARLY = 0.9
"""A download that ends before this share of its time was cut off."""


class SpeedtestRun:
    """What a finished test counted.

    Attributes:
        started_at: by ``time.monotonic``.
        rows: its intervals, relative to ``started_at``.
    """

    def __init__(self, started_at: float, rows: tuple[Interval, ...]) -> None:
        self.started_at = started_at
        self.rows = rows


def run_test(
    address: str,
    port: int,
    *,
    duration: float,
    direction: Direction,
    path: Pin,
    secret: str = "",
    on_row: Callable[[Interval], None],
) -> SpeedtestRun:
    """Runs one test against ``[address]:port``.

    Args:
        address: tailnet address of the serving node.
        port: its port, 3.
        duration: seconds.
        direction: which way the bytes go.
        path: what the serving node keeps its own sending to.
        secret: what this machine's daemon has told the serving node.
        on_row: told of each complete row at once.

    Raises:
        UserError: the node is not reachable, refuses, or the test broke off.
    """
    try:
        with _dial(address, port) as sock:
            rest = _ask(sock, start_request(duration, direction, path, secret))
            return _measure(sock, rest, duration, direction, on_row)
    except StreamBroken as error:
        raise UserError(
            f"the speed test broke off: {error}",
            hint="Look at the path with: coderctl status",
            code="broken_off",
        ) from None


def _dial(address: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((address, port), timeout=DIAL_TIMEOUT)
    except TimeoutError:
        raise UserError(
            f"the workspace's speed test did not answer within {DIAL_TIMEOUT:g} seconds",
            exit_code=Exit.TIMED_OUT,
            code="timed_out",
        ) from None
    except OSError as error:
        raise UserError(
            f"the workspace's speed test cannot be reached: {error.strerror or error}",
            exit_code=Exit.NO_PATH,
            hint="Look at the path with: coderctl status",
            code="no_path",
        ) from None


def _ask(sock: socket.socket, request: StartRequest) -> bytes:
    """Says what is wanted; returns the first data, if it came along with the reply."""
    try:
        sock.sendall(encode(request))
    except OSError as error:
        raise StreamBroken(error.strerror or "the connection broke") from None
    line, rest = read_line(sock, limit=MAX_LINE, timeout=REPLY_TIMEOUT)
    try:
        reply = parse_start_reply(line)
    except MalformedPacket as error:
        raise StreamBroken(str(error)) from None
    if reply.error:
        raise UserError(f"the workspace refused the test: {reply.error}", code="refused_by_peer")
    return rest


def _measure(
    sock: socket.socket,
    rest: bytes,
    duration: float,
    direction: Direction,
    on_row: Callable[[Interval], None],
) -> SpeedtestRun:
    started = time.monotonic()
    tally = Tally(started)

    def progress(n_bytes: int, now: float) -> None:
        if row := tally.add(n_bytes, now):
            on_row(row)

    progress(len(rest), started)
    if direction is Direction.UP:
        send(sock, duration=duration, progress=progress)
    else:
        receive(sock, limit=LIMIT_FACTOR * duration + 10.0, progress=progress)
    ended = time.monotonic()
    if ended - started < EARLY * duration:
        raise StreamBroken("the workspace ended it early")
    return SpeedtestRun(started, tally.finish(ended))
