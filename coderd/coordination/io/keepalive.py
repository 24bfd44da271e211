"""One timer for all links: sends ``alive`` on idle ones and closes silent ones.

A deadline of each link's own would be set anew with each message and end in a task woken to say the same
thing as ever: with thousands of links, that alone keeps a core busy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from coderd.coordination.message import ALIVE_INTERVAL, SILENCE_TIMEOUT

BEAT: Final = 0.25
"""Seconds between two looks at all links; so much later than due anything may be noticed."""


class Link(Protocol):
    """Both ends' last words, in seconds of trio's clock."""

    heard_at: float
    said_at: float

    def say_alive(self, now: float) -> None:
        """Sends ``alive``, since nothing was sent for ``ALIVE_INTERVAL`` seconds. Must not block or raise."""

    def give_up(self) -> None:
        """Closes the link, since nothing was received for ``SILENCE_TIMEOUT`` seconds.

        Called once; must not block or raise.
        """


class KeepaliveMonitor:
    """Sender of ``alive`` on links idle for ``ALIVE_INTERVAL``; closes links silent for ``SILENCE_TIMEOUT``.

    All links share one timer.

    Args:
        now: seconds of trio's clock.
    """

    def __init__(self, now: float) -> None:
        self._links: dict[Link, None] = {}
        self._due = now + BEAT

    async def run(self) -> None:
        """Looks at all links every ``BEAT`` seconds, until cancelled."""
        while True:
            await trio.sleep_until(self._due)
            self.beat(trio.current_time())

    @contextmanager
    def watching(self, link: Link) -> Iterator[None]:
        """Watches a link while the block lasts."""
        self._links[link] = None
        try:
            yield
        finally:
            self._links.pop(link, None)

    def beat(self, now: float) -> None:
        """Looks at all links once.

        Time in which this process itself was held up does not count as silence.
        """
        held_up, self._due = now - self._due, now + BEAT
        for link in list(self._links):
            if held_up > BEAT:
                link.heard_at += held_up
            if now - link.heard_at >= SILENCE_TIMEOUT:
                del self._links[link]
                link.give_up()
            elif now - link.said_at >= ALIVE_INTERVAL:
                link.said_at = now
                link.say_alive(now)
