"""Sealed tokens that the server issues and verifies later without storing them.

Payloads under an HMAC, a key for each purpose. Pure.

    base64url( expires_at (8, big-endian) | payload | HMAC-SHA256 over the context's size (2), the context and
    both before (32) )

Not itsdangerous: it knows an issuing time and not an expiry, one secret and salts joined to it as text, and
no context that is not in the token; and resume tokens, which nodes keep over an upgrade, have a form of their
own (``coordination.resume``).
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import NamedTuple

_MAC_SIZE = 32
_TIME_SIZE = 8


class Opened(NamedTuple):
    """What was sealed.

    Attributes:
        payload: as it was given.
        expires_at: wall-clock seconds.
    """

    payload: bytes
    expires_at: int


class Seal:
    """Makes and checks HMACs for one purpose.

    The secret itself is never a key: each purpose has a key of its own, BLAKE2b over the secret with the
    purpose as personalisation (RFC 7693, section 2.5, and the BLAKE2 paper, section 2.8), so that nothing
    made for one passes for another.

    Args:
        secret: 32 random bytes.
        purpose: at most 16 bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, secret: bytes, purpose: bytes) -> None:
        self._key = hashlib.blake2b(secret, person=purpose).digest()

    def mac(self, data: bytes) -> bytes:
        """Returns the HMAC-SHA256 of some data: 32 bytes."""
        return hmac.digest(self._key, data, hashlib.sha256)

    def is_mac(self, mac: bytes, data: bytes) -> bool:
        """Returns whether ``mac`` is the data's MAC or the first bytes of it.

        Compares in constant time.
        """
        return hmac.compare_digest(mac, self.mac(data)[: len(mac)])

    def seal(self, payload: bytes, context: bytes, expires_at: int) -> str:
        """Returns a text that ``open`` takes for this context until ``expires_at``, wall-clock seconds."""
        head = expires_at.to_bytes(_TIME_SIZE, "big") + payload
        return urlsafe_b64encode(head + self.mac(_framed(context) + head)).decode()

    def open(self, text: str, context: bytes, payload_size: int, unix_now: float) -> Opened | None:
        """Returns what was sealed; None for any other text, another context's, and one that has expired."""
        return _open(
            text, payload_size, unix_now, lambda mac, head: self.is_mac(mac, _framed(context) + head)
        )


def open_released(
    secret: bytes, label: bytes, text: str, payload_size: int, unix_now: float
) -> Opened | None:
    """Returns what release 0.1.0 sealed with the secret itself as key; None for other and for expired text.

    Used for the cookies of web apps (``browser.passes``), which expire after twelve hours: an upgrade from
    0.1.0 signs no one out. The first release after 0.1.0 has this function, and the second removes it.

    Args:
        secret: the server's secret, which keyed the HMAC.
        label: what 0.1.0 put before the sealed bytes: the purpose and the context.
        text: as the client shows it.
        payload_size: in bytes.
        unix_now: wall-clock seconds.
    """

    def is_mac(mac: bytes, head: bytes) -> bool:
        return hmac.compare_digest(mac, hmac.digest(secret, label + head, hashlib.sha256))

    return _open(text, payload_size, unix_now, is_mac)


def _open(
    text: str, payload_size: int, unix_now: float, is_mac: Callable[[bytes, bytes], bool]
) -> Opened | None:
    raw = _decode(text)
    if len(raw) != _TIME_SIZE + payload_size + _MAC_SIZE:
        return None
    head, mac = raw[:-_MAC_SIZE], raw[-_MAC_SIZE:]
    expires_at = int.from_bytes(head[:_TIME_SIZE], "big")
    if not is_mac(mac, head) or unix_now >= expires_at:
        return None
    return Opened(head[_TIME_SIZE:], expires_at)


def _framed(context: bytes) -> bytes:
    return len(context).to_bytes(2, "big") + context


def _decode(text: str) -> bytes:
    """Returns the bytes of base64url text, none where it is not that."""
    try:
        return urlsafe_b64decode(text) if text.isascii() else b""
    except ValueError:
        return b""
