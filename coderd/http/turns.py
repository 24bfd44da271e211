"""Turns on the event loop: so many events from outside, then everybody else.

One read may bring tens of thousands of events, as tiny as a protocol allows, and each costs the same however small it is. Whoever
works them off without ever waiting holds up all others. So every loop over what a parser makes of received bytes counts its
events here; ``tests/test_received_events.py`` finds such loops in the syntax trees and holds them to it.
"""

from typing import Final

import trio

from coderd.model import limits

MAX_EVENTS: Final = limits.MAX_EVENTS_PER_TURN


class Turn:
    """What one task has worked off since it last let the others run."""

    def __init__(self) -> None:
        self._left = MAX_EVENTS

    async def count(self, n_events: int = 1) -> None:
        """Counts events that were, or are about to be, handled; lets other tasks run after ``MAX_EVENTS``."""
        self._left -= n_events
        if self._left <= 0:
            self._left = MAX_EVENTS
            await trio.lowlevel.checkpoint()
