"""Notifies systemd that the process is ready, alive or stopping (sd_notify(3))."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from typing import Final

import sdnotify
import trio

_BEATS: Final = 2
"""Notifications per ``WATCHDOG_USEC``, of which one suffices; sd_watchdog_enabled(3) recommends two."""


class Supervisor:
    """Connection to the service manager at ``NOTIFY_SOCKET``; without one, notifications are dropped."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()

    def close(self) -> None:
        """Closes the notification socket, if there is one."""
        if self._notifier.socket is not None:
            self._notifier.socket.close()

    def ready(self) -> None:
        """Notifies that the process serves all that it was started for (``READY=1``)."""
        self._notifier.notify("READY=1")

    def stopping(self) -> None:
        """Notifies that the process has begun to stop (``STOPPING=1``)."""
        self._notifier.notify("STOPPING=1")

    async def beat(self, patience: float) -> None:
        """Notifies that the loop turns (``WATCHDOG=1``), twice per ``patience``, until cancelled.

        Runs as a task of the loop that is watched: while the loop stands still no notification is sent, and
        systemd ends the process (SIGABRT) and restarts it as the unit's ``Restart=`` says.

        Args:
            patience: seconds within which systemd expects a notification.
        """
        while True:
            self._notifier.notify("WATCHDOG=1")
            await trio.sleep(patience / _BEATS)


@asynccontextmanager
async def supervised() -> AsyncIterator[Supervisor]:
    """Yields a supervisor, and meanwhile notifies systemd's watchdog where the environment asks for it."""
    patience = watchdog_patience(os.environ)
    with closing(Supervisor()) as supervisor:
        async with trio.open_nursery() as nursery:
            if patience is not None:
                nursery.start_soon(supervisor.beat, patience)
            yield supervisor
            nursery.cancel_scope.cancel()


def watchdog_patience(environment: Mapping[str, str]) -> float | None:
    """Returns the seconds within which systemd expects a ``WATCHDOG=1``, or None where it expects none.

    None is expected where ``WATCHDOG_USEC`` is missing, 0 or not a number, or ``WATCHDOG_PID`` is another
    process's (sd_watchdog_enabled(3)).
    """
    microseconds = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not (microseconds.isascii() and microseconds.isdigit()) or pid != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 or None
