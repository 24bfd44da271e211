"""Rate limits on unknown tokens: per address, per IPv6 /48, and overall. Pure; ``now`` is passed in.

Guessing 256 bits is hopeless; the limits spare the store a lookup per guess, and make guessing visible in the
log. Only failures count. An address that has used up its own limit is refused; when the overall limit is used
up, addresses without recent failures are still served.

``model.origins`` defines how addresses are counted. While one /64 of a /48 guesses, the /48's other clients
are refused unless the server has seen their token since it started.
"""

from typing import Final

from coderd.model import limits
from coderd.model.origins import Origin, OriginBuckets
from coderd.model.token_bucket import Rate

BURST: Final = limits.ATTEMPTS_BURST
"""Failures that one address may have at once."""
RATE: Final = limits.ATTEMPTS_RATE
"""Failures per second that one address may have in the long run."""
SITE_BURST: Final = limits.SITE_ATTEMPTS_BURST
"""Failures that one site may have at once, whichever of its networks they come from."""
SITE_RATE: Final = limits.SITE_ATTEMPTS_RATE
GLOBAL_BURST: Final = limits.ALL_ATTEMPTS_BURST
GLOBAL_RATE: Final = limits.ALL_ATTEMPTS_RATE
MAX_ADDRESSES: Final = limits.MAX_ATTEMPT_ADDRESSES
"""Addresses that are remembered, and as many sites; the one that has been quiet for longest goes first."""


class Attempts:
    """Failed attempts to use a token, counted by address, by site and in all."""

    def __init__(self) -> None:
        self._everybody = Rate(GLOBAL_BURST, GLOBAL_RATE).full_bucket()
        self._origins = OriginBuckets(Rate(BURST, RATE), Rate(SITE_BURST, SITE_RATE), MAX_ADDRESSES)

    def allows(self, origin: Origin, now: float) -> bool:
        """Returns whether another token from this origin may be looked up."""
        if self._everybody.level(now) < 1 and not self._origins.is_untouched(origin, now):
            return False
        return self._origins.allows(origin, now)

    def fail(self, origin: Origin, now: float) -> bool:
        """Counts an unknown token; returns whether it was the last one allowed from this origin for now."""
        self._everybody.drain(1, now)
        self._origins.take(origin, now)
        return not self._origins.allows(origin, now)
