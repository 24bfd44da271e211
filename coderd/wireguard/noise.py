"""The handshake, Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, as steps without state or randomness of their own.

```
 initiator                                                 responder
 create_initiation -> (message, pending)    ------->       open_static      whose is it?
                                                           open_timestamp   is it new?
 finish(pending, response) -> keys          <-------       create_response -> (message, keys)
```
The responder learns the initiator's static key halfway, looks up who that is, and goes on with what it knows of that
peer; nothing is committed before the last tag has verified. Every function that reads a message raises ``HandshakeRejected``
alone. MACs belong to ``cookie``. Private values never show in a repr.
"""

import hmac
from hashlib import blake2s
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, NodePublic
from coderd.wireguard.message import Initiation, Response

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
NO_PRESHARED_KEY = bytes(32)
_NONCE = bytes(12)
"""Every handshake key seals one message, under counter 0."""


class HandshakeRejected(MalformedPacket):
    """A handshake message that does not verify: a tag, or a point of low order."""


def hash_of(data: bytes) -> bytes:
    """BLAKE2s-256."""
    return blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s of 16 bytes (not a longer one cut short)."""
    return blake2s(data, digest_size=16, key=key).digest()


def hmac_of(key: bytes, data: bytes) -> bytes:
    """HMAC over BLAKE2s-256 (not keyed BLAKE2s)."""
    return hmac.digest(key, data, "blake2s256")


def kdf(key: bytes, data: bytes, n: int) -> list[bytes]:
    """The first ``n`` outputs of HKDF over ``hmac_of``."""
    secret = hmac_of(key, data)
    outputs = [hmac_of(secret, b"\x01")]
    for number in range(2, n + 1):
        outputs.append(hmac_of(secret, outputs[-1] + bytes([number])))
    return outputs


INITIAL_CHAINING_KEY = hash_of(CONSTRUCTION)
INITIAL_HASH = hash_of(INITIAL_CHAINING_KEY + IDENTIFIER)


def diffie_hellman(private: X25519PrivateKey, public: bytes) -> bytes:
    """X25519; raises HandshakeRejected if the result is all zero, as from a point of low order."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise HandshakeRejected("a Diffie-Hellman result is all zero") from None


class Identity:
    """Our static key, ready for use."""

    __slots__ = ("_key", "private", "public")

    def __init__(self, private: NodePrivate) -> None:
        self.private = private
        self.public = private.public()
        self._key = X25519PrivateKey.from_private_bytes(private.raw)

    def exchange(self, public: bytes) -> bytes:
        """Diffie-Hellman of our static key; raises HandshakeRejected if the result is all zero."""
        return diffie_hellman(self._key, public)


class Remote(NamedTuple):
    """What we know of a peer before any handshake."""

    public: NodePublic
    static_static: bytes
    """Diffie-Hellman of both static keys, computed once."""
    preshared_key: bytes = NO_PRESHARED_KEY

    def __repr__(self) -> str:
        return f"<Remote {self.public!r}>"


class TransportKeys(NamedTuple):
    """What a handshake yields, from our side."""

    send: bytes
    receive: bytes

    def __repr__(self) -> str:
        return "<TransportKeys redacted>"


class Transcript:
    """A handshake in progress: the chaining key, and the hash of all that was said."""

    __slots__ = ("chaining_key", "hash")

    def __init__(self, chaining_key: bytes = INITIAL_CHAINING_KEY, hash: bytes = INITIAL_HASH) -> None:
        self.chaining_key = chaining_key
        self.hash = hash

    def copy(self) -> "Transcript":
        """An independent copy, for a step that may fail."""
        return Transcript(self.chaining_key, self.hash)

    def mix_hash(self, data: bytes) -> None:
        """Adds what was said to the hash."""
        self.hash = hash_of(self.hash + data)

    def mix_key(self, secret: bytes) -> None:
        """Advances the chaining key by a secret."""
        (self.chaining_key,) = kdf(self.chaining_key, secret, 1)

    def mix_key_and_derive(self, secret: bytes) -> bytes:
        """Advances the chaining key by a secret and returns a key for one message."""
        self.chaining_key, key = kdf(self.chaining_key, secret, 2)
        return key

    def mix_preshared_key(self, preshared_key: bytes) -> bytes:
        """Mixes the preshared key into both halves and returns a key for one message."""
        self.chaining_key, tau, key = kdf(self.chaining_key, preshared_key, 3)
        self.mix_hash(tau)
        return key

    def mix_ephemeral(self, public: bytes) -> None:
        """Mixes an ephemeral public key into both halves."""
        self.mix_key(public)
        self.mix_hash(public)

    def seal(self, key: bytes, plaintext: bytes) -> bytes:
        """Encrypts under everything said so far, and adds the result to it."""
        sealed = ChaCha20Poly1305(key).encrypt(_NONCE, plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, key: bytes, sealed: bytes) -> bytes:
        """Undoes ``seal``; raises HandshakeRejected if the tag does not verify."""
        try:
            plaintext = ChaCha20Poly1305(key).decrypt(_NONCE, sealed, self.hash)
        except InvalidTag:
            raise HandshakeRejected("a handshake tag does not verify") from None
        self.mix_hash(sealed)
        return plaintext


class Pending:
    """An initiation of ours that waits for its response."""

    __slots__ = ("_ephemeral", "_transcript", "sender")

    def __init__(self, sender: int, transcript: Transcript, ephemeral: X25519PrivateKey) -> None:
        self.sender = sender
        self._transcript = transcript
        self._ephemeral = ephemeral

    def finish(self, response: Response, identity: Identity, preshared_key: bytes) -> TransportKeys:
        """Derives the session. Raises HandshakeRejected and stays as it was if the response is not the true one."""
        transcript = self._transcript.copy()
        transcript.mix_ephemeral(response.ephemeral)
        transcript.mix_key(diffie_hellman(self._ephemeral, response.ephemeral))
        transcript.mix_key(identity.exchange(response.ephemeral))
        transcript.open(transcript.mix_preshared_key(preshared_key), response.encrypted_nothing)
        send, receive = kdf(transcript.chaining_key, b"", 2)
        return TransportKeys(send, receive)


def create_initiation(
    identity: Identity, remote: Remote, *, ephemeral: bytes, timestamp: bytes, sender: int
) -> tuple[Initiation, Pending]:
    """Begins a handshake.

    Args:
        identity: ours.
        remote: whom it is for.
        ephemeral: 32 fresh random bytes.
        timestamp: TAI64N, greater than any sent before.
        sender: the index that the response shall name.
    """
    transcript = Transcript()
    transcript.mix_hash(remote.public)
    key = X25519PrivateKey.from_private_bytes(ephemeral)
    public = key.public_key().public_bytes_raw()
    transcript.mix_ephemeral(public)
    es = transcript.mix_key_and_derive(diffie_hellman(key, remote.public))
    encrypted_static = transcript.seal(es, identity.public)
    ss = transcript.mix_key_and_derive(remote.static_static)
    encrypted_timestamp = transcript.seal(ss, timestamp)
    message = Initiation(sender, public, encrypted_static, encrypted_timestamp)
    return message, Pending(sender, transcript, key)


class OpenedInitiation:
    """An initiation whose sender has named itself; until ``open_timestamp`` verifies, that is only a claim."""

    __slots__ = ("_message", "_transcript", "claimed")

    def __init__(self, message: Initiation, transcript: Transcript, claimed: NodePublic) -> None:
        self._message = message
        self._transcript = transcript
        self.claimed = claimed

    def open_timestamp(self, static_static: bytes) -> bytes:
        """Proves the claim and returns the TAI64N timestamp; raises HandshakeRejected. To be called once."""
        key = self._transcript.mix_key_and_derive(static_static)
        return self._transcript.open(key, self._message.encrypted_timestamp)

    def create_response(
        self, remote: Remote, *, ephemeral: bytes, sender: int
    ) -> tuple[Response, TransportKeys]:
        """Answers an initiation whose timestamp was opened; raises HandshakeRejected on a point of low order.

        Args:
            remote: the peer who initiated.
            ephemeral: 32 fresh random bytes.
            sender: the index that the peer's packets of this session shall name.
        """
        transcript = self._transcript
        key = X25519PrivateKey.from_private_bytes(ephemeral)
        public = key.public_key().public_bytes_raw()
        transcript.mix_ephemeral(public)
        transcript.mix_key(diffie_hellman(key, self._message.ephemeral))
        transcript.mix_key(diffie_hellman(key, remote.public))
        nothing = transcript.seal(transcript.mix_preshared_key(remote.preshared_key), b"")
        receive, send = kdf(transcript.chaining_key, b"", 2)
        return Response(sender, self._message.sender, public, nothing), TransportKeys(send, receive)


def open_static(message: Initiation, identity: Identity) -> OpenedInitiation:
    """Learns who claims to have sent an initiation; raises HandshakeRejected if it is not for us."""
    transcript = Transcript()
    transcript.mix_hash(identity.public)
    transcript.mix_ephemeral(message.ephemeral)
    key = transcript.mix_key_and_derive(identity.exchange(message.ephemeral))
    static = transcript.open(key, message.encrypted_static)
    return OpenedInitiation(message, transcript, NodePublic(static))
