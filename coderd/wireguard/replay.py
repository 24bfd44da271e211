"""Replay protection by a window of transport counters. WireGuard paper §5.4.6, RFC 6479."""

WINDOW = 8128
"""How far behind the greatest counter one is still accepted: 127 words of 64 bits, as in wireguard-go."""

REJECT_AFTER_MESSAGES = (1 << 64) - (1 << 13) - 1
"""Counter from which on none is sent or accepted. WireGuard paper §6.1, §6.2."""

_MASK = (1 << (WINDOW + 1)) - 1


class ReplayWindow:
    """Window of the counters that a session has accepted; of authenticated packets only."""

    __slots__ = ("_last", "_seen")

    def __init__(self) -> None:
        self._last = 0
        self._seen = 0
        """Bit ``i`` is set if counter ``last - i`` was accepted."""

    def accept(self, counter: int) -> bool:
        """Records a counter and returns whether it is new, below the limit and not behind the window."""
        if counter >= REJECT_AFTER_MESSAGES:
            return False
        ahead = counter - self._last
        if ahead > 0:
            self._seen = ((self._seen << ahead) | 1) & _MASK if ahead <= WINDOW else 1
            self._last = counter
            return True
        if ahead < -WINDOW:
            return False
        bit = 1 << -ahead
        if self._seen & bit:
            return False
        self._seen |= bit
        return True

    def accept_all(self, counters: list[int]) -> list[bool]:
        """Records the counters of a batch, in order, and returns the result of ``accept`` for each.

        Consecutive counters past the greatest are recorded in one step.
        """
        n = len(counters)
        if n and self._last < counters[0] and counters == list(range(counters[0], counters[0] + n)):
            last = counters[-1]
            ahead = last - self._last
            if last < REJECT_AFTER_MESSAGES and ahead <= WINDOW:
                self._seen = ((self._seen << ahead) | ((1 << n) - 1)) & _MASK
                self._last = last
                return [True] * n
        return [self.accept(counter) for counter in counters]
