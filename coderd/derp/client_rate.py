"""The rate that a relay grants each of its clients."""

from typing import Final, NamedTuple

MIN_BURST: Final = 65_568
"""Least bytes of a burst, so that the largest frame fits in it."""


class ClientRate(NamedTuple):
    """Bytes that a client may send per second and at once; back-pressure enforces them."""

    bytes_per_second: int
    burst: int

    @classmethod
    def of(cls, bytes_per_second: int) -> "ClientRate | None":
        """Returns a rate with a burst of half a second's bytes, at least ``MIN_BURST``; None for 0."""
        if bytes_per_second <= 0:
            return None
        return cls(bytes_per_second, max(MIN_BURST, bytes_per_second // 2))
