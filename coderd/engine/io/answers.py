"""The answers that tasks wait for: to pings, and to netchecks."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from coderd.magicsock import PingReply
from coderd.model.paths import PathInfo
from coderd.netcheck import Report


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to a ping: the path that it came by, and the round trip in seconds."""

    path: PathInfo
    latency: float


class Answers:
    """Tasks that wait for a node's answers, each woken by its own."""

    def __init__(self) -> None:
        self._pings: dict[int, tuple[trio.Event, list[Pong]]] = {}
        self._checked = trio.Event()

    # What happened

    def handle_reply(self, reply: PingReply) -> None:
        """Wakes the task that waits for a ping's answer, if any still does."""
        if (waiting := self._pings.get(reply.token)) is not None:
            waiting[1].append(Pong(reply.path, reply.latency))
            waiting[0].set()

    def handle_netcheck(self) -> None:
        """Wakes all tasks that wait for a netcheck: one has ended."""
        self._checked.set()
        self._checked = trio.Event()

    # Waiting

    async def pong(self, token: int, drain: Callable[[], None], timeout: float) -> Pong | None:
        """Waits for the answer to a ping.

        Args:
            token: the ping's.
            drain: sends it; the answer may come before this returns.
            timeout: seconds to wait.

        Returns: None where no answer came in time.
        """
        event, answer = self._pings[token] = trio.Event(), list[Pong]()
        try:
            drain()
            with trio.move_on_after(timeout):
                await event.wait()
            return answer[0] if answer else None
        finally:
            del self._pings[token]

    async def report(
        self, look: Callable[[], Report | None], check: Callable[[], None], oldest: float, timeout: float
    ) -> Report | None:
        """Waits for a netcheck's report that is fresh enough.

        Args:
            look: returns the last report.
            check: begins a netcheck, if that one is too old.
            oldest: the instant before which the netcheck must not have begun.
            timeout: seconds to wait.

        Returns: None where no such report came in time.
        """
        with trio.move_on_after(timeout):
            if not _is_fresh(look(), oldest):
                check()
            while not _is_fresh(report := look(), oldest):
                await self._checked.wait()
            return report
        return None


def _is_fresh(report: Report | None, oldest: float) -> bool:
    return report is not None and report.started_at >= oldest
