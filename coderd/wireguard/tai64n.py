"""TAI64N timestamps of initiations: 12 bytes that a peer compares, and that must rise from one to the next.

```
 0  8  2^62 + 10 + unix seconds, big-endian
 8  4  nanoseconds, big-endian, the low 24 bits cleared (steps of 16.8 ms hide the sender's timing)
```
A peer that has seen a timestamp refuses every smaller one, so a clock that steps back would lock us out until it
catches up. ``TimestampClock`` therefore never repeats or goes back. That this holds across restarts, and crashes, a *mark* is
kept in a file: a timestamp that no timestamp has passed, given back as the floor of the next life. It runs an hour ahead, so
that the file is written twice an hour and not at every handshake.
"""

import struct

SIZE = 12
MARK_AHEAD = 3600
"""Seconds from the last timestamp to a new mark."""
MARK_RESERVE = 1800
"""Seconds from the last timestamp to the mark at which it is time for a new one: before, not when, it is passed."""

_BASE = (1 << 62) + 10
_STEP = 1 << 24
_TAI64N = struct.Struct(">QI")


def encode_tai64n(unix_seconds: int, nanoseconds: int) -> bytes:
    """The whitened timestamp of an instant."""
    return _TAI64N.pack(_BASE + unix_seconds, nanoseconds & ~(_STEP - 1))


def stamp_of(unix_now: float) -> bytes:
    """The whitened timestamp of now."""
    return encode_tai64n(*divmod(max(0, round(unix_now * 1_000_000_000)), 1_000_000_000))


def next_mark(mark: bytes | None, last: bytes) -> bytes | None:
    """The mark to keep from now on.

    Args:
        mark: the one that is kept; None for none.
        last: the greatest timestamp so far.

    Returns: None while the present one will do.
    """
    if mark is not None and _later(last, MARK_RESERVE) <= mark:
        return None
    return _later(last, MARK_AHEAD)


def parse_mark(text: str) -> bytes:
    """Reads a mark from its hex digits. Raises ValueError for what no clock of ours has ever said."""
    mark = bytes.fromhex(text)
    if len(mark) != SIZE or mark[0] & 0xC0 != 0x40:
        raise ValueError(f"a TAI64N mark has {SIZE} bytes and is a time after 1970")
    return mark


class TimestampClock:
    """Gives timestamps that strictly rise.

    Args:
        floor: the last timestamp of an earlier life, None for none; every timestamp given is greater.
    """

    def __init__(self, floor: bytes | None = None) -> None:
        if floor is not None and len(floor) != SIZE:
            raise ValueError(f"a TAI64N mark has {SIZE} bytes, not {len(floor)}")
        self.last = floor

    def stamp(self, unix_now: float) -> bytes:
        """The timestamp of now, or one step past the last where the wall clock has not moved on."""
        timestamp = stamp_of(unix_now)
        if self.last is not None and timestamp <= self.last:
            timestamp = _next_step(self.last)
        self.last = timestamp
        return timestamp


def _later(timestamp: bytes, seconds: int) -> bytes:
    whole, nanoseconds = _TAI64N.unpack(timestamp)
    return _TAI64N.pack(whole + seconds, nanoseconds)


def _next_step(timestamp: bytes) -> bytes:
    seconds, nanoseconds = _TAI64N.unpack(timestamp)
    nanoseconds = (nanoseconds & ~(_STEP - 1)) + _STEP
    if nanoseconds >= 1_000_000_000:
        return _TAI64N.pack(seconds + 1, 0)
    return _TAI64N.pack(seconds, nanoseconds)
