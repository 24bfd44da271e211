"""How often each peer may do something: a burst at once, a rate after that. Pure."""

from coderd.model.keys import NodePublic

_MANY = 4096
"""Peers after which those that have done nothing for long are forgotten."""


class Allowance:
    """A bucket for each peer, full where nothing is known.

    Args:
        rate: times a second.
        burst: times at once.
    """

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._spent: dict[NodePublic, tuple[float, float]] = {}
        """What each peer has spent, and when that was so."""

    def take(self, peer: NodePublic, now: float) -> bool:
        """Whether a peer may once more, which then counts."""
        spent, at = self._spent.get(peer, (0.0, now))
        spent = max(0.0, spent - (now - at) * self._rate)
        if spent + 1 > self._burst:
            return False
        if len(self._spent) >= _MANY:
            self._forget(now)
        self._spent[peer] = (spent + 1, now)
        return True

    def _forget(self, now: float) -> None:
        self._spent = {
            peer: (spent, at) for peer, (spent, at) in self._spent.items() if spent > (now - at) * self._rate
        }
