"""Limits how many received events a task handles before other tasks run.

One read may bring tens of thousands of events, as tiny as a protocol allows, and each costs as much time
however small it is; a task that handles them without a checkpoint keeps all others waiting. Every loop over
the events that a parser makes of received bytes therefore counts them here; ``tests/test_received_events.py``
finds such loops in the syntax trees.
"""

from typing import Final

import trio

from coderd.model import limits

MAX_EVENTS: Final = limits.MAX_EVENTS_PER_TURN


class Turn:
    """Count of the events that a task has handled since its last checkpoint."""

    def __init__(self) -> None:
        self._left = MAX_EVENTS

    async def count(self, n_events: int = 1) -> None:
        """Counts events that were, or will be, handled; does a checkpoint after ``MAX_EVENTS`` of them."""
        self._left -= n_events
        if self._left <= 0:
            self._left = MAX_EVENTS
            await trio.lowlevel.checkpoint()
