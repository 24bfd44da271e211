"""A daemon for tests: a real control socket with scripted answers, in a thread of its own or in the test's nursery."""

import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from coderd.control.io.server import Emit, serve_control
from coderd.control.messages import Message
from coderd.model.errors import UserError

Answer = Message | UserError | None
"""A result, an error, or None: the request lasts until the caller leaves."""


class ScriptedHandler:
    """Answers each method as it was told; remembers what was asked and whether one was broken off."""

    def __init__(self, **answers: tuple[Sequence[Message], Answer]) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}
        self.asked: list[Message] = []
        self.started = trio.Event()
        self.cancelled = trio.Event()

    async def handle(self, method: str, params: Message, emit: Emit) -> Message:
        self.asked.append(params)
        self.started.set()
        events, answer = self.answers[method]
        try:
            for event in events:
                await emit(event)
            if answer is None:
                await trio.sleep_forever()
        except BaseException:
            self.cancelled.set()
            raise
        if isinstance(answer, UserError):
            raise answer
        assert answer is not None
        return answer


@contextmanager
def short_directory(mode: int = 0o755) -> Iterator[Path]:
    """A directory whose path is short enough for sockets, and open to other users."""
    with tempfile.TemporaryDirectory(prefix="coderd-") as name:
        path = Path(name)
        path.chmod(mode)
        yield path


@contextmanager
def daemon_thread(handler: ScriptedHandler, **options: Any) -> Iterator[Path]:
    """A daemon in a thread, for blocking callers; yields its socket's path."""
    with (
        short_directory() as directory,
        running(partial(serve_control, directory / "s.sock", handler, **options)),
    ):
        yield directory / "s.sock"


@contextmanager
def running(serve: Callable[..., Awaitable[object]]) -> Iterator[object]:
    """Runs a service in a thread until the block ends; yields what it said when it had started."""
    is_ready = threading.Event()
    said: list[object] = []
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            said.append(await nursery.start(serve))
            token = trio.lowlevel.current_trio_token()
            stop.append(lambda: token.run_sync_soon(nursery.cancel_scope.cancel))
            is_ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert is_ready.wait(10)
    try:
        yield said[0]
    finally:
        stop[0]()
        thread.join(10)
        assert not thread.is_alive()
