"""WireGuard's constants of time in one place, and the names of one peer's timers.

Sections (§) are those of J. Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel".
"""

from enum import IntEnum

from coderd.model import RandomBytes

REKEY_AFTER_MESSAGES = 1 << 60
"""Messages after which the initiator renews a session. §6.1, §6.2."""
REKEY_AFTER_TIME = 120.0
"""Seconds of age from which the initiator renews a session when it sends. §6.1, §6.2."""
REJECT_AFTER_TIME = 180.0
"""Seconds of age from which a session neither sends nor receives. §6.1, §6.2."""
REKEY_TIMEOUT = 5.0
"""Seconds, at least, between two initiations to a peer; one without an answer is sent again after them. §6.1, §6.4."""
REKEY_ATTEMPTS = 18
"""Retries before giving up: Rekey-Attempt-Time, 90 s, in units of REKEY_TIMEOUT. §6.1, §6.4."""
KEEPALIVE_TIMEOUT = 10.0
"""Seconds after data came in, with nothing sent since, for which a passive keepalive waits. §6.1, §6.5."""
LAST_MINUTE_REKEY = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
"""Seconds of age from which the initiator renews a session when it receives. §6.2."""
ZERO_KEYS_AFTER = 3 * REJECT_AFTER_TIME
"""Seconds without a new session after which all ephemeral keys are destroyed. §6.3."""
COOKIE_LIFETIME = 120.0
"""Seconds for which a cookie is used, and a cookie secret kept. §5.3, §5.4.7."""
INITIATION_INTERVAL = 0.020
"""Seconds: a peer's initiations closer together are a flood. As in the reference, 50 a second."""
BEFORE_START = 6.0
"""Seconds that the last handshake is taken to be ago at start, so that the first may go out at once."""
_JITTER_MS = 334


def jitter(rng: RandomBytes) -> float:
    """Returns whole milliseconds below 334, in seconds: keeps two ends from retrying in step. §6.1."""
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
