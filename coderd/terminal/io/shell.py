"""One shell on a PTY. Owns the PTY's master, the process and the scrollback, whichever client is attached."""

import fcntl
import signal
import struct
import termios
from typing import Protocol

import trio

from coderd.terminal.frames import MAX_BODY, Size
from coderd.terminal.scrollback import SCROLLBACK, Scrollback

DRAIN_TIMEOUT = 0.2
"""Seconds after the shell's end that its last output may take.

What runs on in the background may hold the PTY.
"""
AHEAD = SCROLLBACK // 2
"""Bytes that a shell may be ahead of a client who is attached."""


class ShellProcess(Protocol):
    """The process of a shell; see ``starting``."""

    async def wait(self) -> int:
        """Waits for the process; returns its exit code, or 128 + n if signal n ended it."""

    async def end(self) -> None:
        """Hangs up, and kills what does not listen. Returns when it has ended."""


class Shell:
    """A shell, from ``start`` until ``run`` returns.

    Waiters for output wait for ``changed``, an event that is replaced by a new one at each change.
    """

    def __init__(self, process: ShellProcess, master: int) -> None:
        self.scrollback = Scrollback()
        self.exit_code: int | None = None
        """As ``ShellProcess.wait`` says it; None while it runs."""
        self.changed = trio.Event()
        self.reader_at: int | None = None
        """Place up to which the attached client has read; None while none is attached."""
        self._process = process
        self._is_read = trio.Event()
        self._fd = master
        self._stream = trio.lowlevel.FdStream(master)

    async def run(self) -> None:
        """Follows the shell to its end; cancelled, ends it."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                code = await self._process.wait()
                with trio.move_on_after(DRAIN_TIMEOUT):
                    await self._is_read.wait()
                nursery.cancel_scope.cancel()
            self.exit_code = code
        finally:
            if self.exit_code is None:
                self.exit_code = 128 + signal.SIGHUP
            self._stream.close()  # the kernel hangs up on processes that still have the terminal
            self._change()
            with trio.CancelScope(shield=True):
                await self._process.end()

    async def write(self, data: bytes) -> None:
        """Writes input to the shell. Input that the shell does not read any more is lost."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    def resize(self, size: Size) -> None:
        """Gives the screen another size; the kernel tells the programs on it."""
        if self.exit_code is None:
            set_size(self._fd, size)

    def set_reader(self, place: int | None) -> None:
        """Sets the place up to which the attached client has read; None when it is detached."""
        self.reader_at = place
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def _read(self) -> None:
        while True:
            while self.reader_at is not None and self.scrollback.end - self.reader_at > AHEAD:
                await self.changed.wait()
            try:
                data = await self._stream.receive_some(MAX_BODY)
            except (
                trio.BrokenResourceError,
                trio.ClosedResourceError,
            ):  # no process has the terminal any more
                self._is_read.set()
                return
            self.scrollback.append(data)
            self._change()


def set_size(fd: int, size: Size) -> None:
    """Gives a PTY a size. Raises OSError."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
