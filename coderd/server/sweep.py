"""The task that ends what ends by itself, at its moment, and what another program has ended in the database meanwhile.

It wakes when the next thing is due, as the store says (``identity/io/expiry.py``, which says too how to add a kind of thing), and once a
second to see whether the database has changed: then something may be due sooner, or ``coderd server reset-user``, which
writes into the database of a server that runs, has left nodes whose links must end. That look is one number of SQLite's.
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
    """Ends what is due.

    Args:
        directory: the identities, and who is connected.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._seen = -1
        self._next: float | None = None

    async def run(self) -> None:
        """For ever. A database that cannot be used now is tried again: health tells of it."""
        while True:
            try:
                await self.look()
            except SQLAlchemyError as error:
                self._seen = -1
                log.warning("sweep_failed", error=type(error).__name__)
            await trio.sleep(self._wait())

    async def look(self) -> None:
        """Sweeps if anything is due, or if the database is another than when this was last asked."""
        expiry = self._directory.store.expiry
        version = await self._directory.in_thread(expiry.data_version)
        if version == self._seen and (self._next is None or time.time() < self._next):
            return
        self._next = await self._directory.change_in_thread(lambda: expiry.sweep())
        self._seen = version

    def _wait(self) -> float:
        if self._next is None:
            return LOOK_INTERVAL
        return min(LOOK_INTERVAL, max(0.01, self._next - time.time()))
