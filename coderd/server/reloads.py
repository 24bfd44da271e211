"""SIGHUP, for every part of the server that has something to read again. Nobody waits for another, none misses one."""

import trio


class Reloads:
    """Counts how often the server was asked to reload."""

    def __init__(self) -> None:
        self.n_asked = 0
        self._asked = trio.Event()

    def ask(self) -> None:
        """Has everybody read anew what they can."""
        self.n_asked += 1
        self._asked.set()
        self._asked = trio.Event()

    async def wait(self, n_seen: int) -> int:
        """Waits until there were more than ``n_seen``; returns how many there were, to be passed the next time."""
        while self.n_asked == n_seen:
            await self._asked.wait()
        return self.n_asked
