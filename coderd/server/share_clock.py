"""Shares end by themselves: here they are ended when their time has come, with all that is open by them."""

import time
from collections.abc import Callable
from typing import Final

import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from coderd.server.directory import Directory

BEAT: Final = 1.0
"""Seconds between two looks at the clock: so much longer than agreed a share may last."""

log = structlog.get_logger(__name__)


class ShareClock:
    """Knows when the next share ends, and asks the store again only after it was changed.

    Args:
        directory: the identities, and who is connected.
        clock: wall-clock seconds, the store's own.
    """

    def __init__(self, directory: Directory, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock
        self._n_changes: int | None = None
        self._next_end: float | None = None

    async def run(self) -> None:
        """Ends shares at their time, until cancelled. What could not be ended is tried again a second later."""
        while True:
            try:
                await self.beat()
            except SQLAlchemyError as error:
                self._n_changes = None
                self._directory.counters["shares.not_ended"] += 1
                log.warning("shares_not_ended", error=type(error).__name__)
            await trio.sleep(BEAT)

    async def beat(self) -> None:
        """Ends what is due, and tells whom it concerns."""
        shares = self._directory.store.shares
        n_changes = self._directory.store.n_changes
        if n_changes != self._n_changes:
            self._next_end = await self._directory.in_thread(shares.next_end)
            self._n_changes = n_changes
        if self._next_end is None or self._clock() < self._next_end:
            return
        self._n_changes = None
        ended = await self._directory.change_in_thread(lambda: shares.end_due())
        self._directory.counters["shares.ended"] += len(ended)
