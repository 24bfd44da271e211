"""Handshakes per source under load: a token bucket for each address, 20 a second, a burst of 5."""

_COST = 50_000_000
"""Nanoseconds that one handshake costs: 20 a second."""
_CAPACITY = 5 * _COST
_IDLE = 1_000_000_000
"""A bucket left alone this long is full and need not be kept."""
_MAX_SOURCES = 8192
"""Buckets kept; past it a new source is refused, as that many addresses at once are an attack."""


class HandshakeLimiter:
    """Who may hand in one more handshake. Time is in nanoseconds, so that the arithmetic is exact."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, tuple[int, int]] = {}
        """Source to (time of the last packet, tokens left then), least recently seen first."""

    def allow(self, source: bytes, now_ns: int) -> bool:
        """Whether a source, already proven by a cookie, is within its rate."""
        self._forget_idle(now_ns)
        bucket = self._buckets.pop(source, None)
        if bucket is None:
            if len(self._buckets) >= _MAX_SOURCES:
                return False
            self._buckets[source] = (now_ns, _CAPACITY - _COST)
            return True
        last, tokens = bucket
        tokens = min(_CAPACITY, tokens + now_ns - last)
        is_allowed = tokens > _COST
        self._buckets[source] = (now_ns, tokens - _COST if is_allowed else tokens)
        return is_allowed

    def __len__(self) -> int:
        return len(self._buckets)

    def _forget_idle(self, now_ns: int) -> None:
        while self._buckets:
            source, (last, _) = next(iter(self._buckets.items()))
            if now_ns - last <= _IDLE:
                return
            del self._buckets[source]


_MAPPED = bytes(10) + b"\xff\xff"


def limiter_key(address: bytes) -> bytes:
    """What counts as one source: an IPv4 address, an IPv6 /64, a relayed sender's key; ports do not count.

    An IPv4 address may come in IPv6's form, ``::ffff:a.b.c.d``, whose first half is the same for all of them.
    """
    if len(address) == 4 + 2:
        return address[:4]
    if len(address) == 16 + 2:
        return address[12:16] if address.startswith(_MAPPED) else address[:8]
    return address
