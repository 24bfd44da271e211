"""Curve25519 keys by their role, and Tailscale's text forms for them.

A node key is the WireGuard key and the relay address of a node; a disco key is new at every start and lives
in memory only; a server key is a relay's. Public keys are ``bytes`` (they are dictionary keys on the data
path); private keys never show themselves in a repr, and compare in constant time.
"""

import hmac
from typing import ClassVar, Self

from nacl.bindings import crypto_scalarmult_base

from coderd.model import RandomBytes

KEY_SIZE = 32
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
"""``bytes.fromhex`` would pass over white space."""


class PublicKey(bytes):
    """A 32-byte Curve25519 public key. Subclasses name its role and carry its text prefix."""

    prefix: ClassVar[str] = "pubkey"
    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Takes exactly 32 bytes; raises ValueError otherwise."""
        if len(raw) != KEY_SIZE:
            raise ValueError(f"a public key has {KEY_SIZE} bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``<prefix>:<64 hex>``; raises ValueError on anything else."""
        return cls(_from_text(cls.prefix, text))

    @property
    def text(self) -> str:
        """The key as ``<prefix>:<64 lower-case hex>``."""
        return f"{self.prefix}:{self.hex()}"

    @property
    def short(self) -> str:
        """Five base-less characters' worth for logs: the first 8 hex digits in brackets."""
        return f"[{self.hex()[:8]}]"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.hex()[:16]}>"

    __str__ = __repr__


class NodePublic(PublicKey):
    """A node's public key: its WireGuard static key and its address at every relay."""

    prefix = "nodekey"
    __slots__ = ()


class DiscoPublic(PublicKey):
    """A node's disco public key of this start."""

    prefix = "discokey"
    __slots__ = ()


class ServerPublic(PublicKey):
    """A relay's public key."""

    prefix = "derpkey"
    __slots__ = ()


class PrivateKey:
    """A clamped Curve25519 private key that does not print itself."""

    prefix: ClassVar[str] = "privkey"
    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_SIZE:
            raise ValueError(f"a private key has {KEY_SIZE} bytes, not {len(raw)}")
        clamped = bytearray(raw)
        clamped[0] &= 248
        clamped[31] = clamped[31] & 127 | 64
        self._raw = bytes(clamped)

    @classmethod
    def generate(cls, rng: RandomBytes) -> Self:
        """Returns a new key out of 32 random bytes."""
        return cls(rng(KEY_SIZE))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``privkey:<64 hex>``; raises ValueError, without the text, on anything else."""
        return cls(_from_text(cls.prefix, text))

    @property
    def raw(self) -> bytes:
        """The 32 secret bytes, for cryptography only: never log, show or store them but in a 0600 file."""
        return self._raw

    def secret_text(self) -> str:
        """Returns the key as ``privkey:<64 hex>``, for a 0600 file."""
        return f"{self.prefix}:{self._raw.hex()}"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PrivateKey)
            and type(other) is type(self)
            and hmac.compare_digest(self._raw, other._raw)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} redacted>"


class NodePrivate(PrivateKey):
    """A node's private key."""

    __slots__ = ()

    def public(self) -> NodePublic:
        """Returns the matching public key (X25519, RFC 7748)."""
        return NodePublic(crypto_scalarmult_base(self._raw))


class DiscoPrivate(PrivateKey):
    """A disco private key: made at start, kept in memory only."""

    __slots__ = ()

    def public(self) -> DiscoPublic:
        """Returns the matching public key (X25519, RFC 7748)."""
        return DiscoPublic(crypto_scalarmult_base(self._raw))


class ServerPrivate(PrivateKey):
    """A relay's private key."""

    __slots__ = ()

    def public(self) -> ServerPublic:
        """Returns the matching public key (X25519, RFC 7748)."""
        return ServerPublic(crypto_scalarmult_base(self._raw))


def _from_text(prefix: str, text: str) -> bytes:
    head, _, digits = text.partition(":")
    if head != prefix or len(digits) != 2 * KEY_SIZE or not _HEX_DIGITS.issuperset(digits):
        raise ValueError(f"a key of this kind reads {prefix}:<64 hex digits>")
    return bytes.fromhex(digits)
