"""Reports to the server of the paths by which this node reaches its peers."""

from collections.abc import Callable

import trio

from coderd.coordination.reporter import PathReporter, Reports
from coderd.engine.io.tunnel import Tunnel


class PathReporting:
    """Reports when paths change, while the server is connected; ``PathReporter`` decides what and when.

    Args:
        tunnel: knows the paths.
        report: tells the server.
    """

    def __init__(self, tunnel: Tunnel, report: Callable[[Reports], None]) -> None:
        self._tunnel = tunnel
        self._report = report
        self._reporter = PathReporter(trio.current_time())
        self._is_news = trio.Event()

    def handle_joined(self) -> None:
        """Takes that a connection to the server begins, which knows no earlier report."""
        self._reporter.handle_joined(trio.current_time())
        self._is_news.set()

    def handle_change(self) -> None:
        """Takes that a path has changed."""
        self._reporter.handle_change(trio.current_time())
        self._is_news.set()

    async def run(self, is_connected: Callable[[], bool]) -> None:
        """Reports, until cancelled, whenever ``is_connected`` returns that the server is."""
        while True:
            with trio.move_on_at(self._reporter.due_at) as waited:
                await self._is_news.wait()
            self._is_news = trio.Event()
            if not waited.cancelled_caught:
                continue
            now = trio.current_time()
            if not is_connected():
                self._reporter.postpone(now)
            elif reports := self._reporter.poll(self._tunnel.paths(), self._tunnel.handshake_failures(), now):
                self._report(reports)
