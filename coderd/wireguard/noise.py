"""The handshake, Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, as pure steps. WireGuard paper §5.4.1 to §5.4.5.

```
 initiator                                                 responder
 create_initiation -> (message, pending)    ------->       open_static      who claims to send it?
                                                           open_timestamp   is the claim true, and when?
 finish(pending, response) -> keys          <-------       create_response -> (message, keys)
```
The responder decrypts the initiator's static key first, looks up that peer, and continues with the peer's
keys. The caller commits state only after the last tag has verified. A function that reads a message raises
``HandshakeRejected`` and no other error. MACs are in ``cookie``. No repr shows a private value.
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
"""Nonce of counter 0: every handshake key encrypts one message only."""


class HandshakeRejected(MalformedPacket):
    """Failed verification of a handshake message: a wrong tag, or an all-zero Diffie-Hellman result."""


def hash_of(data: bytes) -> bytes:
    """Computes the BLAKE2s-256 hash, 32 bytes: Hash of WireGuard paper §5.4."""
    return blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """Computes keyed BLAKE2s with digest size 16, not a truncated longer one: Mac of WireGuard paper §5.4."""
    return blake2s(data, digest_size=16, key=key).digest()


def hmac_of(key: bytes, data: bytes) -> bytes:
    """Computes HMAC (RFC 2104) with BLAKE2s-256, not keyed BLAKE2s: Hmac of WireGuard paper §5.4."""
    return hmac.digest(key, data, "blake2s256")


def kdf(key: bytes, data: bytes, n: int) -> list[bytes]:
    """Computes the first ``n`` outputs of HKDF (RFC 5869), 32 bytes each: Kdf of WireGuard paper §5.4.

    The hash is ``hmac_of``, the salt ``key``, the input keying material ``data``; the info is empty.
    """
    secret = hmac_of(key, data)
    outputs = [hmac_of(secret, b"\x01")]
    for number in range(2, n + 1):
        outputs.append(hmac_of(secret, outputs[-1] + bytes([number])))
    return outputs


INITIAL_CHAINING_KEY = hash_of(CONSTRUCTION)
INITIAL_HASH = hash_of(INITIAL_CHAINING_KEY + IDENTIFIER)


def diffie_hellman(private: X25519PrivateKey, public: bytes) -> bytes:
    """Computes X25519 (RFC 7748) of a private and a public key.

    Raises:
        HandshakeRejected: the result is all zero, as from a public key of low order.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise HandshakeRejected("a Diffie-Hellman result is all zero") from None


class Identity:
    """Static key pair of this end, with the private key loaded for X25519."""

    __slots__ = ("_key", "private", "public")

    def __init__(self, private: NodePrivate) -> None:
        self.private = private
        self.public = private.public()
        self._key = X25519PrivateKey.from_private_bytes(private.raw)

    def exchange(self, public: bytes) -> bytes:
        """Computes X25519 of the static private key and a public key.

        Raises:
            HandshakeRejected: the result is all zero, as from a public key of low order.
        """
        return diffie_hellman(self._key, public)


class Remote(NamedTuple):
    """Keys of a peer that are known before any handshake."""

    public: NodePublic
    static_static: bytes
    """X25519 of both static keys, computed once per peer."""
    preshared_key: bytes = NO_PRESHARED_KEY

    def __repr__(self) -> str:
        return f"<Remote {self.public!r}>"


class TransportKeys(NamedTuple):
    """Keys of a session, for sending and for receiving by this end. WireGuard paper §5.4.5."""

    send: bytes
    receive: bytes

    def __repr__(self) -> str:
        return "<TransportKeys redacted>"


class Transcript:
    """State of a handshake in progress: the chaining key C and the hash H of WireGuard paper §5.4."""

    __slots__ = ("chaining_key", "hash")

    def __init__(self, chaining_key: bytes = INITIAL_CHAINING_KEY, hash: bytes = INITIAL_HASH) -> None:
        self.chaining_key = chaining_key
        self.hash = hash

    def copy(self) -> "Transcript":
        """Returns an independent copy, for a step that may fail."""
        return Transcript(self.chaining_key, self.hash)

    def mix_hash(self, data: bytes) -> None:
        """Mixes data into the hash."""
        self.hash = hash_of(self.hash + data)

    def mix_key(self, secret: bytes) -> None:
        """Mixes a secret into the chaining key."""
        (self.chaining_key,) = kdf(self.chaining_key, secret, 1)

    def mix_key_and_derive(self, secret: bytes) -> bytes:
        """Mixes a secret into the chaining key and returns a key for one message."""
        self.chaining_key, key = kdf(self.chaining_key, secret, 2)
        return key

    def mix_preshared_key(self, preshared_key: bytes) -> bytes:
        """Mixes the preshared key into chaining key and hash, and returns a key for one message."""
        self.chaining_key, tau, key = kdf(self.chaining_key, preshared_key, 3)
        self.mix_hash(tau)
        return key

    def mix_ephemeral(self, public: bytes) -> None:
        """Mixes an ephemeral public key into chaining key and hash."""
        self.mix_key(public)
        self.mix_hash(public)

    def seal(self, key: bytes, plaintext: bytes) -> bytes:
        """Encrypts with the hash as associated data, and mixes the ciphertext into the hash."""
        sealed = ChaCha20Poly1305(key).encrypt(_NONCE, plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, key: bytes, sealed: bytes) -> bytes:
        """Decrypts with the hash as associated data, and mixes the ciphertext into the hash.

        Raises:
            HandshakeRejected: the tag does not verify; the hash is unchanged.
        """
        try:
            plaintext = ChaCha20Poly1305(key).decrypt(_NONCE, sealed, self.hash)
        except InvalidTag:
            raise HandshakeRejected("a handshake tag does not verify") from None
        self.mix_hash(sealed)
        return plaintext


class Pending:
    """Initiation of this end that waits for its response."""

    __slots__ = ("_ephemeral", "_transcript", "sender")

    def __init__(self, sender: int, transcript: Transcript, ephemeral: X25519PrivateKey) -> None:
        self.sender = sender
        self._transcript = transcript
        self._ephemeral = ephemeral

    def finish(self, response: Response, identity: Identity, preshared_key: bytes) -> TransportKeys:
        """Derives the session's keys from a response. WireGuard paper §5.4.3, §5.4.5.

        Raises:
            HandshakeRejected: the response does not verify; this initiation can still be finished by another.
        """
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
    """Creates an initiation, and what is needed to finish the handshake. WireGuard paper §5.4.2.

    Args:
        identity: this end's.
        remote: the peer that it is for.
        ephemeral: 32 fresh random bytes.
        timestamp: TAI64N, greater than any sent before.
        sender: the index that the response shall name.

    Raises:
        HandshakeRejected: the peer's key is of low order.
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
    """Initiation with its static key decrypted, which is only a claim until ``open_timestamp`` succeeds."""

    __slots__ = ("_message", "_transcript", "claimed")

    def __init__(self, message: Initiation, transcript: Transcript, claimed: NodePublic) -> None:
        self._message = message
        self._transcript = transcript
        self.claimed = claimed

    def open_timestamp(self, static_static: bytes) -> bytes:
        """Authenticates the claimed sender and returns the TAI64N timestamp, 12 bytes.

        May be called only once.

        Raises:
            HandshakeRejected: the timestamp's tag does not verify.
        """
        key = self._transcript.mix_key_and_derive(static_static)
        return self._transcript.open(key, self._message.encrypted_timestamp)

    def create_response(
        self, remote: Remote, *, ephemeral: bytes, sender: int
    ) -> tuple[Response, TransportKeys]:
        """Creates the response and the session's keys. WireGuard paper §5.4.3, §5.4.5.

        ``open_timestamp`` must have succeeded before.

        Args:
            remote: the peer who initiated.
            ephemeral: 32 fresh random bytes.
            sender: the index that the peer's packets of this session shall name.

        Raises:
            HandshakeRejected: a public key is of low order.
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
    """Decrypts the sender's static key in an initiation. WireGuard paper §5.4.2.

    Raises:
        HandshakeRejected: the initiation is not for this identity, or its ephemeral key is of low order.
    """
    transcript = Transcript()
    transcript.mix_hash(identity.public)
    transcript.mix_ephemeral(message.ephemeral)
    key = transcript.mix_key_and_derive(identity.exchange(message.ephemeral))
    static = transcript.open(key, message.encrypted_static)
    return OpenedInitiation(message, transcript, NodePublic(static))
