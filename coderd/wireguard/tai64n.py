"""TAI64N timestamps of initiations: 12 bytes that a peer compares, and that must rise from one to the next.

```
 0  8  2^62 + 10 + unix seconds, big-endian
 8  4  nanoseconds, big-endian, the low 24 bits cleared (steps of 16.8 ms hide the sender's timing)
```
A peer that has seen a timestamp refuses every smaller one, so a clock that steps back would lock us out until it
catches up. ``TimestampClock`` therefore never repeats or goes back; kept in a file and given back at the next start,
its mark makes that hold across restarts.
"""

import struct

SIZE = 12
_BASE = (1 << 62) + 10
_STEP = 1 << 24
_TAI64N = struct.Struct(">QI")


def encode_tai64n(unix_seconds: int, nanoseconds: int) -> bytes:
    """The whitened timestamp of an instant."""
    return _TAI64N.pack(_BASE + unix_seconds, nanoseconds & ~(_STEP - 1))


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
        nanoseconds = max(0, round(unix_now * 1_000_000_000))
        timestamp = encode_tai64n(*divmod(nanoseconds, 1_000_000_000))
        if self.last is not None and timestamp <= self.last:
            timestamp = _next_step(self.last)
        self.last = timestamp
        return timestamp


def _next_step(timestamp: bytes) -> bytes:
    seconds, nanoseconds = _TAI64N.unpack(timestamp)
    nanoseconds = (nanoseconds & ~(_STEP - 1)) + _STEP
    if nanoseconds >= 1_000_000_000:
        return _TAI64N.pack(seconds + 1, 0)
    return _TAI64N.pack(seconds, nanoseconds)
