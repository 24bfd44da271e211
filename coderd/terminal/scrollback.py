"""The newest output of a shell; the place of a byte is the number of bytes written before it. Pure."""

SCROLLBACK = 256 * 1024
"""Bytes of output that are kept for a client that reconnects."""


class Scrollback:
    """The last ``limit`` bytes of output. ``start`` is the place of the first, ``end`` behind the last."""

    def __init__(self, limit: int = SCROLLBACK) -> None:
        self.end = 0
        self._limit = limit
        self._kept = bytearray()

    @property
    def start(self) -> int:
        """Place of the oldest byte that is kept."""
        return self.end - len(self._kept)

    def append(self, data: bytes) -> None:
        """Appends new output, and drops the oldest beyond the limit."""
        self._kept += data
        self.end += len(data)
        if (excess := len(self._kept) - self._limit) > 0:
            del self._kept[:excess]

    def clamp(self, place: int) -> int:
        """Returns the nearest place that can be read from."""
        return min(max(place, self.start), self.end)

    def read(self, place: int, n: int) -> bytes:
        """Returns at most ``n`` bytes from a place on, which must be one that can be read from."""
        offset = place - self.start
        return bytes(self._kept[offset : offset + n])
