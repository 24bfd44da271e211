"""The window of transport counters that a session still accepts, each once (RFC 6479, in the protocol's size)."""

WINDOW = 8128
"""Counters up to this far behind the greatest one are accepted: 127 words of 64 bits."""

REJECT_AFTER_MESSAGES = (1 << 64) - (1 << 13) - 1
"""No counter at or above this is ever sent or accepted."""

_MASK = (1 << (WINDOW + 1)) - 1


class ReplayWindow:
    """Which counters have been seen. Only counters of packets that authenticated may be shown to it."""

    __slots__ = ("_last", "_seen")

    def __init__(self) -> None:
        self._last = 0
        self._seen = 0
        """Bit ``i`` is set if counter ``last - i`` was accepted."""

    def accept(self, counter: int) -> bool:
        """Whether a counter is new and in the window; from now on it is not new."""
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
        """``accept`` for each of a batch. Consecutive counters past the greatest cost as much as one."""
        n = len(counters)
        if n and self._last < counters[0] and counters == list(range(counters[0], counters[0] + n)):
            last = counters[-1]
            ahead = last - self._last
            if last < REJECT_AFTER_MESSAGES and ahead <= WINDOW:
                self._seen = ((self._seen << ahead) | ((1 << n) - 1)) & _MASK
                self._last = last
                return [True] * n
        return [self.accept(counter) for counter in counters]
