"""systemd, where it is who started us: told when we serve, that the loop turns, and that we are about to end (sd_notify(3))."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from typing import Final

import sdnotify
import trio

_BEATS: Final = 2
"""Signs of life in the time that ``WatchdogSec=`` allows for one (sd_watchdog_enabled(3) recommends two)."""


class Supervisor:
    """Who watches this process, if anybody does."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()

    def close(self) -> None:
        """Says nothing any more."""
        if self._notifier.socket is not None:
            self._notifier.socket.close()

    def ready(self) -> None:
        """Everything that was asked for is served from now on."""
        self._notifier.notify("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._notifier.notify("STOPPING=1")

    async def beat(self, patience: float) -> None:
        """Says for ever that the loop turns.

        A task like any other: while the loop stands still nothing is said, and systemd ends the process (SIGABRT) and starts
        it again.

        Args:
            patience: seconds within which a sign of life is due.
        """
        while True:
            self._notifier.notify("WATCHDOG=1")
            await trio.sleep(patience / _BEATS)


@asynccontextmanager
async def supervised() -> AsyncIterator[Supervisor]:
    """Within, whoever started us with a watchdog hears that the loop turns."""
    patience = watchdog_patience(os.environ)
    with closing(Supervisor()) as supervisor:
        async with trio.open_nursery() as nursery:
            if patience is not None:
                nursery.start_soon(supervisor.beat, patience)
            yield supervisor
            nursery.cancel_scope.cancel()


def watchdog_patience(environment: Mapping[str, str]) -> float | None:
    """Seconds within which a sign of life is due; None: nobody waits for one, or for one of another process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not (microseconds.isascii() and microseconds.isdigit()) or pid != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 or None
