"""Task that ends tokens, shares and nodes when they expire, and applies changes by other programs.

Wakes when the store's next expiry is due (``identity/io/expiry.py``, which also says how to add a kind), and
once a second to see whether the database has changed: something may then expire sooner, or ``coderd server
reset-user`` may have revoked tokens of connected nodes. That look reads one number of SQLite's.
"""

import time
from typing import Final

import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from coderd.server.directory import Directory

LOOK_INTERVAL: Final = 1.0
"""Seconds between two looks at whether the database has changed."""

log = structlog.get_logger(__name__)


class Sweep:
    """Periodic expiry of one server's identities.

    Args:
        directory: the identities and connected nodes.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._seen = -1
        self._next: float | None = None

    async def run(self) -> None:
        """Sweeps for ever; tries again when the database cannot be used, which health reports."""
        while True:
            try:
                await self.look()
            except SQLAlchemyError as error:
                self._seen = -1
                log.warning("sweep_failed", error=type(error).__name__)
            await trio.sleep(self._wait())

    async def look(self) -> None:
        """Sweeps if something has expired or the database has changed since the last look."""
        expiry = self._directory.store.expiry
        version = await self._directory.in_thread(expiry.data_version)
        if version == self._seen and (self._next is None or time.time() < self._next):
            return
        self._next = await self._directory.change_in_thread(lambda: expiry.sweep())
        self._seen = version

    def _wait(self) -> float:
        """Returns the seconds until the next look."""
        if self._next is None:
            return LOOK_INTERVAL
        return min(LOOK_INTERVAL, max(0.01, self._next - time.time()))
