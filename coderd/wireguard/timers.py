"""WireGuard's constants of time, and the names of one peer's timers.

The WireGuard paper is J. Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel".
"""

from enum import IntEnum

from coderd.model import RandomBytes

REKEY_AFTER_MESSAGES = 1 << 60
"""Messages sent on a session after which either end initiates a new one. WireGuard paper §6.1, §6.2."""
REKEY_AFTER_TIME = 120.0
"""Seconds of age past which a session's initiator begins a new one on sending. WireGuard paper §6.1, §6.2."""
REJECT_AFTER_TIME = 180.0
"""Seconds of age at which a session stops sending and receiving. WireGuard paper §6.1, §6.2."""
REKEY_TIMEOUT = 5.0
"""Seconds after which an unanswered initiation is replaced by a new one, and least seconds from a handshake
message to the next initiation to a peer. WireGuard paper §6.1, §6.4."""
REKEY_ATTEMPTS = 18
"""Count of retries that must be exceeded to give up, so that 20 initiations are sent in all, as by
wireguard-go: Rekey-Attempt-Time, 90 s, over REKEY_TIMEOUT. WireGuard paper §6.1, §6.4."""
KEEPALIVE_TIMEOUT = 10.0
"""Seconds from data received to a passive keepalive, if nothing is sent. WireGuard paper §6.1, §6.5."""
LAST_MINUTE_REKEY = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
"""Seconds of age past which a session's initiator begins a new one on receiving. WireGuard paper §6.2."""
ZERO_KEYS_AFTER = 3 * REJECT_AFTER_TIME
"""Seconds without a new session after which all sessions and ephemeral keys are destroyed. WireGuard paper
§6.3."""
COOKIE_LIFETIME = 120.0
"""Seconds for which a received cookie is used, and a cookie secret kept. WireGuard paper §5.4.4, §5.4.7."""
INITIATION_INTERVAL = 0.020
"""Seconds: an initiation this soon after a peer's last accepted one is dropped, as by wireguard-go."""
BEFORE_START = 6.0
"""Assumed age in seconds of the last handshake message at start: past REKEY_TIMEOUT, so that the first
initiation is allowed at once."""
_JITTER_MS = 334


def jitter(rng: RandomBytes) -> float:
    """Returns 0 to 0.333 s at random, so that two ends do not initiate at the same time again and again.

    WireGuard paper §6.1 has the jitter, without its size.
    """
    return int.from_bytes(rng(4), "little") % _JITTER_MS / 1000


class Timer(IntEnum):
    """Timers of one peer."""

    RETRANSMIT = 0
    """Runs from an initiation until its response: a new initiation is due. WireGuard paper §6.4."""
    KEEPALIVE = 1
    """Runs from data received until anything is sent: a passive keepalive is due. WireGuard paper §6.5."""
    NEW_HANDSHAKE = 2
    """Runs from data sent until anything authenticated is received: a new handshake is due. WireGuard paper
    §6.5."""
    ZERO_KEYS = 3
    """Runs from each new session: when it fires, all sessions are destroyed. WireGuard paper §6.3."""
    PERSISTENT_KEEPALIVE = 4
    """Runs from each packet sent or authenticated, for the configured seconds: a keepalive, for the NAT's
    mapping."""
