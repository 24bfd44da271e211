"""What a node shows of itself, changed at most so often: of several states in between the newest counts."""

import math
from typing import Final

from msgspec.structs import replace

from coderd.coordination.message import PeerEntry
from coderd.model import limits
from coderd.model.deadline import Deadline

INTERVAL: Final = limits.PUBLICATION_INTERVAL
BURST: Final = limits.PUBLICATION_BURST


class Publication:
    """One node's entry, as others are shown it, and the newer one that waits for its turn.

    Each change wakes every partner of the node, so what a node may cause is limited here, by the node and
    over all of its connections: ``BURST`` changes at once, then one every ``INTERVAL`` seconds. The last
    state is always shown in the end. The count is the generic cell rate algorithm (ITU-T I.371): one instant
    instead of a level and the time of its filling.
    """

    def __init__(self) -> None:
        self.entry: PeerEntry | None = None
        """What others are shown; None until the present connection has said where the node can be reached."""
        self._next: PeerEntry | None = None
        self._due_at = -math.inf
        """When the next change would be shown if changes had come at the long-run rate."""

    def offer(self, entry: PeerEntry, now: float) -> bool:
        """Takes the node's newest state.

        Returns whether it is shown now, else ``release`` shows it at ``deadline``.
        """
        self._next = None if entry == self.entry else entry
        return self.release(now)

    def release(self, now: float) -> bool:
        """Shows the state that waits, if there is one and its turn has come; returns whether it did."""
        if self._next is None or now < self._free_at:
            return False
        self.entry, self._next = self._next, None
        self._due_at = max(now, self._due_at) + INTERVAL
        return True

    def rename(self, name: str) -> None:
        """Changes the name in what is shown and in what waits."""
        if self.entry is not None:
            self.entry = replace(self.entry, name=name)
        if self._next is not None:
            self._next = replace(self._next, name=name)

    def clear(self) -> None:
        """Hides the node, and drops what waits: a new connection begins, and says itself where it is."""
        self.entry = self._next = None

    @property
    def deadline(self) -> Deadline | None:
        """When the state that waits is shown, None where none waits."""
        return None if self._next is None else Deadline(self._free_at, "publication")

    @property
    def _free_at(self) -> float:
        return self._due_at - (BURST - 1) * INTERVAL
