"""Every span of WireGuard in one place, and the names of one peer's timers."""

from enum import IntEnum

from coderd.model import RandomBytes

REKEY_AFTER_MESSAGES = 1 << 60
REKEY_AFTER_TIME = 120.0
"""The initiator renews a session of this age when it sends."""
REJECT_AFTER_TIME = 180.0
"""A session of this age carries nothing any more."""
REKEY_TIMEOUT = 5.0
"""No two handshake messages to a peer within this; a lost one is sent again after it."""
REKEY_ATTEMPTS = 18
"""Retries before giving up: 90 s of REKEY_TIMEOUT."""
KEEPALIVE_TIMEOUT = 10.0
LAST_MINUTE_REKEY = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
"""The initiator renews a session of this age when it receives."""
ZERO_KEYS_AFTER = 3 * REJECT_AFTER_TIME
COOKIE_LIFETIME = 120.0
"""How long a cookie is used, and a cookie secret kept."""
INITIATION_INTERVAL = 0.020
"""A peer's initiations closer together than this are a flood."""
BEFORE_START = 6.0
"""The last handshake is taken to be this long ago at start, so that the first one may go out at once."""
_JITTER_MS = 334


def jitter(rng: RandomBytes) -> float:
    """Whole milliseconds below 334, in seconds: keeps two ends from retrying in step."""
    return int.from_bytes(rng(4), "little") % _JITTER_MS / 1000


class Timer(IntEnum):
    """What a peer waits for."""

    RETRANSMIT = 0
    """An initiation found no answer."""
    KEEPALIVE = 1
    """We received data and have sent nothing since: say that we are there."""
    NEW_HANDSHAKE = 2
    """We sent data and have heard nothing since: the session may be dead."""
    ZERO_KEYS = 3
    """Nothing renewed the session: destroy its keys."""
    PERSISTENT_KEEPALIVE = 4
    """Nothing authenticated went either way for the configured time: keep the NAT's mapping open."""
