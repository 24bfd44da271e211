"""Reloads requested by SIGHUP, for every part of the server that reads files again.

Each part waits independently.
"""

import trio


class Reloads:
    """Counter of requested reloads."""

    def __init__(self) -> None:
        self.n_asked = 0
        self._asked = trio.Event()

    def ask(self) -> None:
        """Counts a request and wakes all that wait."""
        self.n_asked += 1
        self._asked.set()
        self._asked = trio.Event()

    async def wait(self, n_seen: int) -> int:
        """Waits until there were more requests than ``n_seen``; returns their number, for the next call."""
        while self.n_asked == n_seen:
            await self._asked.wait()
        return self.n_asked
