"""TAI64N timestamps of initiations: 12 bytes, which must increase from one to the next. WireGuard paper §5.1.

```
 0  8  2^62 + 10 + unix seconds, big-endian
 8  4  nanoseconds, big-endian, the low 24 bits cleared (steps of 16.8 ms hide the sender's timing)
```
A peer refuses a timestamp that is not greater than the last one accepted, so after a clock has stepped back
no handshake would succeed until it catches up. ``TimestampClock`` therefore only increases. For this to hold
across restarts and crashes, the caller keeps a *mark* in a file: a timestamp greater than all given so far,
which is the floor after a restart. A new mark is an hour ahead, so that the file is written about twice an
hour, not at every handshake.
"""

import struct

SIZE = 12
MARK_AHEAD = 3600
"""Seconds by which a new mark is ahead of the last timestamp."""
MARK_RESERVE = 1800
"""Seconds: a mark less than this ahead of the last timestamp is replaced, well before it is passed."""

_BASE = (1 << 62) + 10
_STEP = 1 << 24
_TAI64N = struct.Struct(">QI")


def encode_tai64n(unix_seconds: int, nanoseconds: int) -> bytes:
    """Encodes a Unix time as TAI64N, with the low 24 bits of the nanoseconds cleared."""
    return _TAI64N.pack(_BASE + unix_seconds, nanoseconds & ~(_STEP - 1))


def stamp_of(unix_now: float) -> bytes:
    """Encodes a Unix time in seconds as TAI64N in steps of 16.8 ms; a time before 1970 counts as 1970."""
    return encode_tai64n(*divmod(max(0, round(unix_now * 1_000_000_000)), 1_000_000_000))


def next_mark(mark: bytes | None, last: bytes) -> bytes | None:
    """Returns the mark to store in place of the stored one, an hour after ``last``.

    Args:
        mark: the stored one; None for none.
        last: the greatest timestamp so far.

    Returns: None while the stored mark is at least half an hour after ``last``.
    """
    if mark is not None and _later(last, MARK_RESERVE) <= mark:
        return None
    return _later(last, MARK_AHEAD)


def parse_mark(text: str) -> bytes:
    """Parses a mark of 24 hex digits; raises ValueError for another size or no TAI64N time from 1970 on."""
    mark = bytes.fromhex(text)
    if len(mark) != SIZE or mark[0] & 0xC0 != 0x40:
        raise ValueError(f"a TAI64N mark has {SIZE} bytes and is a time after 1970")
    return mark


class TimestampClock:
    """Source of strictly increasing timestamps.

    Args:
        floor: the mark stored before a restart, None for none; every timestamp given is greater.
    """

    def __init__(self, floor: bytes | None = None) -> None:
        if floor is not None and len(floor) != SIZE:
            raise ValueError(f"a TAI64N mark has {SIZE} bytes, not {len(floor)}")
        self.last = floor

    def stamp(self, unix_now: float) -> bytes:
        """Returns the timestamp of ``unix_now``, or one step (16.8 ms) past the last one if that is later."""
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
