"""MAC1, MAC2 and cookies: cheap checks of a handshake message before any Diffie-Hellman.

Source: WireGuard paper §5.3.

Under a flood, only senders that receive at the address they send from cost a Diffie-Hellman, and no state is
kept for any other.

MAC1 proves that the sender knows the receiver's public key; a message without a valid MAC1 gets no answer.
MAC2 proves that the sender holds a cookie: a MAC of its address under a secret that the receiver replaces
after 120 s. Under load a message without a valid MAC2 is answered by a cookie reply, which is bound to the
message's MAC1; the sender uses the cookie in its next handshake message.

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
    """MACs of the handshake messages to one peer, with the last cookie received from it."""

    __slots__ = ("_cookie", "_cookie_at", "_cookie_key", "_last_mac1", "_mac1_key")

    def __init__(self, peer: NodePublic) -> None:
        self._mac1_key = hash_of(_LABEL_MAC1 + peer)
        self._cookie_key = hash_of(_LABEL_COOKIE + peer)
        self._last_mac1: bytes | None = None
        self._cookie = b""
        self._cookie_at = -inf

    def stamp(self, message: bytes, now: float) -> bytes:
        """Returns a message with MAC1 and MAC2 appended; MAC2 is zeros without a cookie younger than 120 s.

        WireGuard paper §5.4.4.
        """
        self._last_mac1 = mac(self._mac1_key, message)
        message += self._last_mac1
        if now - self._cookie_at < COOKIE_LIFETIME:
            return message + mac(self._cookie, message)
        return message + _NO_MAC2

    def handle_reply(self, reply: CookieReply, now: float) -> bool:
        """Stores the cookie of a reply to the last stamped message.

        Returns: False, with nothing changed, if no message was stamped or the reply does not decrypt.
        """
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
    """Checker of the MACs of received handshake messages, and creator of cookie replies.

    Args:
        public: the public key of this end, the receiver.
        rng: for the cookie secret and for nonces.
    """

    def __init__(self, public: NodePublic, rng: RandomBytes) -> None:
        self._mac1_key = hash_of(_LABEL_MAC1 + public)
        self._cookie_key = hash_of(_LABEL_COOKIE + public)
        self._rng = rng
        self._secret = b""
        self._secret_at = -inf

    def has_valid_mac1(self, message: bytes) -> bool:
        """Returns whether MAC1 is valid: the sender knows this end's public key."""
        expected = mac(self._mac1_key, message[:-MACS_SIZE])
        return hmac.compare_digest(expected, message[-MACS_SIZE:-MAC_SIZE])

    def has_valid_mac2(self, message: bytes, address: bytes, now: float) -> bool:
        """Returns whether MAC2 is valid under the cookie of ``address``, from a secret at most 120 s old."""
        if now - self._secret_at > COOKIE_LIFETIME:
            return False
        expected = mac(mac(self._secret, address), message[:-MAC_SIZE])
        return hmac.compare_digest(expected, message[-MAC_SIZE:])

    def create_reply(self, message: bytes, address: bytes, now: float) -> bytes:
        """Creates a cookie reply, 64 bytes, to a message from ``address``.

        A secret older than 120 s is replaced first.

        WireGuard paper §5.4.7. The message's MAC1 must be valid.
        """
        if now - self._secret_at > COOKIE_LIFETIME:
            self._secret = self._rng(32)
            self._secret_at = now
        nonce = self._rng(_NONCE_SIZE)
        mac1 = message[-MACS_SIZE:-MAC_SIZE]
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(
            mac(self._secret, address), mac1, nonce, self._cookie_key
        )
        return CookieReply(int.from_bytes(message[4:8], "little"), nonce, sealed).encode()
