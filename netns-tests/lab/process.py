"""A program in the laboratory: its log, its signals, and waiting for what it says."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import BinaryIO, Self

LOG_TAIL = 6000
"""Bytes of a log's end that a failure shows."""


class LabError(Exception):
    """The laboratory could not do its part; the message says which."""


class ProgramFailed(LabError):
    """A program that was to succeed did not."""

    def __init__(self, argv: Sequence[str], code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"{' '.join(argv)} ended {code}\n{stdout}{stderr}".rstrip())
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


class Process:
    """A program that goes on while the test does something else. Its log is a file in memory."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: BinaryIO) -> None:
        self.name = name
        self._popen = popen
        self._log = log
        self._said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its pid as we see it, outside the laboratory's pid namespace."""
        return self._popen.pid

    @property
    def raw_output(self) -> bytes:
        """Everything that it wrote to stdout, and to stderr unless that was asked for elsewhere."""
        if self._log.closed:
            return self._said
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0)

    def close(self) -> None:
        """Give up its log's file; `output` stays as it is now."""
        self._said = self.raw_output
        self._log.close()

    @property
    def output(self) -> str:
        """`raw_output` as text."""
        return self.raw_output.decode(errors="replace")

    @property
    def tail(self) -> str:
        """The end of its log, under a heading."""
        state = "running" if self.code is None else f"ended {self.code}"
        return f"--- {self.name} ({state})\n{self.output[-LOG_TAIL:]}"

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs; -N when signal N ended it."""
        return self._popen.poll()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.code is None

    def wait_for(self, text: str, *, timeout: float = 20.0) -> str:
        """Wait until its log contains a text, and return the log.

        LabError when it ends first or takes too long.
        """
        deadline = time.monotonic() + timeout
        while text not in (output := self.output):
            if not self.is_running and text not in self.output:
                raise LabError(f"{self.name} ended {self.code} before it said {text!r}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} did not say {text!r} within {timeout:g} s")
            time.sleep(0.01)
        return output

    def wait(self, *, timeout: float = 30.0) -> int:
        """Wait for its end, and return its exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not end within {timeout:g} s") from None

    def signal(self, number: int) -> None:
        """Send it, and it alone, a signal."""
        self._popen.send_signal(number)

    def stop(self, *, timeout: float = 5.0) -> int:
        """Ask it to end (SIGTERM), kill it when it does not, and return its exit code."""
        if self.is_running:
            self.signal(signal.SIGTERM)
            try:
                return self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._popen.wait()

    def kill(self) -> int:
        """SIGKILL it, and it alone."""
        self._popen.kill()
        return self._popen.wait()
