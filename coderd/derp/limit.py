"""The rate that a relay grants each of its clients."""

from typing import Final, NamedTuple

MIN_BURST: Final = 65_568
"""Bytes: the largest frame has to fit."""


class ClientRate(NamedTuple):
    """What one client may send. A relay tells it in ServerInfo, and stops reading from whoever sends more."""

    bytes_per_second: int
    burst: int

    @classmethod
    def of(cls, bytes_per_second: int) -> "ClientRate | None":
        """With half a second's worth at once; None for 0, which is no limit."""
        if bytes_per_second <= 0:
            return None
        return cls(bytes_per_second, max(MIN_BURST, bytes_per_second // 2))
