"""The end of a server in good order: nobody new comes in, and requests that are being answered are answered."""

import trio


class Drain:
    """Requests in flight on one ``serve_http``, and the wish to end. WebSockets and relay links are told by their owners."""

    def __init__(self) -> None:
        self._asked = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._n_requests = 0

    def ask(self) -> None:
        """No connection is accepted any more: the listeners close."""
        self._asked.set()

    async def wait_asked(self) -> None:
        """Returns once somebody has asked."""
        await self._asked.wait()

    def enter(self) -> None:
        """A request has come."""
        self._n_requests += 1
        self._idle = trio.Event() if self._idle.is_set() else self._idle

    def leave(self) -> None:
        """It has been answered, or will never be."""
        self._n_requests -= 1
        if self._n_requests == 0:
            self._idle.set()

    async def wait_idle(self, timeout: float) -> bool:
        """Whether all requests were answered within so many seconds."""
        with trio.move_on_after(timeout):
            await self._idle.wait()
            return True
        return False
