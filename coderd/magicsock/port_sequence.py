"""Whether this node's NAT hands out its ports in sequence, by what flows that are new to it showed.

A NAT whose mapping depends on the destination gives every new flow a port of its own. Many simply count. So a
spare socket begins flows in a row, all at once, the peer's addresses between two STUN servers:

```
server one    peer's address 1    ...    peer's address n    server two
    p              p + s          ...        p + n s         p + (n + 1) s
```
The servers say the first port and the last; those between follow. Nothing is guessed ahead of time, so it
does not matter how long ago the NAT was last asked, nor what else passes it, unless that falls into the row.
"""

from enum import StrEnum

MOST_PREDICTED = 8
"""Ports offered to a peer: a row that is longer, because others fell into it, is no use."""
LARGEST_STEP = 512
"""Steps are 1 or 2, or 256 where the NAT counts in the other byte order.

A random pair of ports rarely passes for that.
"""
TRIES = 3
"""Rows that show no sequence, one after the other, that make it random."""
RANDOM_FOR = 60.0
"""Seconds for which that is believed."""

_PORTS = 65536


class PortOrder(StrEnum):
    """How a NAT that gives each flow a port of its own chooses them."""

    UNKNOWN = "unknown"
    """Not tried: the NAT is no such one, or no peer needed it."""
    SEQUENTIAL = "sequential"
    RANDOM = "random"


class PortSequence:
    """Step from one new flow's port to the next one's, once known, and how often none was seen."""

    def __init__(self) -> None:
        self.step: int | None = None
        """From one new flow's port to the next one's."""
        self._n_refuted = 0
        self._refuted_at = 0.0

    def predict(self, first: int, last: int, n_between: int, now: float) -> tuple[int, ...]:
        """Predicts the ports of the flows begun between two that were seen; empty if no sequence shows.

        Args:
            first: the port of the flow before them.
            last: the port of the flow after them.
            n_between: how many there are, at least; others' flows may have fallen among them.
            now: when that was.
        """
        gap = (last - first + _PORTS // 2) % _PORTS - _PORTS // 2
        n_steps = self._n_steps(gap, n_between + 1)
        if n_steps is None:
            self._refute(now)
            return ()
        self.step, self._n_refuted = gap // n_steps, 0
        ports = ((first + i * self.step) % _PORTS for i in range(1, n_steps))
        return tuple(port for port in ports if port)

    def order(self, now: float) -> PortOrder:
        """Returns what is known of the order."""
        if self.is_random(now):
            return PortOrder.RANDOM
        return PortOrder.UNKNOWN if self.step is None else PortOrder.SEQUENTIAL

    def is_random(self, now: float) -> bool:
        """Returns whether ports were seen to be random, so that trying again is useless for now."""
        return self._n_refuted >= TRIES and now - self._refuted_at < RANDOM_FOR

    def forget(self) -> None:
        """Forgets the sequence: the network changed, hence the NAT."""
        self.step, self._n_refuted = None, 0

    def _n_steps(self, gap: int, least: int) -> int | None:
        """Returns how many steps a gap is.

        As many as we made, else some more of a size that was seen before.
        """
        if gap and gap % least == 0 and abs(gap // least) <= LARGEST_STEP:
            return least
        if self.step and gap % self.step == 0 and least < gap // self.step <= MOST_PREDICTED + 1:
            return gap // self.step
        return None

    def _refute(self, now: float) -> None:
        self._n_refuted = 1 if now - self._refuted_at >= RANDOM_FOR else self._n_refuted + 1
        self._refuted_at = now
