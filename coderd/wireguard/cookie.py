"""MAC1, MAC2 and cookies: what a handshake message pays before it may cost us a Diffie-Hellman.

Goal: under a flood, work only for senders who can receive at the address they send from, without remembering any.

MAC1 proves that the sender knows whom it writes to (the receiver's public key); without it we are silent.
MAC2 proves that it holds a cookie of ours: a MAC of its address under a secret of ours that lives 120 s. Under load,
who has none gets one in a cookie reply, sealed so that only the sender of that very message can read it, and uses it
in its next attempt.

```
 MAC1   = MAC(HASH("mac1----" | receiver's public key), message up to MAC1)
 MAC2   = MAC(cookie, message up to MAC2), or zeros
 cookie = MAC(secret, address)
 reply  = XAEAD(HASH("cookie--" | replier's public key), random nonce, cookie, aad = the message's MAC1)
```
"""

import hmac
from math import inf

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from coderd.model import RandomBytes
from coderd.model.keys import NodePublic
from coderd.wireguard.message import MAC_SIZE, MACS_SIZE, CookieReply
from coderd.wireguard.noise import hash_of, mac
from coderd.wireguard.timers import COOKIE_LIFETIME

_LABEL_MAC1 = b"mac1----"
_LABEL_COOKIE = b"cookie--"
_NO_MAC2 = bytes(MAC_SIZE)
_NONCE_SIZE = 24


class MacStamp:
    """What we put under messages to one peer, with the cookie it last gave us."""

    __slots__ = ("_cookie", "_cookie_at", "_cookie_key", "_last_mac1", "_mac1_key")

    def __init__(self, peer: NodePublic) -> None:
        self._mac1_key = hash_of(_LABEL_MAC1 + peer)
        self._cookie_key = hash_of(_LABEL_COOKIE + peer)
        self._last_mac1: bytes | None = None
        self._cookie = b""
        self._cookie_at = -inf

    def stamp(self, message: bytes, now: float) -> bytes:
        """A message with both its MACs."""
        self._last_mac1 = mac(self._mac1_key, message)
        message += self._last_mac1
        if now - self._cookie_at < COOKIE_LIFETIME:
            return message + mac(self._cookie, message)
        return message + _NO_MAC2

    def handle_reply(self, reply: CookieReply, now: float) -> bool:
        """Takes a cookie for the message stamped last; False, and nothing changed, if it is not for that."""
        if self._last_mac1 is None:
            return False
        try:
            cookie = crypto_aead_xchacha20poly1305_ietf_decrypt(
                reply.encrypted_cookie, self._last_mac1, reply.nonce, self._cookie_key
            )
        except CryptoError:
            return False
        self._cookie = cookie
        self._cookie_at = now
        return True


class CookieChecker:
    """What we ask of handshake messages to us.

    Args:
        public: our public key.
        rng: for the secret and for nonces.
    """

    def __init__(self, public: NodePublic, rng: RandomBytes) -> None:
        self._mac1_key = hash_of(_LABEL_MAC1 + public)
        self._cookie_key = hash_of(_LABEL_COOKIE + public)
        self._rng = rng
        self._secret = b""
        self._secret_at = -inf

    def has_valid_mac1(self, message: bytes) -> bool:
        """Whether the sender knows our public key."""
        expected = mac(self._mac1_key, message[:-MACS_SIZE])
        return hmac.compare_digest(expected, message[-MACS_SIZE:-MAC_SIZE])

    def has_valid_mac2(self, message: bytes, address: bytes, now: float) -> bool:
        """Whether the sender holds a cookie that we gave to its address."""
        if now - self._secret_at > COOKIE_LIFETIME:
            return False
        expected = mac(mac(self._secret, address), message[:-MAC_SIZE])
        return hmac.compare_digest(expected, message[-MAC_SIZE:])

    def create_reply(self, message: bytes, address: bytes, now: float) -> bytes:
        """A cookie for the sender of a message with a valid MAC1, bound to its address."""
        if now - self._secret_at > COOKIE_LIFETIME:
            self._secret = self._rng(32)
            self._secret_at = now
        nonce = self._rng(_NONCE_SIZE)
        mac1 = message[-MACS_SIZE:-MAC_SIZE]
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(
            mac(self._secret, address), mac1, nonce, self._cookie_key
        )
        return CookieReply(int.from_bytes(message[4:8], "little"), nonce, sealed).encode()
