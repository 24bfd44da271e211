"""Rate limit of handshakes under load: a token bucket per source address, 20 a second with a burst of 5."""

_COST = 50_000_000
"""Cost of one handshake in nanoseconds of refill: 20 a second."""
_CAPACITY = 5 * _COST
_IDLE = 1_000_000_000
"""Nanoseconds after which an unused bucket, long full, is forgotten."""
_MAX_SOURCES = 8192
"""Most buckets; beyond it a new source is refused, as that many addresses at once are an attack."""


class HandshakeLimiter:
    """Token buckets of handshake sources. Times are in nanoseconds, so that the arithmetic is exact."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, tuple[int, int]] = {}
        """Time of the last packet and tokens left then, by source, least recently seen first."""

    def allow(self, source: bytes, now_ns: int) -> bool:
        """Returns whether a source may begin one more handshake, and takes a token if so.

        The source's address is to be proven by a cookie first, or a forged one would use up its tokens.
        """
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
    """Returns a source's bucket key: its IPv4 address, IPv6 /64 or, if relayed, node key; no port.

    An IPv4-mapped address, ``::ffff:a.b.c.d``, counts as its IPv4 address: all of them share one /64.
    """
    if len(address) == 4 + 2:
        return address[:4]
    if len(address) == 16 + 2:
        return address[12:16] if address.startswith(_MAPPED) else address[:8]
    return address
