"""Which pings of one peer have come before: a copy, from wherever it comes, gets no answer.

A disco packet says who sealed it, not when, nor where it was sent from; whoever has seen one on its way can send it again,
with any source. So the ids are remembered, the last of them that came; disco keys live as long as a process, so older copies
than that of an earlier one cannot be opened.
"""

MOST_HEARD = 256
"""Ids kept of one peer: a quarter of an hour of heartbeats."""


class HeardPings:
    """The ids of the last pings. Its owner is the peer's ``Endpoint``."""

    def __init__(self) -> None:
        self._ids: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def is_new(self, tx_id: bytes) -> bool:
        """Whether a ping is no copy; it is known from now on. The oldest makes room."""
        if tx_id in self._ids:
            return False
        self._ids[tx_id] = None
        if len(self._ids) > MOST_HEARD:
            del self._ids[next(iter(self._ids))]
        return True

    def forget(self) -> None:
        """The peer has another key: its old pings cannot be read any more."""
        self._ids.clear()
