"""Rate limit of STUN responses that are larger than their requests. Pure; ``now`` is passed in.

A request's source address may be forged, and its response is then sent to a third party. A response that is
no larger than its request gives an attacker no amplification: the usual request of 40 bytes is answered with
32 bytes, or 44 over IPv6. Larger are responses to requests without padding, as other software sends them
(20 bytes: 32 or 44), and to requests for behavior discovery (RFC 5780). These are rare, so each source
(IPv6: one /64) gets few of them, and all sources together at most a thousand per second.
"""

from ipaddress import IPv6Address
from typing import Final

from coderd.model import limits
from coderd.model.token_bucket import BucketTable, Rate, TokenBucket

RATE: Final = limits.STUN_LARGER_RATE
BURST: Final = limits.STUN_LARGER_BURST
ALL_RATE: Final = limits.STUN_ALL_LARGER_RATE
ALL_BURST: Final = limits.STUN_ALL_LARGER_BURST
MAX_SOURCES: Final = limits.MAX_STUN_SOURCES

_SLACK = 4
"""Bytes by which an answer may be larger all the same: an IPv6 address in the answer to the usual request."""


class Allowance:
    """What each source may still have."""

    def __init__(self) -> None:
        self._sources = BucketTable[str](Rate(BURST, RATE), MAX_SOURCES)
        self._everybody = TokenBucket(ALL_RATE, ALL_BURST)

    def __len__(self) -> int:
        return len(self._sources)

    def admits(self, source: str, n_asked: int, n_answered: int, now: float) -> bool:
        """Returns whether an answer may leave, and counts it if it is larger than the question.

        Args:
            source: the IP address that it goes to.
            n_asked: bytes of the question.
            n_answered: bytes of the answer.
            now: the instant.
        """
        if n_answered <= n_asked + _SLACK:
            return True
        bucket = self._sources.use(_network(source))
        return bucket.level(now) >= 1 and self._everybody.take(1, now) and bucket.take(1, now)


def _network(source: str) -> str:
    """An IPv4 address, written as IPv6 or not; of IPv6 its /64."""
    text = source.partition("%")[0]
    if ":" not in text:
        return text
    address = IPv6Address(text)
    return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
