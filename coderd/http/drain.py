"""The graceful end of a server: no new connection is accepted, and requests in flight are answered."""

import trio


class Drain:
    """Count of the requests in flight on one ``serve_http``, and the request to end it.

    WebSockets and relay links are not counted: their owners end them.
    """

    def __init__(self) -> None:
        self._asked = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._n_requests = 0

    def ask(self) -> None:
        """Asks the server to accept no more connections, so that its listeners close."""
        self._asked.set()

    async def wait_asked(self) -> None:
        """Waits until ``ask`` has been called."""
        await self._asked.wait()

    def enter(self) -> None:
        """Counts a request that has begun."""
        self._n_requests += 1
        self._idle = trio.Event() if self._idle.is_set() else self._idle

    def leave(self) -> None:
        """Counts a request as ended: answered or given up."""
        self._n_requests -= 1
        if self._n_requests == 0:
            self._idle.set()

    async def wait_idle(self, timeout: float) -> bool:
        """Waits until no request is in flight. Returns False if ``timeout`` seconds pass first."""
        with trio.move_on_after(timeout):
            await self._idle.wait()
            return True
        return False
