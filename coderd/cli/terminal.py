"""``coderctl terminal``: a shell in a workspace on this terminal.

If the path breaks, it resumes the same shell.
"""

import os
import select
import signal
import socket as sockets
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from coderd.cli.options import SOCKET, Socket, Workspace
from coderd.cli.peer_stream import open_terminal_stream
from coderd.cli.say import note
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.terminal.frames import (
    MAX_BODY,
    MAX_SIDE,
    TOKEN_SIZE,
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
    Size,
    encode,
    parse_from_workspace,
)

PING_INTERVAL = 5.0
SILENCE_TIMEOUT = 15.0
"""Seconds without a frame, pongs included, after which the path counts as broken."""
RESUME_TIMEOUT = 600.0
RETRY_INTERVAL = 1.0
STDIN, STDOUT = 0, 1
RAW_END = "\r\n"
"""A newline on a terminal in raw mode."""
END_OF_FILE = b"\x04"
"""Sent to the shell when stdin has ended and is not a terminal."""
LEAVE = b"~."
DETACH = b"~d"
ERASE = b"\x7f"


def terminal(
    workspace: Workspace,
    resume: Annotated[
        str,
        typer.Option("--resume", metavar="ID", help="Resume a shell that still runs, instead of a new one."),
    ] = "",
    socket: Socket = SOCKET,
) -> int:
    """Open a shell in a workspace that offers terminals.

    Enter ~ . closes it if it hangs, Enter ~ d leaves it running.

    Exits with the shell's exit code. If the path breaks, the shell goes on running, and this command resumes
    it once there is a path. A shell that was left running, by Enter ~ d or because the path did not come
    back, waits an hour for --resume.

    Examples:
      coderctl terminal dev
      echo 'make test; exit' | coderctl terminal ann/dev
      coderctl terminal dev --resume 4bf1e2d06c7a4f5e8d9c0b1a2f3e4d5c
    """
    client = _Client(socket, workspace, _token(resume))
    stream = client.connect()
    with stream, _raw(), _resizes() as resizes:
        return client.run(stream, resizes)


class _Client:
    """The client of one shell. Owns its token and the position up to which output has arrived."""

    def __init__(self, control: Path, workspace: str, token: bytes) -> None:
        self._control = control
        self._workspace = workspace
        self._token = token
        self._is_detached = False
        self._seen = 0
        self._has_input = True
        self._typed = b"\n"
        """The last bytes typed, as far as they may begin ``LEAVE`` or ``DETACH`` after a newline."""
        self._heard_at = self._pinged_at = 0.0

    def connect(self) -> sockets.socket:
        """Connects, and opens the shell or resumes it; returns the stream. Raises UserError."""
        stream = open_terminal_stream(self._control, self._workspace)
        stream.settimeout(SILENCE_TIMEOUT)
        self._heard_at = self._pinged_at = time.monotonic()
        _send(stream, Open(self._seen, _screen(), self._token))
        return stream

    def run(self, stream: sockets.socket, resizes: sockets.socket) -> int:
        """Runs until the shell ends, and returns its exit code. Raises UserError if it cannot be resumed."""
        while True:
            with stream:
                code = self._talk(stream, resizes)
            if code is not None:
                return code
            if self._is_detached:
                self._say_how_to_resume()
                return 0
            note(f"coderctl: the connection to {self._workspace} broke; reconnecting", RAW_END)
            stream = self._reconnect()

    def _reconnect(self) -> sockets.socket:
        until = time.monotonic() + RESUME_TIMEOUT
        while True:
            try:
                return self.connect()
            except (UserError, OSError):
                if not self._token or time.monotonic() > until:
                    self._say_how_to_resume()
                    raise
            if self._wants_to_leave(RETRY_INTERVAL):
                self._say_how_to_resume()
                raise KeyboardInterrupt

    def _say_how_to_resume(self) -> None:
        if self._token:
            command = f"coderctl terminal {self._workspace} --resume {self._token.hex()}"
            note("", RAW_END)
            note(f"coderctl: the shell goes on for an hour; resume it with: {command}", RAW_END)

    def _wants_to_leave(self, timeout: float) -> bool:
        """Waits, reading stdin for ^C meanwhile: in raw mode the terminal sends no signal."""
        if not self._has_input or not sys.stdin.isatty():
            time.sleep(timeout)
            return False
        ready, _, _ = select.select([STDIN], [], [], timeout)
        return bool(ready) and b"\x03" in os.read(STDIN, MAX_BODY)

    def _talk(self, stream: sockets.socket, resizes: sockets.socket) -> int | None:
        """Returns the shell's exit code; None if the stream broke or the shell was detached."""
        splitter = FrameSplitter()
        try:
            while time.monotonic() - self._heard_at < SILENCE_TIMEOUT:
                inputs: list[sockets.socket | int] = [stream, resizes, *([STDIN] if self._has_input else [])]
                ready, _, _ = select.select(inputs, [], [], PING_INTERVAL)
                if time.monotonic() - self._pinged_at >= PING_INTERVAL:
                    self._pinged_at = time.monotonic()
                    _send(stream, Ping(bytes(8)))
                if resizes in ready:
                    resizes.recv(MAX_BODY)
                    _send(stream, Resize(_screen()))
                if STDIN in ready:
                    _send(stream, self._typing())
                    if self._is_detached:
                        return None
                if stream in ready and (code := self._hear(stream, splitter)) is not None:
                    return code
        except OSError:
            return None
        except MalformedPacket as error:
            raise UserError(f"{self._workspace} sent an invalid terminal message: {error}") from None
        return None

    def _typing(self) -> FromClient:
        data = os.read(STDIN, MAX_BODY)
        if not data:
            self._has_input = False
            return Input(END_OF_FILE)
        self._typed = (self._typed + data.replace(b"\r", b"\n"))[-3:]
        if sys.stdin.isatty() and self._typed == b"\n" + LEAVE:
            return Close()
        if sys.stdin.isatty() and self._typed == b"\n" + DETACH:
            self._is_detached = True
            return Input(ERASE)  # the tilde, which the shell has
        return Input(data)

    def _hear(self, stream: sockets.socket, splitter: FrameSplitter) -> int | None:
        data = stream.recv(1 << 16)
        if not data:
            raise ConnectionResetError
        self._heard_at = time.monotonic()
        for frame in splitter.feed(data):
            if (code := self._take(parse_from_workspace(*frame))) is not None:
                return code
        return None

    def _take(self, message: FromWorkspace) -> int | None:
        match message:
            case Opened(place, token):
                self._seen, self._token = place, token
            case Output(data):
                self._seen += len(data)
                _write_all(data)
            case Exited(code):
                return code
            case Refused(code, text):
                raise UserError(text, code=code)
            case Pong():
                pass
        return None


def _token(resume: str) -> bytes:
    try:
        token = bytes.fromhex(resume)
    except ValueError:
        token = b"?"
    if len(token) not in (0, TOKEN_SIZE):
        raise UserError(
            f"{resume!r} is not a shell's id",
            exit_code=Exit.USAGE,
            hint="It is 32 hexadecimal digits.",
            code="bad_id",
        )
    return token


def _send(stream: sockets.socket, message: FromClient) -> None:
    stream.sendall(encode(message))


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(STDOUT, view) :]


def _screen() -> Size:
    try:
        columns, rows = os.get_terminal_size(STDIN)
    except OSError:
        return Size(24, 80)
    return Size(min(max(rows, 1), MAX_SIDE), min(max(columns, 1), MAX_SIDE))


@contextmanager
def _raw() -> Iterator[None]:
    """Sets the terminal to raw mode for the block, so that every key goes to the shell, ^C too."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(STDIN)
    try:
        tty.setraw(STDIN)
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


@contextmanager
def _resizes() -> Iterator[sockets.socket]:
    """Yields a socket that becomes readable after each change of the screen's size."""
    ours, woken = sockets.socketpair()
    with ours, woken:
        woken.setblocking(False)
        before = signal.signal(signal.SIGWINCH, lambda number, frame: None)
        fd = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(fd)
            signal.signal(signal.SIGWINCH, before)
