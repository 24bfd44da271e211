"""The CLI's end of the control socket.

Blocks, without trio, so that ``coderctl status`` answers at once.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from coderd.control.messages import Message, Method
from coderd.control.protocol import AnswerReader, Event, LineSplitter, encode_request
from coderd.model.errors import Exit, MalformedPacket, UserError

READ_SIZE = 65536
PATIENCE = 15.0
"""Seconds to wait for the daemon's next line, where a caller knows no better."""

P = TypeVar("P", bound=Message)
E = TypeVar("E", bound=Message)
R = TypeVar("R", bound=Message)


class ControlClient:
    """One connection to the daemon. A context manager: leaving it closes, which cancels whatever runs.

    Raises:
        UserError: the daemon does not run, or this user may not reach it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_id = 1
        self._socket = _connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; harmless when it is closed."""
        self._socket.close()

    def shutdown(self) -> None:
        """Ends the connection for a thread that waits in it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def start(self, method: Method[P, E, R], params: P, *, patience: float | None = PATIENCE) -> "Call[E, R]":
        """Sends a request. Returns the call, which reads its events and its result.

        Args:
            method: the one to call.
            params: its parameters.
            patience: seconds to wait for each line of the answer; None: without a limit.
        """
        request_id, self._next_id = self._next_id, self._next_id + 1
        try:
            self._socket.sendall(encode_request(request_id, method, params))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon may have said why before it closed
        except OSError as error:
            raise _gone(error.strerror) from None
        return Call(self._socket, method, request_id, patience)

    def call(self, method: Method[P, E, R], params: P, *, patience: float | None = PATIENCE) -> R:
        """Asks, lets events pass, and returns the result. Raises UserError."""
        call = self.start(method, params, patience=patience)
        for _ in call:
            pass
        return call.result


class Call(Generic[E, R]):
    """A request under way: iterate over its events, then take its ``result``. Raises UserError on the way."""

    def __init__(
        self, sock: socket.socket, method: "Method[P, E, R]", request_id: int, patience: float | None
    ) -> None:
        self._socket = sock
        self._patience = patience
        self._reader = AnswerReader(method, request_id)
        self._splitter = LineSplitter()
        self._result: R | None = None

    @property
    def result(self) -> R:
        """The result, once the events have been read."""
        if self._result is None:
            raise RuntimeError("the events come before the result")
        return self._result

    def __iter__(self) -> Iterator[E]:
        while True:
            try:
                answer = self._reader.read(self._next_line())
            except MalformedPacket as error:
                raise UserError(
                    f"the daemon's answer cannot be read: {error}",
                    hint="Restart the daemon after an update, so that both are of one version.",
                ) from None
            if answer is None:
                continue
            if not isinstance(answer, Event):
                self._result = answer.value
                return
            yield answer.value

    def _next_line(self) -> bytes:
        deadline = None if self._patience is None else time.monotonic() + self._patience
        while (line := self._splitter.next_line()) is None:
            self._splitter.feed(self._receive(deadline))
        return line

    def _receive(self, deadline: float | None) -> bytes:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            if not select.select([self._socket], [], [], left)[0]:
                raise UserError(
                    f"the daemon has not answered within {self._patience:g} seconds",
                    exit_code=Exit.TIMED_OUT,
                    hint="Look at its log: journalctl -u coderd.",
                    code="timed_out",
                )
            data = self._socket.recv(READ_SIZE)
        except (OSError, ValueError) as error:
            raise _gone(error.strerror if isinstance(error, OSError) else None) from None
        if not data:
            raise _gone(None)
        return data


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A blocking connect waits its turn where many connect; with Python's timeout it fails at once.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(PATIENCE))
        sock.connect(os.fsencode(path))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0.0))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        sock.close()
        raise UserError(
            f"the daemon is not running: nothing listens on {path}",
            exit_code=Exit.UNREACHABLE,
            hint="Start it with: sudo systemctl start coderd (or sudo coderd run).",
            code="daemon_unreachable",
        ) from None
    except PermissionError:
        sock.close()
        raise UserError(
            f"you are not allowed to reach the daemon's socket {path}",
            exit_code=Exit.REFUSED,
            hint="Run it with sudo.",
            code="not_allowed",
        ) from None
    except OSError as error:
        sock.close()
        raise UserError(
            f"the daemon's socket {path} cannot be used: {error.strerror or error}",
            exit_code=Exit.UNREACHABLE,
            code="daemon_unreachable",
        ) from None
    return sock


def _timeval(seconds: float) -> bytes:
    """The kernel's form of a time; 0 is for ever."""
    return struct.pack("@ll", int(seconds), round(seconds % 1 * 1e6))


def _gone(why: str | None) -> UserError:
    return UserError(
        f"the daemon closed the connection{f' ({why})' if why else ''}",
        exit_code=Exit.UNREACHABLE,
        hint="Look at its log: journalctl -u coderd.",
        code="daemon_unreachable",
    )
